"""Settings, upkeep on schedule, the imports of the webhook, and the demo."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid

import psycopg
import pytest

from local.aws.container import ROOT
from local.aws.triggers import load
from local.postgres.server import Server
from local.stack import ENVIRONMENT, Stack
from local.waiting import let_time_pass
from sms_retry.migrate import migrate
from tests.e2e.messages import BODY, message, queue, statuses

DATABASE, TWILIO = {"DATABASE_URL"}, {"TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN"}
IGNORED = "DATABASE_URL is ignored: the local stack brings a database"
SENDING = DATABASE | TWILIO | {"TWILIO_SENDER", "PUBLIC_WEBHOOK_URL"}


@pytest.fixture
def real(server: Server) -> str:
    """A database of the service, with a message that is due."""
    url = server.create_database(f"sms_retry_real_{uuid.uuid4().hex[:8]}")
    migrate(url)
    with psycopg.connect(url) as db:
        db.execute("select sms_retry.queue_sms_retry('+4917600000001', 'It is due.', kind => 'otp')")
    return url


@pytest.mark.parametrize(
    ("function", "event", "needed"),
    [
        ("process_retries", {}, SENDING),
        ("send_sms", message(), SENDING),
        ("retry_sms", {"message_id": 1}, SENDING),
        ("twilio_webhook", {}, DATABASE | TWILIO | {"PUBLIC_WEBHOOK_URL"}),
        ("reconcile", {}, DATABASE | TWILIO),
        ("health_check", {}, DATABASE),
        ("cleanup_retries", {}, DATABASE),
        ("migrate", {}, DATABASE),
        ("console", {}, {"CONSOLE_ISSUER", "CONSOLE_CLIENT_ID", "CONSOLE_SESSION_KEY"}),
    ],
)
def test_every_missing_variable_is_named_at_once_and_only_those(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, function: str, event: object, needed: set[str]
) -> None:
    for name in ENVIRONMENT:
        monkeypatch.delenv(name)
    with pytest.raises(Exception, match="the environment is not complete") as raised:
        load(function)(event)
    alternatives = {"DATABASE_SECRET_ARN", "TWILIO_SECRET_ARN", "CONSOLE_SESSION_SECRET_ARN"}
    assert {name for name in ENVIRONMENT if name in str(raised.value)} - alternatives == needed


def test_the_health_check_returns_the_figures_of_the_queue(stack: Stack) -> None:
    assert stack.invoke("health_check")["health_status"] == "healthy"
    queue(stack)

    health = stack.invoke("health_check")

    assert (health["pending"], health["due"], health["unknown"]) == (1, 1, 0)


def test_queue_rows_that_ended_a_week_ago_are_removed_and_their_messages_kept(stack: Stack) -> None:
    stack.invoke("send_sms", message())
    stack.twilio.deliver_callbacks()
    assert stack.invoke("cleanup_retries") == {"removed": 0, "erased": 0, "messages_removed": 0}
    let_time_pass(stack.db, days=8)
    assert stack.invoke("cleanup_retries") == {"removed": 1, "erased": 0, "messages_removed": 0}
    assert stack.db.execute("select body from sms_retry.sms_messages").fetchall() == [(BODY,)]


def test_texts_are_erased_after_the_days_in_the_environment(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ERASE_BODY_AFTER_DAYS", "2")
    for n in range(2):
        stack.invoke("send_sms", message(n))
    queue(stack, 2)
    let_time_pass(stack.db, days=3)

    assert stack.invoke("cleanup_retries") == {"removed": 0, "erased": 2, "messages_removed": 0}
    let_time_pass(stack.db, days=5)
    assert stack.invoke("cleanup_retries") == {"removed": 2, "erased": 0, "messages_removed": 0}

    bodies = stack.db.execute("select body from sms_retry.sms_messages order by id").fetchall()
    assert bodies == [(None,), (None,), (BODY,)]


def test_the_clean_up_stops_in_time_and_continues_at_its_next_run(stack: Stack) -> None:
    stack.invoke("send_sms", message())
    let_time_pass(stack.db, days=8)
    cleanup = load("cleanup_retries")
    assert cleanup({}, timeout_seconds=9) == {"removed": 0, "erased": 0, "messages_removed": 0}
    assert cleanup({}) == {"removed": 1, "erased": 0, "messages_removed": 0}


def test_a_second_migration_changes_nothing(stack: Stack) -> None:
    returned = stack.invoke("migrate")
    assert (returned["migrations"], returned["dropped"]) == (0, 0)
    assert returned["functions"] > 0


def test_each_function_runs_as_often_as_its_schedule_in_the_template(stack: Stack) -> None:
    ran = [function for function, _ in stack.let_minutes_pass(15)]
    assert (ran.count("process_retries"), ran.count("reconcile"), ran.count("health_check")) == (15, 3, 1)


def test_the_webhook_imports_neither_twilios_client_nor_boto3(stack: Stack) -> None:
    program = """
