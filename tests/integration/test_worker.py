"""The worker on a real Postgres, with a stand-in for Twilio over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from threading import Event

import psycopg
import pytest

from local.twilio.stand_in import Accept, BadAnswer, Hang, Refuse, Reset, TwilioStandIn
from local.waiting import let_time_pass
from sms_retry import attempt, worker
from sms_retry.store import Store
from sms_retry.twilio import Send
from sms_retry.values import Answer, Claim, Message, Refused, Ticket, Unknown
from tests.integration.examples import (
    MINUTE,
    after_sending,
    assert_state,
    fill,
    five_minutes_left,
    number,
    one,
    receipt,
    statuses,
    take_in,
)


def test_each_message_is_accepted_once_after_temporary_failures(
    db: psycopg.Connection, store: Store, stand_in: TwilioStandIn, send: Send
) -> None:
    for n in range(40):
        first = Refuse(503, 20503) if n % 2 else Refuse(429, 20429)
        stand_in.plan(number(n), first, Accept())
        take_in(store, n)

    for _ in range(3):
        worker.drain(store, send, five_minutes_left, concurrency=10)
        let_time_pass(db, minutes=20)

    assert statuses(db) == {"sent": 40}
    assert set(stand_in.times_accepted().values()) == {1}
    assert len(stand_in.accepted()) == 40


@pytest.mark.parametrize(
    ("status", "counted"), [("sent", "success"), ("delivered", "success"), ("undelivered", "rescheduled")]
)
def test_a_receipt_before_the_report_of_the_worker_is_not_counted_as_stale(
    store: Store, stand_in: TwilioStandIn, send: Send, database_url: str, status: str, counted: str
) -> None:
    take_in(store)
    with closing(Store(lambda: database_url)) as webhook:

        def send_receipt() -> None:
            receipt(webhook, stand_in.accepted()[0].sid, status, None, Ticket(1, 1), (MINUTE,))

        tally = worker.drain(store, after_sending(send, send_receipt), five_minutes_left, concurrency=1)

    assert (tally.processed, getattr(tally, counted), tally.stale) == (1, 1, 0)


def test_an_unreachable_twilio_spends_no_retry(
    db: psycopg.Connection, store: Store, stand_in: TwilioStandIn, send: Send
) -> None:
    take_in(store)
    stand_in.close()
    for _ in range(5):
        assert worker.drain(store, send, five_minutes_left, concurrency=2).rescheduled == 1
        let_time_pass(db, minutes=20)

    stand_in.start()
    assert worker.drain(store, send, five_minutes_left, concurrency=2).success == 1
    assert db.execute("select retry_count, attempt from sms_retry.sms_retry_queue").fetchone() == (0, 6)


def test_an_invalid_number_fails_at_once(
    db: psycopg.Connection, store: Store, stand_in: TwilioStandIn, send: Send
) -> None:
    stand_in.plan(number(1), Refuse(400, 21211))
    take_in(store)

    tally = worker.drain(store, send, five_minutes_left, concurrency=2)

    assert (tally.processed, tally.failed) == (1, 1)
    assert db.execute("select status, error_code from sms_retry.sms_messages").fetchone() == ("failed", 21211)


def test_a_message_fails_after_three_retries(
    db: psycopg.Connection, store: Store, stand_in: TwilioStandIn, send: Send
) -> None:
    stand_in.plan(number(1), *[Refuse(400, 30021)] * 9)
    take_in(store)

    waits = []
    for _ in range(4):
        worker.drain(store, send, five_minutes_left, concurrency=2)
        row = db.execute(
            "select extract(epoch from scheduled_for - now()) from sms_retry.sms_retry_queue where status = 'pending'"
        ).fetchone()
        waits.append(row and float(row[0]))
        let_time_pass(db, minutes=30)

    assert len(stand_in.posts()) == 4
    assert waits[0] is not None
    assert 119 < waits[0] < 211
    assert waits[1] is not None
    assert 239 < waits[1] < 361
    assert waits[3] is None
    row = db.execute("select status, reason, retry_count from sms_retry.sms_retry_queue").fetchone()
    assert row == ("failed", "retries_spent", 3)


@pytest.mark.parametrize(
    "step",
    [
        Reset(Accept()),
        Reset(accepted=None),
        BadAnswer(500, accepted=Accept()),
        BadAnswer(502, accepted=None),
        BadAnswer(504, accepted=Accept()),
        BadAnswer(503, body="<html>busy</html>", accepted=Accept()),
        BadAnswer(201, body="", accepted=Accept()),
        BadAnswer(201, body="not json", accepted=Accept()),
        BadAnswer(200, body="{}", accepted=Accept()),
    ],
    ids=repr,
)
def test_an_answer_that_cannot_be_trusted_is_unknown_and_not_resent(
    db: psycopg.Connection,
    store: Store,
    stand_in: TwilioStandIn,
    send: Send,
    step: Reset | BadAnswer,
) -> None:
    stand_in.plan(number(1), step)
    take_in(store)

    assert worker.drain(store, send, five_minutes_left, concurrency=2).unknown == 1
    let_time_pass(db, hours=1)
    assert worker.drain(store, send, five_minutes_left, concurrency=2).processed == 0

    assert len(stand_in.posts()) == 1
    assert statuses(db) == {"unknown": 1}
    outcome, seen = db.execute("select outcome, error_message from sms_retry.sms_attempts").fetchone() or ("", "")
    assert outcome == "unknown"
    assert seen


def test_a_read_timeout_is_unknown(
    db: psycopg.Connection, store: Store, stand_in: TwilioStandIn, send: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sms_retry.twilio.READ_TIMEOUT", 0.2)
    stand_in.plan(number(1), Hang(Accept()))
    take_in(store)

    assert worker.drain(store, send, five_minutes_left, concurrency=2).unknown == 1
    assert statuses(db) == {"unknown": 1}


def test_a_worker_with_too_little_time_for_a_send_claims_nothing(store: Store, send: Send) -> None:
    take_in(store)
    assert worker.drain(store, send, lambda: 30.0, concurrency=2).processed == 0


def test_a_worker_out_of_time_gives_its_claims_back_without_spending_a_retry(
    db: psycopg.Connection, store: Store, stand_in: TwilioStandIn, send: Send
) -> None:
    for n in range(30):
        take_in(store, n)
    left = iter([300.0] * 5)

    tally = worker.drain(store, send, lambda: next(left, 1.0), concurrency=2)

    assert tally.processed == tally.success + tally.deferred
    assert tally.deferred > 0
    assert len(stand_in.posts()) == tally.success
    rows = db.execute(
        "select status, retry_count, count(*) from sms_retry.sms_retry_queue group by 1, 2 order by 1"
    ).fetchall()
    assert rows == [("completed", 0, tally.success), ("pending", 0, 30 - tally.success)]


def test_an_opt_out_ends_the_other_waiting_messages_of_that_person(
    db: psycopg.Connection, store: Store, stand_in: TwilioStandIn, send: Send
) -> None:
    stand_in.plan(number(1), Refuse(400, 21610))
    take_in(store)
    for _ in range(3):
        store.queue(Message(number(1), "Later.", kind="otp", business_id="another"), 30001)

    worker.drain(store, send, five_minutes_left, concurrency=1)

    assert statuses(db) == {"failed": 4}
    assert len(stand_in.posts()) == 1
    consent = db.execute("select business_id, phone_number, consent from sms_retry.sms_recipients").fetchall()
    assert consent == [("*", number(1), "opted_out")]


def test_bad_credentials_hold_all_messages_until_a_probe_is_accepted(
    db: psycopg.Connection, store: Store, stand_in: TwilioStandIn, send: Send
) -> None:
    for n in range(20):
        take_in(store, n)
        stand_in.plan(number(n), Refuse(401, 20003), Refuse(401, 20003))

    first = worker.drain(store, send, five_minutes_left, concurrency=2)
    assert first.rescheduled + first.deferred == first.processed < 20
    assert worker.drain(store, send, five_minutes_left, concurrency=2).processed == 0

    posts = len(stand_in.posts())
    let_time_pass(db, minutes=6)
    assert worker.drain(store, send, five_minutes_left, concurrency=2).processed == 1
    assert len(stand_in.posts()) == posts + 1

    for n in range(20):
        stand_in.plan(number(n), Accept())
    let_time_pass(db, minutes=6)
    assert worker.drain(store, send, five_minutes_left, concurrency=2).success == 20
    assert db.execute("select count(*) from sms_retry.sms_holds").fetchone() == (0,)
    assert db.execute("select sum(retry_count) from sms_retry.sms_messages").fetchone() == (0,)


def test_a_twilio_that_is_down_gets_one_probe_a_minute(
    db: psycopg.Connection, store: Store, stand_in: TwilioStandIn, send: Send
) -> None:
    for n in range(50):
        take_in(store, n)
    stand_in.behave(default=lambda to, nth: BadAnswer(500, accepted=None))

    worker.drain(store, send, five_minutes_left, concurrency=2)
    lost = len(stand_in.posts())
    assert attempt.DOWN_AFTER <= lost < attempt.DOWN_AFTER + 3

    for minute in (1, 2):
        let_time_pass(db, minutes=1)
        worker.drain(store, send, five_minutes_left, concurrency=2)
        assert len(stand_in.posts()) == lost + minute

    stand_in.behave(default=lambda to, nth: Accept())
    let_time_pass(db, minutes=2)
    assert worker.drain(store, send, five_minutes_left, concurrency=2).success == 50 - lost - 2
    assert statuses(db) == {"unknown": lost + 2, "sent": 50 - lost - 2}


def test_a_tick_of_answers_that_are_not_twilios_costs_no_message_anything(
    db: psycopg.Connection, store: Store, stand_in: TwilioStandIn, send: Send
) -> None:
    fill(db, 2000)
    stand_in.behave(default=lambda to, nth: BadAnswer(408, body="Request Time-out", accepted=None))

    worker.drain(store, send, five_minutes_left, concurrency=20)
    assert attempt.DOWN_AFTER <= len(stand_in.posts()) < 60
    assert one(db, "select scope || ' ' || reason from sms_retry.sms_holds") == "account twilio_down"
    for _ in range(3):
        posts = len(stand_in.posts())
        let_time_pass(db, minutes=1)
        worker.drain(store, send, five_minutes_left, concurrency=20)
        assert len(stand_in.posts()) == posts + 1

    stand_in.behave(default=lambda to, nth: Accept())
    for _ in range(3):
        let_time_pass(db, minutes=7)
        worker.drain(store, send, five_minutes_left, concurrency=100)

    assert statuses(db) == {"sent": 2000}
    assert set(stand_in.times_accepted().values()) == {1}
    assert one(db, "select max(retry_count) from sms_retry.sms_messages") == 0


@pytest.mark.parametrize("body", ["", "busy", "<html>blocked</html>", '{"error": "no"}', '{"code": "20429"}'])
@pytest.mark.parametrize("http_status", [400, 408, 410, 421, 425, 451])
def test_an_answer_without_a_code_is_not_final(
    db: psycopg.Connection, store: Store, stand_in: TwilioStandIn, send: Send, http_status: int, body: str
) -> None:
    stand_in.plan(number(1), BadAnswer(http_status, body=body, accepted=None), Accept())
    take_in(store)

    assert worker.drain(store, send, five_minutes_left, concurrency=1).rescheduled == 1
    assert_state(db, queue="pending", retry_count=0, error_code=20429 if "20429" in body else None)
    let_time_pass(db, minutes=2)
    assert worker.drain(store, send, five_minutes_left, concurrency=1).success == 1


@pytest.mark.parametrize("code", [21606, 21659])
def test_a_recipient_in_the_wrong_country_delays_no_other_country_and_ends_within_its_retries(
    db: psycopg.Connection, store: Store, stand_in: TwilioStandIn, send: Send, code: int
) -> None:
    poison = store.queue(Message("+447700900001", "Hello.", kind="otp"))
    stand_in.plan("+447700900001", *[Refuse(400, code)] * 300)

    for tick in range(180):
        take_in(store, 100 + tick)
        worker.drain(store, send, five_minutes_left, concurrency=1)
        assert stand_in.times_accepted()[number(100 + tick), "Your parcel is here."] == 1
        let_time_pass(db, minutes=1)

    assert_state(db, poison, message="failed", retry_count=3, attempt=4, reason="retries_spent", error_code=code)


@pytest.mark.parametrize(
    ("kind", "intent"), [("otp", "otp"), ("transactional", "notifications"), ("emergency", "security")]
)
def test_twilio_is_told_the_intent_of_a_message(
    store: Store, stand_in: TwilioStandIn, send: Send, kind: str, intent: str
) -> None:
    store.queue(Message(number(1), "Hello.", kind=kind, time_zone="Etc/GMT+12"))
    store.queue(Message(number(1), "Hello.", kind=kind, time_zone="Etc/GMT"))
    worker.drain(store, send, five_minutes_left, concurrency=1)
    assert {post.form["MessageIntent"] for post in stand_in.posts()} == {intent}


def test_an_exception_in_one_send_keeps_the_outcomes_of_the_others(
    db: psycopg.Connection, store: Store, send: Send
) -> None:
    for n in range(6):
        take_in(store, n)

    def broken(claim: Claim, valid_for: object) -> Refused | Unknown:
        if claim.to_number == number(3):
            raise ZeroDivisionError
        return Refused(400, 21211, "no such number")

    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        worker.drain(store, broken, five_minutes_left, concurrency=2)

    rows = db.execute("select status, count(*) from sms_retry.sms_retry_queue group by 1 order by 1").fetchall()
    assert dict(rows)["processing"] == 1
    assert dict(rows)["failed"] >= 2


def test_a_lingering_worker_sends_what_becomes_due_meanwhile(db: psycopg.Connection, store: Store, send: Send) -> None:
    pauses: list[float] = []

    def queue_one(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) in (2, 4):
            take_in(store, len(pauses))

    tally = worker.drain(store, send, lambda: 300.0 if len(pauses) < 6 else 0.0, 4, linger=50, pause=queue_one)

    assert (tally.processed, tally.success) == (2, 2)
    assert statuses(db) == {"sent": 2}
    assert pauses == [1.0, 1.0, 0.25, 1.0, 0.25, 1.0]


def test_a_slow_send_does_not_delay_what_becomes_due_meanwhile(
    db: psycopg.Connection, store: Store, send: Send, open_store: Callable[[], Store]
) -> None:
    arrived = Event()

    def slow_first(claim: Claim, valid_for: timedelta) -> Answer:
        if claim.to_number == number(1):
            take_in(open_store(), 2)
            assert arrived.wait(timeout=10)
        else:
            arrived.set()
        return send(claim, valid_for)

    take_in(store, 1)
    tally = worker.drain(store, slow_first, lambda: 0.0 if arrived.is_set() else 300.0, 4, linger=50)
    assert tally.processed == 2
