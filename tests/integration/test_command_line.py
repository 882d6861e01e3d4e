"""`python -m sms_retry`: the effect and the output of each command, for people and for programs, and its errors."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest

from local.aws.container import ROOT
from local.postgres.server import Server
from sms_retry.store import Store
from sms_retry.values import Hold, Message
from tests.integration.examples import (
    MINUTE,
    accepted,
    claim_again,
    claimed,
    count,
    finish,
    number,
    one,
    receipt,
    sid,
    state_of,
    take_in,
    unknown,
)
from tests.shell import command

PYTHON = [sys.executable, "-m", "sms_retry"]


class Output(NamedTuple):
    """The output of a command, and its exit code."""

    out: str
    err: str
    code: int


Run = Callable[..., Output]


@pytest.fixture
def run(database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Runs a command on the test's database; its input is not a terminal."""
    for name, value in {"DATABASE_URL": database_url, "LOGNAME": "anna", "COLUMNS": "120"}.items():
        monkeypatch.setenv(name, value)

    def run_one(*arguments: object) -> Output:
        try:
            code = command([str(argument) for argument in arguments])
        except SystemExit as ended:
            code = int(ended.code or 0)
        return Output(*capsys.readouterr(), code)

    with open(os.devnull) as devnull:
        monkeypatch.setattr(sys, "stdin", devnull)
        yield run_one


def failed(store: Store, n: int = 1, code: int = 30005) -> int:
    claim = claimed(store, n)
    finish(store, claim, "refused", code=code, message=f"The number {number(n)} is off")
    return claim.message_id


def facts_of(output: Output) -> Any:
    assert (output.err, output.code) == ("", 0)
    return json.loads(output.out)


def test_status_shows_the_figures_of_the_queue(store: Store, run: Run) -> None:
    take_in(store, 1)
    failed(store, 2)

    output = run("status")

    assert "The queue is critical." in output.out
    for name, figure in (("waiting", "1"), ("success rate", "0.0%"), ("30005", "1"), ("receipt lag, s", "-")):
        assert [name, figure] in [line.rsplit(maxsplit=1) for line in output.out.splitlines()], name
    assert facts_of(run("status", "--json"))["health_status"] == "critical"


def test_status_lists_parked_messages_and_holds(store: Store, run: Run) -> None:
    unknown(store, 1)
    unknown(store, 2, on_unknown="hold")
    unknown(store, 3, on_unknown="hold", sender="+15005550001")
    store.set_hold(Hold("country", "+44", MINUTE, "error_21408"))
    store.set_hold(Hold("recipient", number(7), MINUTE, f"call {number(7)} first"))

    output, facts = run("status"), facts_of(run("status", "--json"))

    assert output.out.split("Parked")[1].split() == ["message", "sender", "2", "*", "3", "+15005550001"]
    assert re.search(r"country +\+44 .* error_21408", output.out)
    assert facts["held_messages"] == [2, 3]
    assert [hold["key"] for hold in facts["open_holds"]] == ["+44", "+4917*******07"]
    assert number(7) not in output.out


def test_show_prints_the_story_of_a_message(db: psycopg.Connection, store: Store, run: Run) -> None:
    claim = claimed(store, message_key="parcel-17")
    finish(store, claim, "refused", code=30003, message=f"{number()} is off", delays=(MINUTE,))
    run("retry", claim.message_id)
    finish(store, claim_again(db, store, seconds=1), "accepted", sid=sid())

    output = run("show", claim.message_id)

    assert "Message 1 is sent: key parcel-17, to +4917*******01, kind otp, business default" in output.out
    steps = ["taken in", "refused", "retry, by anna (postgres)", "accepted"]
    assert [step for step in steps if step in output.out] == sorted(steps, key=output.out.index)
    assert "1-1" in output.out
    assert "+4917*******01 is off" in output.out
    assert number() not in output.out
    assert [step["what"] for step in facts_of(run("show", 1, "--json"))["story"]] == steps


def test_show_prints_number_and_text_only_with_the_option_and_records_that(
    db: psycopg.Connection, store: Store, run: Run
) -> None:
    message_id = failed(store)
    assert number() not in run("show", message_id, "--json").out
    assert count(db, "sms_actions") == 0

    shown = facts_of(run("show", message_id, "--numbers", "--json"))

    assert (shown["number"], shown["body"]) == (number(), "Your parcel is here.")
    assert one(db, "select actor || ' ' || action from sms_retry.sms_actions") == "anna (postgres) show"
    assert shown["story"][-1]["what"] == "show, by anna (postgres)"


