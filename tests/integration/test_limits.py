"""The settings of an operator in the database: messages per person, and overrides of error codes."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

import psycopg
import pytest

from local.twilio.stand_in import Refuse, TwilioStandIn
from local.waiting import let_time_pass
from sms_retry import worker
from sms_retry.codes import SCHEDULE
from sms_retry.policy import Policy
from sms_retry.store import Store
from sms_retry.twilio import Send
from sms_retry.values import Final, Hold, Message, Refused, Retry
from tests.integration.examples import (
    accepted,
    claimed,
    finish,
    five_minutes_left,
    number,
    one,
    receipt,
    sid,
    state_of,
    statuses,
    take_in,
    wait_until_blocked,
)


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


def limit_kind(db: psycopg.Connection, messages: int, kind: str = "*", per: str = "1 day", region: str = "*") -> None:
    db.execute(
        "insert into sms_retry.sms_limits (business_id, messages_a_day, kind, per, region)"
        " values ('*', %s, %s, %s, %s)",
        [messages, kind, per, region],
    )


def sent(db: psycopg.Connection, kind: str, days_ago: int, to_number: str = number()) -> None:
    """A message that was sent to the person some days ago."""
    db.execute(
        """insert into sms_retry.sms_messages
            (business_id, to_number, body, kind, on_unknown, expires_at, status, provider_sid, sent_at)
        values ('default', %s, 'Hello.', %s, 'resend', now(), 'sent', 'SM' || random(),
            now() - make_interval(days => %s))
        """,
        [to_number, kind, days_ago],
    )


def days_until_allowed(store: Store, kind: str, to_number: str = number()) -> int | None:
    """Queue and claim a message: the days until the limits allow it, None if they allow it now. It is not sent."""
    message_id = store.queue(Message(to_number, "Your parcel is here.", kind=kind))
    claim = store.claim_now(message_id)
    assert claim
    finish(store, claim, "deferred", delays=(timedelta(days=99),))
    return claim.limited_until and round((claim.limited_until - claim.claimed_at) / timedelta(days=1))


def test_a_limit_of_marketing_counts_a_week_and_no_other_kind(db: psycopg.Connection, store: Store) -> None:
    store.set_consent("*", number(), "opted_in")
    limit_kind(db, 2, "marketing", "7 days")
    for days_ago in (8, 5, 1):
        sent(db, "marketing", days_ago)
        sent(db, "transactional", days_ago)

    assert days_until_allowed(store, "marketing") == 2
    assert days_until_allowed(store, "transactional") is None
    let_time_pass(db, hours=49)
    assert days_until_allowed(store, "marketing") is None


def test_the_limit_of_a_kind_counts_beside_the_limit_of_all_kinds(db: psycopg.Connection, store: Store) -> None:
    store.set_consent("*", number(), "opted_in")
    limit(db, "*", 2)
    limit_kind(db, 2, "marketing", "7 days")
    sent(db, "otp", 0)
    sent(db, "marketing", 3)
    assert (days_until_allowed(store, "otp"), days_until_allowed(store, "marketing")) == (None, None)

    sent(db, "otp", 0)
    assert (days_until_allowed(store, "otp"), days_until_allowed(store, "marketing")) == (1, 1)

    sent(db, "marketing", 2)
    assert (days_until_allowed(store, "otp"), days_until_allowed(store, "marketing")) == (1, 4)


def test_the_claims_of_several_workers_count_together(
    db: psycopg.Connection, open_store: Callable[[], Store], store: Store
) -> None:
    limit(db, "*", 1)
    ids = [take_in(store) for _ in range(8)]
    workers = [open_store() for _ in ids]
    for worker_of_one in workers:
        worker_of_one.health()
    start = Barrier(len(ids))

    def claim(one_store: Store, message_id: int) -> bool:
        start.wait()
        found = one_store.claim_now(message_id)
        assert found
        return found.limited_until is None

    with ThreadPoolExecutor(len(ids)) as threads:
        assert sum(threads.map(claim, workers, ids)) == 1


def test_a_claim_waits_for_another_claim_of_the_same_person(
    db: psycopg.Connection, store: Store, database_url: str
) -> None:
    limit(db, "*", 1)
    first, second = take_in(store), take_in(store)
    claims = "select limited_until is null from sms_retry.claim_sms_now(%s)"
    with psycopg.connect(database_url) as worker_of_one, ThreadPoolExecutor(1) as pool:
        assert one(worker_of_one, claims, [first])
        other = pool.submit(one, db, claims, [second])
        with psycopg.connect(database_url, autocommit=True) as watcher:
            wait_until_blocked(watcher, worker_of_one)
        worker_of_one.commit()
        assert not other.result()


def test_a_claim_that_is_not_sent_delays_another_message_by_ten_minutes(db: psycopg.Connection, store: Store) -> None:
    limit(db, "*", 1)
    claimed(store, 1)
    other = store.claim_now(take_in(store, 1))
    assert other
    assert other.limited_until
    assert other.limited_until - other.claimed_at == timedelta(minutes=10)


def test_a_message_does_not_count_against_its_own_retry(db: psycopg.Connection, store: Store) -> None:
    limit(db, "*", 1)
    accepted(store, 1)
    receipt(store, sid(1), "undelivered", 30003, delays=(timedelta(0),))
    again = store.claim_now(1)
    assert again
    assert again.limited_until is None


def test_messages_of_one_claim_count_against_the_limit_of_their_kind(db: psycopg.Connection, store: Store) -> None:
    store.set_consent("*", number(), "opted_in")
    limit_kind(db, 2, "marketing", "7 days")
    for kind in ("marketing", "transactional", "marketing", "transactional", "marketing"):
        take_in(store, kind=kind)

    claims = sorted(store.claim_due(10))

    assert [claim.limited_until is None for claim in claims] == [True, True, True, True, False]


@pytest.mark.parametrize(
    ("region", "to_number", "stated", "is_limited"),
    [
        ("US-FL", "+13055550123", None, True),
        ("US-OK", "+13055550123", None, False),
        ("US", "+13055550123", None, True),
        ("US-FL", "+15035550123", "US-FL", True),
        ("US-FL", "+13055550123", "US-OR", False),
        ("US-FL", "+18005550123", None, False),
        ("US", "+491761234567", None, False),
        ("DE-BE", "+491761234567", "DE-BE", True),
        ("DE", "+491761234567", "DE-BE", True),
        ("*", "+491761234567", None, True),
    ],
)
def test_a_limit_of_a_region_concerns_the_numbers_of_that_region(
    db: psycopg.Connection, store: Store, region: str, to_number: str, stated: str | None, is_limited: bool
) -> None:
    db.execute(
        "insert into sms_retry.sms_recipients (business_id, phone_number, consent, region)"
        " values ('*', %s, 'opted_in', %s)",
        [to_number, stated],
    )
    limit_kind(db, 3, "marketing", region=region)
    for _ in range(3):
        sent(db, "marketing", 0, to_number)

    assert days_until_allowed(store, "marketing", to_number) == (1 if is_limited else None)
    assert days_until_allowed(store, "otp", to_number) is None


@pytest.mark.parametrize(
    "line", ["('*', 0)", "('*', 2, 'emergency')", "('*', 2, '*', '-1 day')", "('*', 2, '*', '1 day', 'Florida')"]
)
def test_an_invalid_limit_cannot_be_stored(db: psycopg.Connection, line: str) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        db.execute(f"insert into sms_retry.sms_limits values {line}")


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
