"""The settings of an operator in the database: messages per person and day, and overrides of error codes."""

from __future__ import annotations

from datetime import timedelta

import psycopg
import pytest

from local.twilio.stand_in import Refuse, TwilioStandIn
from local.waiting import let_time_pass
from sms_retry import worker
from sms_retry.codes import SCHEDULE
from sms_retry.policy import Policy
from sms_retry.store import Store
from sms_retry.twilio import Send
from sms_retry.values import Final, Hold, Refused, Retry
from tests.integration.examples import five_minutes_left, number, one, state_of, statuses, take_in


def limit(db: psycopg.Connection, business_id: str, messages_a_day: int) -> None:
    db.execute("insert into sms_retry.sms_limits values (%s, %s)", [business_id, messages_a_day])


def test_a_person_gets_no_more_messages_a_day_than_the_limit(
    db: psycopg.Connection, store: Store, stand_in: TwilioStandIn, send: Send
) -> None:
    limit(db, "*", 2)
    for business in ("a", "b", "a", "b", "a"):
        take_in(store, business_id=business)
    take_in(store, 2)

    tally = worker.drain(store, send, five_minutes_left, concurrency=4)
    assert (tally.success, tally.deferred) == (3, 3)
    reasons = db.execute("select distinct reason from sms_retry.sms_retry_queue where status = 'pending'").fetchall()
    assert reasons == [("daily_limit",)]

    let_time_pass(db, hours=23)
    assert worker.drain(store, send, five_minutes_left, concurrency=4).processed == 0
    let_time_pass(db, hours=2)
    assert worker.drain(store, send, five_minutes_left, concurrency=4).success == 2
    assert one(db, "select sum(retry_count) from sms_retry.sms_messages") == 0


def test_the_limit_of_one_business_ignores_other_businesses_and_emergencies(
    db: psycopg.Connection, store: Store, send: Send
) -> None:
    limit(db, "a", 1)
    ids = [
        take_in(store, business_id=business, kind=kind)
        for business, kind in (("a", "otp"), ("a", "otp"), ("b", "otp"), ("b", "otp"), ("a", "emergency"))
    ]

    worker.drain(store, send, five_minutes_left, concurrency=4)

    assert [state_of(db, id).message for id in ids] == ["sent", "queued", "sent", "sent", "sent"]


def test_an_override_of_the_operator_outweighs_the_release(
    db: psycopg.Connection, store: Store, stand_in: TwilioStandIn, send: Send
) -> None:
    db.execute(
        "insert into sms_retry.sms_error_overrides (code, verdict, strategy, base_seconds, retries, reason) values"
        " (21211, 'retry', 'linear', 600, 2, 'our numbers are fine'), (30003, 'final', '', 0, 0, 'too dear')"
    )
    stand_in.plan(number(1), Refuse(400, 21211))
    stand_in.plan(number(2), Refuse(400, 30003))
    take_in(store, 1)
    take_in(store, 2)

    worker.drain(store, send, five_minutes_left, concurrency=2)

    assert statuses(db) == {"queued": 1, "failed": 1}
    wait = one(db, "select scheduled_for - now() from sms_retry.sms_retry_queue where status = 'pending'")
    assert timedelta(minutes=9) < wait < timedelta(minutes=16)


def test_every_verdict_can_be_overridden(db: psycopg.Connection, store: Store) -> None:
    db.execute(
        "insert into sms_retry.sms_error_overrides (code, verdict, base_seconds, scope, reason) values"
        " (1, 'retry', 0, '', 'x'), (2, 'final', 0, '', 'x'), (3, 'hold', 60, 'country', 'x')"
    )
    policy = Policy.of(store.overrides())
    now = one(db, "select now()")

    def judged(code: int) -> object:
        return policy.judge(Refused(400, code, ""), 1, number(), now, lambda: 0.0)

    assert judged(1) == Retry(SCHEDULE, "error_1")
    assert judged(2) == Final("error_2")
    assert judged(3) == Hold("country", "+49", timedelta(seconds=60), "error_3")
    assert judged(30001) == Policy.of().judge(Refused(400, 30001, ""), 1, number(), now, lambda: 0.0)


@pytest.mark.parametrize(
    "line",
    [
        "(1, 'retry', 'sometimes', 60, 3, '', true, 'x')",
        "(1, 'hold', '', 60, 0, '', false, 'x')",
        "(1, 'hold', '', 0, 0, 'sender', false, 'x')",
        "(1, 'retry', 'linear', 0, 3, '', true, 'x')",
        "(1, 'never', '', 0, 0, '', true, 'x')",
    ],
)
def test_an_invalid_override_cannot_be_stored(db: psycopg.Connection, line: str) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        db.execute(f"insert into sms_retry.sms_error_overrides values {line}")