def test_retry_makes_a_message_due(db: psycopg.Connection, store: Store, run: Run) -> None:
    message_id = failed(store)
    assert run("retry", message_id) == ("Message 1 is due now: the next tick sends it.\n", "", 0)
    assert state_of(db, message_id).queue == "pending"


def test_retry_names_the_reason_if_it_changes_nothing(db: psycopg.Connection, store: Store, run: Run) -> None:
    accepted(store, 1)
    claimed(store, 2)
    unknown(store, 3)
    reasons = ["it is sent", "it is being sent", "it may have been sent; --force sends it all the same"]
    for message_id, why in enumerate(reasons, start=1):
        assert run("retry", message_id) == ("", f"sms_retry: message {message_id} was not changed: {why}\n", 1)
    assert run("retry", 3, "--force").code == 0

    finish(store, claimed(store, 4), "refused", code=21211)
    db.execute("update sms_retry.sms_retry_queue set body_erased = true where message_id = 4")
    db.execute("update sms_retry.sms_messages set body = null where id = 4")
    assert run("retry", 4).err == "sms_retry: message 4 was not changed: its text is erased\n"


def test_cancel_says_if_it_was_too_late(store: Store, run: Run) -> None:
    take_in(store, 1)
    unknown(store, 2)
    accepted(store, 3)
    claimed(store, 4)
    failed(store, 5)
    assert run("cancel", 1).out == "Message 1 is cancelled.\n"
    assert run("cancel", 2).out == "Message 2 may have been sent already. It is not sent again.\n"
    assert run("cancel", 3).out == "Message 3 was sent. It is not sent again.\n"
    assert run("cancel", 4).out == "Message 4 is being sent. It is not sent again.\n"
    assert run("cancel", 5) == ("", "sms_retry: message 5 cannot be cancelled: it is failed\n", 1)


def test_requeue_retries_every_message_that_failed_with_a_code(db: psycopg.Connection, store: Store, run: Run) -> None:
    for n in (1, 2, 3):
        failed(store, n)
    failed(store, 4, code=21211)
    db.execute("update sms_retry.sms_messages set expires_at = now() where id = 3")

    output = run("requeue", 30005, "--since", "1h")

    assert output.out == "Due now: 2 messages. Too late to send: 1 message.\n"
    assert [state_of(db, n).queue for n in (1, 2, 3, 4)] == ["pending", "pending", "failed", "failed"]


def test_requeue_leaves_out_a_message_that_was_called_off(db: psycopg.Connection, store: Store, run: Run) -> None:
    claim = claimed(store, batch="spring")
    run("batch", "spring", "--cancel", "--yes")
    finish(store, claim, "refused", code=30005)
    assert state_of(db, claim.message_id).queue == "failed"
    assert facts_of(run("requeue", 30005, "--since", "1h", "--json")) == {"requeued": 0, "failed": 0}


def test_requeue_reaches_failures_without_a_code_and_failures_of_one_reason(
    db: psycopg.Connection, store: Store, run: Run
) -> None:
    for n in (1, 2):
        finish(store, claimed(store, n), "refused", reason="unlisted")
    finish(store, claimed(store, 3), "refused", code=39999, reason="unlisted")
    failed(store, 4)
    store.set_consent("*", number(5), "opted_out")
    take_in(store, 5)

    assert run("requeue", "none", "--since", "1h").out == "Due now: 2 messages.\n"
    assert [state_of(db, n).queue for n in range(1, 6)] == ["pending", "pending", "failed", "failed", "failed"]
    assert run("requeue", "--reason", "unlisted", "--since", "1h").out == "Due now: 1 message.\n"
    assert [state_of(db, n).queue for n in (3, 4, 5)] == ["pending", "failed", "failed"]
    subjects = [
        row[0].split(" since")[0] for row in db.execute("select subject from sms_retry.sms_actions order by id")
    ]
    assert list(dict.fromkeys(subjects)) == ["no code", "reason unlisted"]


