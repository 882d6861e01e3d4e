"""`python -m sms_retry`: what each command does and says, to people and to programs, and how it says no."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any, NamedTuple

import psycopg
import pytest

from local.aws.container import ROOT
from local.postgres.server import Server
from sms_retry import runtime
from sms_retry.__main__ import main
from sms_retry.store import Store
from sms_retry.values import Hold
from tests.integration.examples import (
    MINUTE,
    accepted,
    claimed,
    count,
    finish,
    number,
    one,
    send_again,
    sid,
    standing,
    take_in,
    unknown,
)

PYTHON = [sys.executable, "-m", "sms_retry"]


class Said(NamedTuple):
    """What a command printed, and its exit code."""

    out: str
    err: str
    code: int


Run = Callable[..., Said]


@pytest.fixture
def run(database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Runs a command on the test's database, where nobody can answer a question."""
    for name, value in {"DATABASE_URL": database_url, "LOGNAME": "anna", "COLUMNS": "120"}.items():
        monkeypatch.setenv(name, value)

    def run_one(*arguments: object) -> Said:
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as ended:
            code = int(ended.code or 0)
        finally:
            if runtime.store.cache_info().currsize:
                runtime.store(timedelta(0)).close()
            runtime.store.cache_clear()
        return Said(*capsys.readouterr(), code)

    with open(os.devnull) as nobody:
        monkeypatch.setattr(sys, "stdin", nobody)
        yield run_one


def failed(store: Store, n: int = 1, code: int = 30005) -> int:
    claim = claimed(store, n)
    finish(store, claim, "refused", code=code, message=f"The number {number(n)} is off")
    return claim.message_id


def of_a_program(said: Said) -> Any:
    assert (said.err, said.code) == ("", 0)
    return json.loads(said.out)


def test_status_says_how_the_queue_is(store: Store, run: Run) -> None:
    take_in(store, 1)
    failed(store, 2)

    said = run("status")

    assert "The queue is critical." in said.out
    for name, figure in (("waiting", "1"), ("success rate", "0.0%"), ("30005", "1"), ("callback lag, s", "-")):
        assert [name, figure] in [line.rsplit(maxsplit=1) for line in said.out.splitlines()], name
    assert of_a_program(run("status", "--json"))["health_status"] == "critical"


def test_status_lists_what_waits_for_a_person_and_what_is_held(store: Store, run: Run) -> None:
    unknown(store, 1)
    unknown(store, 2, on_unknown="hold")
    store.set_hold(Hold("country", "+44", MINUTE, "error_21408"))
    store.set_hold(Hold("recipient", number(7), MINUTE, "by hand"))

    said, facts = run("status"), of_a_program(run("status", "--json"))

    assert said.out.split("For a person")[1].split() == ["message", "2"]
    assert re.search(r"country +\+44 .* error_21408", said.out)
    assert facts["held_messages"] == [2]
    assert [hold["key"] for hold in facts["open_holds"]] == ["+44", "+4917*******07"]
    assert number(7) not in said.out


def test_show_tells_a_messages_story(db: psycopg.Connection, store: Store, run: Run) -> None:
    claim = claimed(store, message_key="parcel-17")
    finish(store, claim, "refused", code=30003, message=f"{number()} is off", delays=(MINUTE,))
    run("retry", claim.message_id)
    finish(store, send_again(db, store, seconds=1), "accepted", sid=sid())

    said = run("show", claim.message_id)

    assert "Message 1 is sent: key parcel-17, to +4917*******01, kind otp, business default" in said.out
    told = ["taken in", "refused", "retry, by anna", "accepted"]
    assert [line for line in told if line in said.out] == sorted(told, key=said.out.index)
    assert "1-1" in said.out
    assert "+4917*******01 is off" in said.out
    assert number() not in said.out
    assert [event["what"] for event in of_a_program(run("show", 1, "--json"))["story"]] == told


def test_whose_message_it_is_is_shown_only_when_asked_for_and_that_is_noted(
    db: psycopg.Connection, store: Store, run: Run
) -> None:
    message_id = failed(store)
    assert number() not in run("show", message_id, "--json").out
    assert count(db, "sms_actions") == 0

    shown = of_a_program(run("show", message_id, "--numbers", "--json"))

    assert (shown["number"], shown["body"]) == (number(), "Your parcel is here.")
    assert one(db, "select actor || ' ' || action from sms_retry.sms_actions") == "anna show"


def test_retry_makes_a_message_due(db: psycopg.Connection, store: Store, run: Run) -> None:
    message_id = failed(store)
    assert run("retry", message_id) == ("Message 1 is due now: the next tick sends it.\n", "", 0)
    assert standing(db, message_id).queue == "pending"