import json, sys, types
import app
context = types.SimpleNamespace(function_name="twilio_webhook", aws_request_id="1")
answer = app.lambda_handler(json.load(sys.stdin), context)
print(json.dumps([answer["statusCode"], sorted({"twilio.rest", "boto3"} & set(sys.modules))]), file=sys.stderr)
"""
    folders = [ROOT / "functions" / "twilio_webhook", ROOT / "layers" / "sms_retry" / "python"]
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=(ROOT / "tests" / "events" / "twilio_status.json").read_text(),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders))},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert json.loads(done.stderr) == [204, []]
    assert statuses(stack) == {}


def test_the_demo_ends_with_all_guarantees_held(server: Server) -> None:
    demo = [sys.executable, "-m", "local", "demo"]
    environ = {**os.environ, "LOCAL_DATABASE_URL": server.url}
    environ.pop("DATABASE_URL", None)
    done = subprocess.run(demo, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=300)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "Nothing is sent twice       kept" in done.stdout
    assert done.stderr == ""


def test_a_message_of_the_local_stack_leaves_the_database_of_the_service_as_it_is(stack: Stack, real: str) -> None:
    environ = {**os.environ, "DATABASE_URL": real, "LOCAL_DATABASE_URL": stack.database_url}
    send = [sys.executable, "-m", "local", "send", "+4917612345678", "Your table is ready."]
    with psycopg.connect(real, autocommit=True) as db:
        before = rows(db)
        done = subprocess.run(send, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=300)

        assert rows(db) == before
    assert IGNORED in done.stderr
    assert sum(statuses(stack).values()) == 1


def test_a_wrong_field_of_a_local_message_is_one_sentence(stack: Stack) -> None:
    environ = {**os.environ, "LOCAL_DATABASE_URL": stack.database_url}
    send = [sys.executable, "-m", "local", "send", "4917612345678", "Your table is ready."]
    done = subprocess.run(send, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("nothing was stored: to must be a phone number in E.164")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("url", ["postgresql://postgres:secret@127.0.0.1:1/app", "secret"])
@pytest.mark.parametrize("command", ["demo", "dev", "doctor"])
def test_a_wrong_local_database_url_is_named(command: str, url: str) -> None:
    environ = {**os.environ, "LOCAL_DATABASE_URL": url}
    begin = [sys.executable, "-m", "local", command]
    done = subprocess.run(begin, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert "LOCAL_DATABASE_URL cannot be used: " in done.stderr
    assert "Traceback" not in done.stderr
    assert "secret" not in done.stderr


def test_the_local_stack_leaves_the_database_of_the_service_as_it_is(server: Server, real: str) -> None:
    local = server.create_database(f"sms_retry_local_{uuid.uuid4().hex[:8]}")
    environ = {**os.environ, "DATABASE_URL": real, "LOCAL_DATABASE_URL": local}
    command, pipe = [sys.executable, "-m", "local", "dev"], subprocess.PIPE
    with (
        psycopg.connect(real, autocommit=True) as db,
        subprocess.Popen(command, cwd=ROOT, env=environ, stdout=pipe, stderr=pipe, text=True) as dev,
    ):
        assert dev.stdout is not None
        assert dev.stderr is not None
        before = rows(db)
        shown = [line.split()[1] for line in dev.stdout if stops_at_its_database(dev, line)]
        errors = dev.stderr.read()
        if "Is another `make dev` running?" in errors:
            pytest.skip("the ports of `make dev` are taken")

        assert shown == [local]
        assert rows(db) == before
    assert IGNORED in errors


def stops_at_its_database(dev: subprocess.Popen[str], line: str) -> bool:
    """Whether the line names the database; then `dev` is asked to end."""
    if found := line.startswith("  Postgres "):
        dev.terminate()
    return found


def rows(db: psycopg.Connection) -> list[object]:
    """Every row of the database's tables, and its migrations with their times."""
    tables = db.execute("select tablename from pg_tables where schemaname = 'sms_retry' order by 1").fetchall()
    return [db.execute(f"select * from sms_retry.{table}").fetchall() for (table,) in tables]