def test_a_large_requeue_needs_a_confirmation(db: psycopg.Connection, store: Store, run: Run) -> None:
    for n in range(101):
        failed(store, n)

    output = run("requeue", 30005, "--since", "1h")
    assert (output.out, output.code) == ("", 1)
    assert (
        "Give 101 messages that failed with code 30005 one more try? The input is not a terminal: confirm with --yes"
        in output.err
    )
    assert state_of(db, 1).queue == "failed"

    assert facts_of(run("requeue", 30005, "--since", "1h", "--yes", "--json")) == {"requeued": 101, "failed": 101}


def test_a_hold_is_set_and_cleared(db: psycopg.Connection, store: Store, run: Run) -> None:
    output = run("hold", "country", "+44", "--for", "2h", "--reason", "a strike").out
    assert output.startswith("The hold on the country +44 is set. Nothing is sent there before ")
    hold = db.execute("select scope, key, wait, reason from sms_retry.sms_holds").fetchall()
    assert hold == [("country", "+44", timedelta(hours=2), "a strike")]

    assert run("release", "country", "+44").out == "The hold is cleared.\n"
    assert run("release", "country", "+44") == ("", "sms_retry: this hold is not set\n", 1)


def test_a_hold_on_the_account_needs_no_key(db: psycopg.Connection, store: Store, run: Run) -> None:
    take_in(store)
    assert run("hold", "account", "--for", "1d").out.startswith("The hold on the main account is set.")
    assert store.claim_due(10) == []


def test_opting_out_ends_waiting_messages_and_opting_in_allows_new_ones(
    db: psycopg.Connection, store: Store, run: Run
) -> None:
    take_in(store)
    assert run("opt-out", number()).out == "Recorded. Waiting messages that ended: 1.\n"
    assert state_of(db, take_in(store)).message == "failed"
    run("opt-in", number())
    assert state_of(db, take_in(store)).message == "queued"
    assert one(db, "select array_agg(business_id || ' ' || consent) from sms_retry.sms_recipients") == ["* opted_in"]

    assert facts_of(run("opt-out", number(), "--business", "shop", "--json")) == {
        "consent": "opted_out",
        "ended": 0,
    }


def test_a_number_as_people_write_it_is_that_person(db: psycopg.Connection, store: Store, run: Run) -> None:
    store.queue(Message("+447700900123", "Hello.", kind="otp"))
    written = "+44 (0)7700 900123"
    assert run("hold", "recipient", written, "--for", "1h").code == 0
    assert one(db, "select key from sms_retry.sms_holds") == "+447700900123"
    assert run("release", "recipient", written).code == 0
    assert json.loads(run("opt-out", written, "--json").out)["ended"] == 1
    assert json.loads(run("erase", written, "--yes", "--json").out)["messages"] == 1


def test_erase_says_how_many_messages_are_left(db: psycopg.Connection, store: Store, run: Run) -> None:
    take_in(store)
    claimed(store)
    assert "confirm with --yes" in run("erase", number()).err
    assert count(db, "sms_messages") == 2

    output = run("erase", number(), "--yes")
    assert output.out == "Erased: +4917*******01, 1 message. Being sent now: 1. Erase again in a minute.\n"
    assert count(db, "sms_messages") == 1


def test_one_command_erases_many_batches(db: psycopg.Connection, run: Run) -> None:
    db.execute(f"select sms_retry.queue_sms_retry('{number()}', 'Hello.') from generate_series(1, 2500)")
    assert facts_of(run("erase", number(), "--yes", "--json")) == {"messages": 2500, "left": 0}