def test_retry_says_why_it_leaves_a_message_as_it_is(db: psycopg.Connection, store: Store, run: Run) -> None:
    accepted(store, 1)
    claimed(store, 2)
    unknown(store, 3)
    reasons = ["it is sent", "it is being sent", "it may have been sent; --force sends it all the same"]
    for message_id, why in enumerate(reasons, start=1):
        assert run("retry", message_id) == ("", f"sms_retry: message {message_id} stays as it is: {why}\n", 1)
    assert run("retry", 3, "--force").code == 0

    finish(store, claimed(store, 4), "refused", code=21211)
    db.execute("update sms_retry.sms_retry_queue set body_erased = true where message_id = 4")
    db.execute("update sms_retry.sms_messages set body = null where id = 4")
    assert run("retry", 4).err == "sms_retry: message 4 stays as it is: its text is erased\n"


def test_cancel_says_whether_it_was_in_time(store: Store, run: Run) -> None:
    take_in(store, 1)
    unknown(store, 2)
    accepted(store, 3)
    assert run("cancel", 1).out == "Message 1 is called off.\n"
    assert run("cancel", 2).out == "Message 2 may have been sent; it is not sent again.\n"
    assert run("cancel", 3) == ("", "sms_retry: message 3 cannot be called off any more: it is sent\n", 1)


def test_requeue_tries_all_that_failed_with_a_code_again(db: psycopg.Connection, store: Store, run: Run) -> None:
    for n in (1, 2, 3):
        failed(store, n)
    failed(store, 4, code=21211)
    db.execute("update sms_retry.sms_messages set expires_at = now() where id = 3")

    said = run("requeue", 30005, "--since", "1h")

    assert said.out == "Due now: 2 messages; 1 came too late and stay as they ended.\n"
    assert [standing(db, n).queue for n in (1, 2, 3, 4)] == ["pending", "pending", "failed", "failed"]


def test_what_is_large_is_not_done_where_nobody_can_answer(db: psycopg.Connection, store: Store, run: Run) -> None:
    for n in range(101):
        failed(store, n)

    said = run("requeue", 30005, "--since", "1h")
    assert (said.out, said.code) == ("", 1)
    assert "Give 101 messages that failed with 30005 one more try? Nobody is there to answer: say --yes" in said.err
    assert standing(db, 1).queue == "failed"

    assert of_a_program(run("requeue", 30005, "--since", "1h", "--yes", "--json")) == {"requeued": 101, "failed": 101}


def test_a_hold_is_opened_and_released(db: psycopg.Connection, store: Store, run: Run) -> None:
    assert "Nothing goes there before" in run("hold", "country", "+44", "--for", "2h", "--reason", "a strike").out
    hold = db.execute("select scope, key, wait, reason from sms_retry.sms_holds").fetchall()
    assert hold == [("country", "+44", timedelta(hours=2), "a strike")]

    assert run("release", "country", "+44").out == "The hold is closed.\n"
    assert run("release", "country", "+44") == ("", "sms_retry: there is no such hold\n", 1)


def test_a_hold_on_the_account_needs_no_key(db: psycopg.Connection, store: Store, run: Run) -> None:
    take_in(store)
    assert run("hold", "account", "--for", "1d").code == 0
    assert store.claim_due(10) == []


def test_opting_out_ends_what_waits_and_opting_in_lets_the_next_through(
    db: psycopg.Connection, store: Store, run: Run
) -> None:
    take_in(store)
    assert run("opt-out", number()).out == "Written down. Ended, of what waited for them: 1 message.\n"
    assert standing(db, take_in(store)).message == "failed"
    run("opt-in", number())
    assert standing(db, take_in(store)).message == "queued"
    assert one(db, "select array_agg(business_id || ' ' || consent) from sms_retry.sms_recipients") == ["* opted_in"]

    assert of_a_program(run("opt-out", number(), "--business", "shop", "--json")) == {
        "consent": "opted_out",
        "ended": 0,
    }


def test_a_person_is_erased_and_what_is_left_is_said(db: psycopg.Connection, store: Store, run: Run) -> None:
    for _ in range(2):
        accepted_or_waiting = take_in(store)
    store.claim_now(accepted_or_waiting)
    assert "Nobody is there to answer" in run("erase", number()).err
    assert count(db, "sms_messages") == 2

    said = run("erase", number(), "--yes")
    assert said.out == "Erased: +4917*******01, 1 message. Being sent right now: 1; erase once more in a minute.\n"
    assert count(db, "sms_messages") == 1


def test_more_than_one_batch_is_erased_in_one_go(db: psycopg.Connection, run: Run) -> None:
    db.execute(f"select sms_retry.queue_sms_retry('{number()}', 'Hello.') from generate_series(1, 2500)")
    assert of_a_program(run("erase", number(), "--yes", "--json")) == {"messages": 2500, "left": 0}


