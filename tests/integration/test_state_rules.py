"""The rules of the state machine, one table each; and the reasons that forbid every further send of a message."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from local.postgres.server import Server
from local.waiting import let_time_pass
from sms_retry import operate
from sms_retry.console import actions
from sms_retry.migrate import migrate
from sms_retry.store import Store
from sms_retry.values import Claim
from tests import released
from tests.integration.examples import (
    MINUTE,
    claim_again,
    claimed,
    finish,
    number,
    one,
    receipt,
    sid,
    state_of,
    unknown,
)

# The functions that Postgres must copy into the statements that call them.
INLINED = {
    "sms_report_is_believed",
    "sms_next_try",
    "sms_status_after",
    "sms_resend_forbidden",
}


def rule(db: psycopg.Connection, function: str, *given: Any) -> Any:
    """The value of one of the rules."""
    places = sql.SQL(", ").join(map(sql.Literal, given))
    return one(db, sql.SQL("select sms_retry.{}({})").format(sql.Identifier(function), places))


@pytest.mark.parametrize(
    # `accepted` is whether the attempt of the report has an acceptance already.
    ("outcome", "attempt", "latest", "queue", "message", "accepted", "believed"),
    [
        # The worker of the latest claim reports.
        ("accepted", 2, 2, "processing", "queued", False, True),
        ("refused", 2, 2, "processing", "queued", False, True),
        ("unknown", 2, 2, "processing", "queued", False, True),
        ("deferred", 2, 2, "processing", "queued", False, True),
        ("undelivered", 2, 2, "processing", "queued", False, True),
        ("accepted", 2, 2, "processing", "delivered", False, True),
        # The latest claim is unknown: every answer settles it, and another "unknown" is no answer.
        ("accepted", 2, 2, "unknown", "unknown", False, True),
        ("refused", 2, 2, "unknown", "unknown", False, True),
        ("failed", 2, 2, "unknown", "unknown", False, True),
        ("unknown", 2, 2, "unknown", "unknown", False, False),
        # A delivery counts once, in every later state of the row, and never before its claim.
        ("delivered", 2, 2, "completed", "sent", True, True),
        ("delivered", 1, 2, "processing", "queued", True, True),
        ("delivered", 1, 2, "failed", "failed", True, True),
        ("delivered", 2, 2, "cancelled", "cancelled", False, True),
        ("delivered", 2, 2, "completed", "delivered", True, False),
        ("delivered", 3, 2, "processing", "queued", False, False),
        # Every other report on an earlier attempt is stale.
        ("accepted", 1, 2, "processing", "queued", False, False),
        ("refused", 1, 2, "unknown", "unknown", False, False),
        ("undelivered", 1, 2, "completed", "sent", True, False),
        # Twilio reports the failure of a message that it accepted.
        ("undelivered", 2, 2, "completed", "sent", True, True),
        ("failed", 2, 2, "completed", "sent", True, True),
        ("canceled", 2, 2, "completed", "sent", True, True),
        ("undelivered", 2, 2, "completed", "delivered", True, False),
        ("refused", 2, 2, "completed", "sent", True, False),
        # The message waits for its next send: only the first news of an acceptance counts.
        ("accepted", 2, 2, "pending", "queued", False, True),
        ("undelivered", 2, 2, "pending", "queued", False, True),
        ("accepted", 2, 2, "pending", "queued", True, False),
        ("undelivered", 2, 2, "pending", "queued", True, False),
        ("refused", 2, 2, "pending", "queued", False, False),
        # The message has ended.
        ("accepted", 2, 2, "failed", "failed", False, False),
        ("undelivered", 2, 2, "failed", "undelivered", True, False),
        ("deferred", 2, 2, "expired", "expired", False, False),
    ],
)
def test_a_report_is_believed_or_stale(
    db: psycopg.Connection,
    outcome: str,
    attempt: int,
    latest: int,
    queue: str,
    message: str,
    accepted: bool,
    believed: bool,
) -> None:
    assert rule(db, "sms_report_is_believed", outcome, attempt, latest, queue, message, accepted, False) is believed


@pytest.mark.parametrize(
    # The message failed without a code, and this report has one.
    ("outcome", "attempt", "queue", "message", "believed"),
    [
        ("undelivered", 2, "failed", "undelivered", True),
        ("failed", 2, "failed", "failed", True),
        ("failed", 1, "failed", "failed", False),
        ("accepted", 2, "failed", "failed", False),
        ("canceled", 2, "failed", "failed", False),
        ("failed", 2, "expired", "expired", False),
    ],
)
def test_a_code_that_comes_after_a_failure_without_one_is_believed(
    db: psycopg.Connection, outcome: str, attempt: int, queue: str, message: str, believed: bool
) -> None:
    assert rule(db, "sms_report_is_believed", outcome, attempt, 2, queue, message, True, True) is believed


@pytest.mark.parametrize(
    # Delays and the next try are in minutes; the claim is two minutes old; three retries are allowed.
    ("outcome", "delays", "spends", "retries", "forbidden", "next_try"),
    [
        # A failure waits for the delay of its retry, while retries and delays are left.
        ("refused", [1, 5, 15], True, 0, False, 1),
        ("refused", [1, 5, 15], True, 1, False, 5),
        ("undelivered", [1, 5, 15], True, 2, False, 15),
        ("failed", [1, 5, 15, 30], True, 3, False, None),
        ("failed", [1], True, 1, False, None),
        ("refused", None, True, 0, False, None),
        # A failure that spends no retry always waits for the first delay.
        ("refused", [1, 5, 15], False, 0, False, 1),
        ("refused", [1, 5, 15], False, 2, False, 1),
        ("refused", [1, 5, 15], False, 3, False, 1),
        ("undelivered", None, False, 0, False, None),
        # The delay of a deferral counts from the claim.
        ("deferred", [30], False, 3, False, 28),
        ("deferred", [0], False, 0, False, -2),
        # No other outcome has a next try.
        ("accepted", [1, 5, 15], True, 0, False, None),
        ("delivered", [1, 5, 15], True, 0, False, None),
        ("canceled", [1, 5, 15], True, 0, False, None),
        ("unknown", [1, 5, 15], True, 0, False, None),
        ("expired", [1, 5, 15], True, 0, False, None),
        ("opted_out", [1, 5, 15], True, 0, False, None),
        # A forbidden resend has none after any outcome.
        ("refused", [1, 5, 15], True, 0, True, None),
        ("refused", [1, 5, 15], False, 0, True, None),
        ("deferred", [30], False, 0, True, None),
    ],
)
def test_the_next_try_follows_from_the_outcome_the_delays_and_the_retries(
    db: psycopg.Connection,
    outcome: str,
    delays: Sequence[int] | None,
    spends: bool,
    retries: int,
    forbidden: bool,
    next_try: int | None,
) -> None:
    minutes = one(
        db,
        """select extract(epoch from sms_retry.sms_next_try(%s, %s::interval[], %s, %s, 3,
            now() - interval '2 minutes', %s) - now())::int / 60""",
        [outcome, None if delays is None else [n * MINUTE for n in delays], spends, retries, forbidden],
    )
    assert minutes == next_try


EARLY, LATE = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    # The attempt of the report is 2; the message expires at noon of the first day.
    ("outcome", "latest", "queue", "message", "next_try", "becomes"),
    [
        # An earlier attempt was delivered while a newer one is being sent, or waits.
        ("delivered", 3, "processing", "queued", None, "processing"),
        ("delivered", 3, "pending", "queued", None, "completed"),
        ("delivered", 2, "processing", "queued", None, "completed"),
        ("delivered", 2, "completed", "sent", None, "completed"),
        # A delivered message is complete.
        ("accepted", 2, "processing", "queued", None, "completed"),
        ("accepted", 2, "unknown", "unknown", None, "completed"),
        ("refused", 2, "processing", "delivered", EARLY, "completed"),
        ("unknown", 2, "processing", "delivered", None, "completed"),
        ("expired", 2, "processing", "delivered", None, "completed"),
        # Every other outcome.
        ("unknown", 2, "processing", "queued", None, "unknown"),
        ("canceled", 2, "completed", "sent", None, "cancelled"),
        ("expired", 2, "processing", "queued", None, "expired"),
        ("opted_out", 2, "processing", "queued", None, "failed"),
        # A failure or a deferral waits for its next try, unless the message expires before.
        ("refused", 2, "processing", "queued", EARLY, "pending"),
        ("deferred", 2, "processing", "queued", EARLY, "pending"),
        ("undelivered", 2, "completed", "sent", EARLY, "pending"),
        ("refused", 2, "processing", "queued", LATE, "expired"),
        ("deferred", 2, "processing", "queued", LATE, "expired"),
        ("refused", 2, "processing", "queued", None, "failed"),
        ("undelivered", 2, "completed", "sent", None, "failed"),
        ("failed", 2, "unknown", "unknown", None, "failed"),
    ],
)
def test_the_status_follows_from_the_outcome_and_the_next_try(
    db: psycopg.Connection,
    outcome: str,
    latest: int,
    queue: str,
    message: str,
    next_try: datetime | None,
    becomes: str,
) -> None:
    noon = EARLY + timedelta(hours=12)
    assert rule(db, "sms_status_after", outcome, 2, latest, queue, message, next_try, noon) == becomes


def test_a_message_that_expires_at_its_next_try_is_expired(db: psycopg.Connection) -> None:
    assert rule(db, "sms_status_after", "refused", 1, 1, "processing", "queued", EARLY, EARLY) == "expired"


def test_postgres_copies_the_rules_into_the_statements_that_call_them(db: psycopg.Connection, store: Store) -> None:
    claim, other = claimed(store, 1), claimed(store, 2)
    with db.transaction():
        db.execute("set local track_functions = 'all'")
        db.execute(
            """select from sms_retry.finish_sms_retries(array[%s, %s]::bigint[], array[1, 1],
                array['refused', 'accepted'], array[null, %s], delays => array['{1 minute}', null])""",
            [claim.id, other.id, sid(2)],
        )
        db.execute("select sms_retry.count_due_sms(1)")
        called = {
            name
            for (name,) in db.execute("select funcname from pg_stat_xact_user_functions where schemaname = 'sms_retry'")
        }
    assert state_of(db, claim.message_id).queue == "pending"
    # count_due_sms is a function in SQL that cannot be copied, so it shows that such calls are counted.
    assert {"finish_sms_retries", "settle_sms_reports", "count_due_sms"} <= called
    assert not called & INLINED


def test_a_late_acceptance_reads_its_own_attempt_and_no_other(db: psycopg.Connection, store: Store) -> None:
    claim = unknown(store)
    let_time_pass(db, minutes=31)
    assert store.release_unknown([claim.ticket]) == ["pending"]
    # The statistics are from an empty table, and the plan with them.
    db.execute("analyze sms_retry.sms_attempts")
    db.execute(
        """insert into sms_retry.sms_attempts (queue_id, attempt, outcome, message_sid)
            select 1000 + n, 1, 'accepted', 'SM' || n from generate_series(1, 1000) n"""
    )
    read = """select pg_stat_get_xact_tuples_returned('sms_retry.sms_attempts'::regclass)
        + pg_stat_get_xact_tuples_returned('sms_retry.sms_attempts_pkey'::regclass)"""
    with db.transaction():
        before = one(db, read)
        db.execute(
            "select from sms_retry.finish_sms_retries(array[%s::bigint], array[1], array['accepted'], array[%s])",
            [claim.id, sid()],
        )
        assert one(db, read) - before < 10
    assert state_of(db).queue == "completed"


def call_off(store: Store, claim: Claim) -> None:
    operate.cancel(store, "anna", claim.message_id)


def opt_out(store: Store, claim: Claim) -> None:
    store.set_consent("default", claim.to_number, "opted_out")


Forbid = Callable[[Store, Claim], None]
FORBIDS = pytest.mark.parametrize(("forbid", "reason"), [(call_off, "called_off"), (opt_out, "opted_out")])


def attention(store: Store) -> tuple[list[int], list[int]]:
    """The ids on both lists of messages that need attention: stuck, and parked."""
    return [row.message_id for row in store.stuck(50)], store.parked()


@FORBIDS
@pytest.mark.parametrize("on_unknown", ["resend", "hold"])
@pytest.mark.parametrize("hours", [0, 73])
def test_the_lists_and_the_health_agree_on_an_unknown_message_that_must_not_be_resent(
    db: psycopg.Connection, store: Store, forbid: Forbid, reason: str, on_unknown: str, hours: int
) -> None:
    claim = unknown(store, on_unknown=on_unknown)
    if hours:
        db.execute("update sms_retry.sms_retry_queue set retry_count = max_retries")
        let_time_pass(db, hours=hours)
        assert store.release_unknown([claim.ticket]) == ["unknown"]
    waits_for_a_person = bool(hours) or on_unknown == "hold"
    assert attention(store) == ([claim.message_id], [claim.message_id] if waits_for_a_person else [])
    assert store.health()["held_unknowns"] == waits_for_a_person

    forbid(store, claim)

    assert attention(store) == ([], [])
    assert store.health()["held_unknowns"] == 0
    details = store.message_details(claim.message_id)
    assert details
    assert (details.reason, details.on_unknown) == (reason, on_unknown)
    assert actions.possible(details) == {"force"}


@FORBIDS
def test_an_unknown_message_that_must_not_be_resent_ends_as_unknown(
    db: psycopg.Connection, store: Store, forbid: Forbid, reason: str
) -> None:
    claim = unknown(store)
    db.execute("update sms_retry.sms_messages set expires_at = now() + interval '9 days'")
    forbid(store, claim)
    let_time_pass(db, hours=71)
    assert store.release_unknown([claim.ticket]) == []
    let_time_pass(db, hours=2)
    assert store.release_unknown([claim.ticket]) == ["unknown"]
    assert state_of(db).reason == reason
    assert attention(store) == ([], [])


@FORBIDS
@pytest.mark.parametrize("outcome", ["refused", "deferred"])
@pytest.mark.parametrize("spends", [True, False])
def test_a_late_report_does_not_resend_a_message_that_must_not_be_resent(
    db: psycopg.Connection, store: Store, forbid: Forbid, reason: str, outcome: str, spends: bool
) -> None:
    claim = unknown(store)
    forbid(store, claim)
    assert finish(store, claim, outcome, code=30001, delays=(MINUTE,) * 3, spends=spends) == "failed"
    assert (state_of(db).message, state_of(db).reason, state_of(db).retry_count) == ("failed", reason, 0)


@FORBIDS
@pytest.mark.parametrize("by_receipt", [True, False])
def test_an_acceptance_does_not_forget_that_a_message_must_not_be_resent(
    db: psycopg.Connection, store: Store, forbid: Forbid, reason: str, by_receipt: bool
) -> None:
    claim = unknown(store)
    forbid(store, claim)
    if by_receipt:
        assert receipt(store, sid(), "sent", ticket=claim.ticket) == "settled"
    else:
        assert finish(store, claim, "accepted", sid=sid()) == "completed"
    assert (state_of(db).queue, state_of(db).reason) == ("completed", reason)

    assert receipt(store, sid(), "undelivered", 30003, claim.ticket, (MINUTE,) * 3) == "settled"
    assert (state_of(db).message, state_of(db).queue, state_of(db).reason) == ("undelivered", "failed", reason)


def test_requeue_leaves_out_a_message_that_was_called_off(store: Store) -> None:
    claim = unknown(store)
    call_off(store, claim)
    finish(store, claim, "refused", code=30001)
    since = datetime.now(UTC) - timedelta(hours=1)
    assert operate.requeue(store, "anna", 30001, since, 10) == 0


@FORBIDS
def test_a_resend_by_force_lifts_the_reason_and_follows_the_senders_wish_again(
    db: psycopg.Connection, store: Store, forbid: Forbid, reason: str
) -> None:
    claim = unknown(store)
    forbid(store, claim)
    assert operate.retry(store, "anna", claim.message_id, force=True)
    again = claim_again(db, store, minutes=0)
    assert finish(store, again, "unknown") == "unknown"
    assert state_of(db).reason is None
    assert attention(store) == ([claim.message_id], [])


@pytest.mark.parametrize("reason", [*actions.RESEND_FORBIDDEN, "held", "retries_spent", None])
def test_the_console_and_the_database_know_the_same_forbidding_reasons(
    db: psycopg.Connection, reason: str | None
) -> None:
    assert rule(db, "sms_resend_forbidden", reason) is (reason in actions.RESEND_FORBIDDEN)


def test_a_database_of_release_01_learns_which_people_opted_out(server: Server, worker_id: str, tmp_path: Path) -> None:
    url = server.create_database(f"upgraded_{worker_id}")
    migrate(url, released.sql("0.1.0", tmp_path))
    store = Store(lambda: url)
    with psycopg.connect(url, autocommit=True) as db:
        # As release 0.1 recorded an opt-out: the reason is empty, and the sender's wish is overwritten.
        stopped, waits = unknown(store, 1), unknown(store, 2, on_unknown="hold")
        store.set_consent("*", number(1), "opted_out")
        db.execute("update sms_retry.sms_retry_queue set reason = null")
        db.execute("update sms_retry.sms_messages set on_unknown = 'hold'")

        migrate(url)

        assert state_of(db, stopped.message_id).reason == "opted_out"
        assert state_of(db, waits.message_id).reason is None
        assert attention(store) == ([waits.message_id], [waits.message_id])
    store.close()
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(f"upgraded_{worker_id}")))