@pytest.mark.parametrize("command", ["show", "cancel", "retry"])
def test_a_missing_message_id_is_reported(run: Run, command: str) -> None:
    assert run(command, 99) == ("", "sms_retry: message 99 does not exist\n", 1)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["retry", "all"], "sms_retry retry: argument ID: it must be a whole number from 1 to"),
        (["requeue", "30005"], "sms_retry requeue: the following arguments are required: --since"),
        (["requeue", "0", "--since", "1h"], "sms_retry requeue: argument CODE: it must be a whole number"),
        (["requeue", "--since", "1h"], "sms_retry requeue: one of the arguments CODE --reason is required"),
        (
            ["requeue", "1", "--reason", "unlisted", "--since", "1h"],
            "sms_retry requeue: argument --reason: not allowed",
        ),
        (["requeue", "30005", "--since", "noon"], "sms_retry requeue: argument --since: it must be a duration such as"),
        (["requeue", "30005", "--since", "2026-01-31"], "sms_retry requeue: argument --since: it must be a duration"),
        (["doubt", "--since", "0001-01-01T00:00+05:00"], "sms_retry doubt: argument --since: it must be a duration"),
        (["usage", "--since", "999999d"], "sms_retry usage: argument --since: it is too long ago"),
        (
            ["hold", "account", "--for", "soon"],
            "sms_retry hold: argument --for: it must be a duration such as 30m, 2h or 7d",
        ),
        (
            ["hold", "account", "+44", "--for", "1h"],
            "sms_retry: the key of a hold on the account must be * (the main account) or the name of a subaccount",
        ),
        (
            ["hold", "country", "--for", "1h"],
            "sms_retry: the key of a hold on the country must be a prefix such as +44",
        ),
        (
            ["hold", "business", "--for", "1h"],
            "sms_retry: the key of a hold on the business must be the id of a business",
        ),
        (["release", "batch"], "sms_retry: the key of a hold on the batch must be the name of a batch"),
        (
            ["hold", "sender", "   ", "--for", "1h"],
            "sms_retry: the key of a hold on the sender must be * (TWILIO_SENDER)",
        ),
        (["opt-out", "0176123"], "sms_retry opt-out: argument NUMBER: it must be a number such as +14155550123"),
        (["explode"], "sms_retry: argument COMMAND: invalid choice: 'explode'"),
        ([], "sms_retry: the following arguments are required: COMMAND"),
    ],
)
def test_an_invalid_argument_is_reported_in_one_sentence(run: Run, arguments: list[str], sentence: str) -> None:
    output = run(*arguments)
    assert (output.out, output.code, output.err.count("\n")) == ("", 2, 1)
    assert output.err.startswith(sentence)


@pytest.mark.parametrize(
    ("url", "sentence", "code"),
    [
        ("postgresql://app:a-password@127.0.0.1:1/app", "the database cannot be reached: connection failed:", 1),
        ("a-password", "DATABASE_URL cannot be read:", 2),
        ("postgresql://app:an@a-password@127.0.0.1:1/app", "DATABASE_URL cannot be read:", 2),
    ],
)
def test_an_unreachable_database_is_reported_without_its_password(
    run: Run, monkeypatch: pytest.MonkeyPatch, url: str, sentence: str, code: int
) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    output = run("status")
    assert (output.out, output.code, output.err.count("\n")) == ("", code, 1)
    assert output.err.startswith(f"sms_retry: {sentence}")
    assert "a-password" not in output.err