@pytest.mark.parametrize("command", ["show", "cancel", "retry"])
def test_a_message_that_there_is_not_is_named(run: Run, command: str) -> None:
    assert run(command, 99) == ("", "sms_retry: there is no message 99\n", 1)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["retry", "all"], "sms_retry retry: argument ID: it must be a whole number"),
        (["requeue", "30005"], "sms_retry requeue: the following arguments are required: --since"),
        (["requeue", "0", "--since", "1h"], "sms_retry requeue: argument CODE: it must be a whole number"),
        (["requeue", "30005", "--since", "noon"], "sms_retry requeue: argument --since: it must be a time ago such as"),
        (["requeue", "30005", "--since", "2026-01-31"], "sms_retry requeue: argument --since: it must be a time ago"),
        (
            ["hold", "account", "--for", "soon"],
            "sms_retry hold: argument --for: it must be a time such as 30m, 2h or 7d",
        ),
        (["hold", "account", "+44", "--for", "1h"], "sms_retry: the key of a hold on the account must be *"),
        (
            ["hold", "country", "--for", "1h"],
            "sms_retry: the key of a hold on the country must be a prefix such as +44",
        ),
        (["opt-out", "0176123"], "sms_retry opt-out: argument NUMBER: it must be a number such as +14155550123"),
        (["erase"], "sms_retry erase: the following arguments are required: NUMBER"),
        (["explode"], "sms_retry: argument COMMAND: invalid choice: 'explode'"),
        ([], "sms_retry: the following arguments are required: COMMAND"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(run: Run, arguments: list[str], sentence: str) -> None:
    said = run(*arguments)
    assert (said.out, said.code, said.err.count("\n")) == ("", 2, 1)
    assert said.err.startswith(sentence)


@pytest.mark.parametrize(
    ("url", "sentence", "code"),
    [
        ("postgresql://app:a-password@127.0.0.1:1/app", "the database cannot be reached: connection failed:", 1),
        ("a-password", "DATABASE_URL cannot be read:", 2),
    ],
)
def test_a_database_that_cannot_be_reached_is_said_without_its_password(
    run: Run, monkeypatch: pytest.MonkeyPatch, url: str, sentence: str, code: int
) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    said = run("status")
    assert (said.out, said.code, said.err.count("\n")) == ("", code, 1)
    assert said.err.startswith(f"sms_retry: {sentence}")
    assert "a-password" not in said.err


def test_a_database_that_refuses_says_why(db: psycopg.Connection, store: Store, run: Run) -> None:
    message_id = take_in(store)
    with db.transaction():
        db.execute("select from sms_retry.sms_retry_queue for update")
        said = run("cancel", message_id)
    assert said == ("", "sms_retry: the database refused: canceling statement due to lock timeout\n", 1)


def test_an_environment_that_names_no_database_is_said(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL")
    said = run("status")
    assert (said.code, "DATABASE_URL or DATABASE_SECRET_ARN is not set" in said.err) == (2, True)


def test_a_secret_that_cannot_be_read_is_said(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL")
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    monkeypatch.setenv("DATABASE_SECRET_ARN", "arn:aws:secretsmanager:eu-west-1:123456789012:secret:sms/db-AbCdEf")
    assert run("status").err.startswith("sms_retry: the secret of DATABASE_SECRET_ARN cannot be read")


def test_a_database_without_this_release_is_said(run: Run, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", server.url)
    assert run("status").err == "sms_retry: the database is not at this release: invoke migrate first\n"


@pytest.mark.parametrize(("answer", "left"), [("y", 0), ("n", 1), ("", 1)])
def test_at_a_terminal_it_asks_before_it_erases(
    db: psycopg.Connection, store: Store, database_url: str, answer: str, left: int
) -> None:
    take_in(store)
    ours, theirs = pty.openpty()
    erasing = subprocess.Popen(
        [*PYTHON, "erase", number()],
        env={**os.environ, "DATABASE_URL": database_url},
        cwd=ROOT,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    os.write(ours, f"{answer}\n".encode())
    seen = _all_of(ours)

    assert erasing.wait(timeout=30) == left
    assert "Erase +4917*******01 and everything that was sent to them? Nothing brings it back. [y/N]" in seen
    assert count(db, "sms_messages") == left


def test_nothing_of_it_is_in_a_lambda() -> None:
    program = """
import sys
from pathlib import Path
for app in Path("functions").glob("*/app.py"):
    sys.path.insert(0, str(app.parent))
    import app
    del sys.modules["app"], sys.path[0]
print(sorted({"rich", "sms_retry.commands", "sms_retry.terminal"} & set(sys.modules)))
"""
    environ = {**os.environ, "PYTHONPATH": "layers/sms_retry/python"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")


def _all_of(terminal: int) -> str:
    """Everything that is printed at a terminal until nobody prints there any more."""
    seen = b""
    # Linux says that it cannot be read where others say that it has ended.
    with suppress(OSError):
        while read := os.read(terminal, 1024):
            seen += read
    os.close(terminal)
    return seen.decode()