def test_a_number_can_be_read_from_standard_input(
    db: psycopg.Connection, store: Store, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_in(store)
    for name, result in (("opt-out", "Recorded. Waiting messages that ended: 1."), ("erase", "Erased: ")):
        monkeypatch.setattr(sys, "stdin", io.StringIO(f"{number()}\n"))
        assert run(name, *(["--yes"] if name == "erase" else [])).out.startswith(result)
    monkeypatch.setattr(sys, "stdin", io.StringIO("0176123\n"))
    assert run("opt-out") == ("", "sms_retry: NUMBER must be a phone number such as +14155550123\n", 1)


def test_a_terminal_gets_no_control_character_of_a_text(store: Store, run: Run) -> None:
    message_id = store.queue(Message(number(), "clear\x1b[2J the\x07 screen\u202e"))
    output = run("show", message_id, "--numbers").out
    assert "clear\ufffd[2J the\ufffd screen\ufffd" in output
    assert not {"\x1b", "\x07", "\u202e"} & set(output)


def test_an_error_of_the_database_is_reported(db: psycopg.Connection, store: Store, run: Run) -> None:
    message_id = take_in(store)
    with db.transaction():
        db.execute("select from sms_retry.sms_retry_queue for update")
        output = run("cancel", message_id)
    assert output == ("", "sms_retry: the database reported an error: canceling statement due to lock timeout\n", 1)


def test_an_environment_without_a_database_is_reported(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL")
    output = run("status")
    assert (output.code, "DATABASE_URL or DATABASE_SECRET_ARN is not set" in output.err) == (2, True)


def test_an_unreadable_secret_is_reported(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL")
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    monkeypatch.setenv("DATABASE_SECRET_ARN", "arn:aws:secretsmanager:eu-west-1:123456789012:secret:sms/db-AbCdEf")
    assert run("status").err.startswith("sms_retry: the secret of DATABASE_SECRET_ARN cannot be read")


def test_a_database_without_this_releases_schema_is_reported(
    run: Run, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", server.url)
    assert (
        run("status").err == "sms_retry: the database does not have the schema of this release: invoke migrate first\n"
    )


@pytest.mark.parametrize(("answer", "left"), [("y", 0), ("n", 1), ("", 1)])
def test_erase_asks_for_confirmation_at_a_terminal(
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
    assert "Erase +4917*******01 and every message to this person? This cannot be undone. [y/N]" in seen
    assert count(db, "sms_messages") == left


def test_no_lambda_imports_the_command_line() -> None:
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
    """The output at a terminal until its last writer has closed it."""
    seen = b""
    # At the end Linux raises an error; other systems return no bytes.
    with suppress(OSError):
        while read := os.read(terminal, 1024):
            seen += read
    os.close(terminal)
    return seen.decode()


def test_a_sender_is_recorded_and_listed(run: Run, db: psycopg.Connection) -> None:
    run("sender", "+15005550001", "--business", "acme", "--pace", "0.5", "--account", "shop")
    assert "+15005550001  acme      shop     0.5" in run("senders").out
    [sender] = json.loads(run("senders", "--json").out)["senders"]
    assert (sender["business_id"], sender["segments_per_second"], sender["account"]) == ("acme", 0.5, "shop")
    assert one(db, "select subject from sms_retry.sms_actions") == "sender +15005550001"


def test_a_sender_that_cannot_be_recorded_is_refused_in_a_sentence(run: Run) -> None:
    run("sender", "+15005550001", "--business", "acme")
    refused = run("sender", "+15005550002", "--business", "acme")
    assert refused.code == 1
    assert "business_id has another sender already" in refused.err


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        (["country", "44"], "the key of an account must be"),
        (["kind", "marketting"], "the key of an account must be"),
        (["account", "*", "--per", "30s"], "per must be at least a minute"),
    ],
)
def test_a_budget_that_would_limit_nothing_is_refused(run: Run, given: list[str], fault: str) -> None:
    output = run("budget", *given, "--segments", "5")
    assert (output.out, output.code) == ("", 1)
    assert output.err.startswith(f"sms_retry: nothing was stored: {fault}")
    assert run("budgets").out == "No budget is set.\n"


def test_a_budget_is_removed_by_its_interval(run: Run) -> None:
    assert run("budget", "country", "+44", "--segments", 5, "--per", "30d").out == "The budget is set.\n"
    assert run("budgets").out.startswith("country +44: 0 of 5 segments per 30d, turns at ")
    assert facts_of(run("budgets", "--json"))["budgets"][0]["per"] == 30 * 86_400
    refused = "sms_retry: this budget is not set; `budgets` lists each with its interval\n"
    assert run("budget", "country", "+44", "--remove") == ("", refused, 1)
    assert run("budget", "country", "+44", "--remove", "--per", "30d").out == "The budget is removed.\n"
    assert run("budgets").out == "No budget is set.\n"


def test_every_action_is_recorded_with_the_role_of_the_database(db: psycopg.Connection, store: Store, run: Run) -> None:
    take_in(store, batch="spring")
    role = one(db, "select session_user::text")
    for arguments in (
        ["sender", "+15005550001"],
        ["doubt", "--since", "1h", "--yes"],
        ["batch", "spring", "--hold", "1h"],
        ["batch", "spring", "--release"],
        ["batch", "spring", "--cancel", "--yes"],
        ["budget", "kind", "otp", "--segments", "5"],
    ):
        assert run(*arguments).code == 0
    assert one(db, "select array_agg(distinct actor) from sms_retry.sms_actions") == [f"anna ({role})"]


def test_a_batch_is_shown_held_and_cancelled(db: psycopg.Connection, store: Store, run: Run) -> None:
    for n in (1, 2):
        take_in(store, n, batch="spring")
    accepted(store, 3, batch="spring")
    assert facts_of(run("batch", "spring", "--json")) == {"messages": {"queued": 2, "sent": 1}}
    assert "queued" in run("batch", "spring").out
    assert run("batch", "spring", "--hold", "2h").out.startswith("The hold on the batch spring is set.")
    assert db.execute("select scope, key from sms_retry.sms_holds").fetchall() == [("batch", "spring")]
    assert run("batch", "spring", "--release").out == "The hold is cleared.\n"
    assert count(db, "sms_holds") == 0
    assert run("batch", "spring", "--release") == ("", "sms_retry: this hold is not set\n", 1)
    assert run("batch", "spring", "--cancel").code == 1
    cancelled = facts_of(run("batch", "spring", "--cancel", "--yes", "--json"))
    assert cancelled == {"cancelled": 2, "messages": {"cancelled": 2, "sent": 1}}
    assert one(db, "select subject from sms_retry.sms_actions order by id desc limit 1") == "batch spring"


def test_a_batch_without_a_message_is_reported(run: Run) -> None:
    assert run("batch", "spring", "--cancel", "--yes").err.endswith("no message is in this batch\n")


def test_usage_prints_segments_rates_and_an_estimate_that_is_called_one(
    store: Store, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accepted(store, 1)
    receipt(store, sid(1), "delivered")
    store.queue(Message("+18765550123", "Hello.", kind="emergency"))
    finish(store, store.claim_due(1)[0], "accepted", sid=sid(2))
    prices = tmp_path / "prices.csv"
    prices.write_text("prefix,price\n+49,0.1\n+4,9\n")

    output = run("usage", "--by", "country", "--prices", prices)

    assert re.search(r"[+]49 +1 +1 +0 +1 +0 +100.0% +[0-9]+ s +[0-9]+ s +0.10", output.out)
    assert "Estimated in total: 0.10." in output.out
    assert "No price: +1876." in output.out
    facts = facts_of(run("usage", "--by", "country", "--prices", prices, "--json"))
    assert [(row["name"], row["segments"], row["estimated_price"]) for row in facts["usage"]] == [
        ("+1876", 1, None),
        ("+49", 1, 0.1),
    ]
    assert re.search(r"[+]1876 .* - *\n", output.out)
    assert "estimate" not in run("usage").out
    monkeypatch.setenv("COLUMNS", "80")
    assert f"{datetime.now(UTC):%Y-%m-%d}  " in run("usage").out


def test_a_price_table_without_a_price_is_reported(run: Run, tmp_path: Path) -> None:
    prices = tmp_path / "prices.csv"
    prices.write_text("prefix,price\n")
    output = run("usage", "--prices", prices)
    assert (output.out, output.code) == ("", 1)
    assert "has no line with a prefix and a price, such as +44,0.0463" in output.err


@pytest.mark.parametrize("line", ["44,0.1", "+44", "+44,free", "+44,-1", "+44,NaN"])
def test_a_price_that_cannot_be_read_is_reported_with_its_line(run: Run, tmp_path: Path, line: str) -> None:
    prices = tmp_path / "prices.csv"
    prices.write_text(f"+49,0.1\n{line}\n")
    output = run("usage", "--prices", prices)
    assert output.code == 1
    assert "line 2 of the price table must be a prefix and a price, such as +44,0.0463" in output.err


def test_export_prints_all_that_is_known_of_a_person_and_records_the_request(
    db: psycopg.Connection, store: Store, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    accepted(store, 1, message_key="order-1")
    receipt(store, sid(1), "delivered")
    take_in(store, 2)

    for output in (run("export", number(1)), run("export", number(1), "--json")):
        person = facts_of(output)
        assert person["number"] == number(1)
        [message] = person["messages"]
        assert (message["message_key"], message["body"]) == ("order-1", "Your parcel is here.")
        assert [attempt["message_sid"] for attempt in message["attempts"]] == [sid(1)]
        assert [event["status"] for event in message["receipts"]] == ["delivered"]
        assert number(2) not in output.out
    assert run("export", "12").code == 2
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{number(1)}\n"))
    assert facts_of(run("export"))["number"] == number(1)
    actions = db.execute("select action, subject from sms_retry.sms_actions").fetchall()
    assert actions == [("export", "+4917*******01")] * 3
