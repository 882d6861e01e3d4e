"""An error in one step of one message defers that message alone: every other message is sent in the same tick."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from local.twilio.stand_in import Refuse, TwilioStandIn
from local.waiting import let_time_pass
from sms_retry import attempt, worker
from sms_retry.connection import Instant
from sms_retry.hours import SendingHours, Window
from sms_retry.policy import Policy
from sms_retry.store import Store
from sms_retry.twilio import Send
from sms_retry.values import Claim, Message
from tests.integration.examples import assert_state, fill, five_minutes_left, number, statuses

BAD = number(37)


def always_open(
    _hours: SendingHours, _number: str, _zone: str | None, _kind: str, now: datetime, _region: str | None = None
) -> Window:
    return Window(now, now + timedelta(hours=5))


def failing(step: Callable[..., Any], place: int) -> Callable[..., Any]:
    """The step, which fails for the number BAD in this place of its arguments."""

    def fails(*given: Any, **named: Any) -> Any:
        if given[place] == BAD:
            raise ZeroDivisionError(f"cannot read {BAD}")
        return step(*given, **named)

    return fails


def plant_in_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempt, "e164", failing(attempt.e164, 0))


def plant_in_hours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SendingHours, "next_window", failing(SendingHours.next_window, 1))


def plant_in_judgement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Policy, "judge", failing(Policy.judge, 3))


@pytest.mark.parametrize("plant", [plant_in_number, plant_in_hours, plant_in_judgement])
def test_an_error_in_one_step_defers_one_message_of_a_hundred(
    db: psycopg.Connection,
    store: Store,
    stand_in: TwilioStandIn,
    send: Send,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    plant: Callable[[pytest.MonkeyPatch], None],
) -> None:
    fill(db, 100)
    db.execute("update sms_retry.sms_messages set kind = 'transactional'")
    stand_in.plan(BAD, Refuse(400, 30001))
    with monkeypatch.context() as planted:
        planted.setattr(SendingHours, "next_window", always_open)
        plant(planted)
        tally = worker.drain(store, send, five_minutes_left, concurrency=10)

        assert (tally.processed, tally.success, tally.broken) == (100, 99, 1)
        assert tally.deferred + tally.rescheduled == 1
        assert statuses(db) == {"sent": 99, "queued": 1}
        assert_state(db, 37, queue="pending", reason="error", retry_count=0)
        [line] = [record for record in caplog.records if record.getMessage() == "broken"]
        assert (line.__dict__["ticket"], line.__dict__["error"]) == ("37-1", "ZeroDivisionError")
        assert line.__dict__["where"].startswith("test_one_bad_row.py:")
        assert BAD not in str(line.__dict__)

    monkeypatch.setattr(SendingHours, "next_window", always_open)
    let_time_pass(db, minutes=24)
    for _ in range(2):
        worker.drain(store, send, five_minutes_left, concurrency=10)
        let_time_pass(db, minutes=60)
    assert statuses(db) == {"sent": 100}


def test_a_claimed_row_that_cannot_be_read_is_deferred_alone(
    db: psycopg.Connection,
    store: Store,
    stand_in: TwilioStandIn,
    send: Send,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    read = Instant.load

    def fails(instant: Instant, data: bytes) -> datetime:
        if bytes(data).startswith(b"2099"):
            raise ValueError(f"cannot read {BAD}")
        return read(instant, data)

    monkeypatch.setattr(Instant, "load", fails)
    fill(db, 100)
    db.execute("update sms_retry.sms_messages set expires_at = '2099-01-01' where to_number = %s", [BAD])

    tally = worker.drain(store, send, five_minutes_left, concurrency=10)

    assert (tally.processed, tally.success, tally.deferred, tally.broken) == (100, 99, 1, 1)
    assert_state(db, 37, queue="pending", reason="error", retry_count=0)
    [line] = [record for record in caplog.records if record.getMessage() == "broken"]
    assert (line.__dict__["ticket"], line.__dict__["error"]) == ("37-1", "ValueError")
    assert BAD not in str(line.__dict__)

    monkeypatch.setattr(Instant, "load", read)
    let_time_pass(db, minutes=16)
    [claim] = store.claim_due(1)
    assert worker.send_claimed(store, send, claim, five_minutes_left).success == 1


def test_a_message_that_send_sms_cannot_read_waits_for_the_worker(
    db: psycopg.Connection, store: Store, stand_in: TwilioStandIn, send: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: Instant, _data: bytes) -> datetime:
        raise ValueError

    with monkeypatch.context() as planted:
        planted.setattr(Instant, "load", fails)
        message_id, claim = store.queue_and_claim(Message(BAD, "Hello.", kind="otp"))
        assert claim
        assert worker.send_claimed(store, send, claim, five_minutes_left).broken == 1
    assert not stand_in.posts()
    assert_state(db, message_id, queue="pending", reason="error")


def test_a_message_that_never_gets_past_an_error_expires(
    db: psycopg.Connection, store: Store, stand_in: TwilioStandIn, send: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(claim: Claim, now: datetime) -> attempt.Go:
        raise ZeroDivisionError

    monkeypatch.setattr(attempt, "before_sending", broken)
    fill(db, 1)
    db.execute("update sms_retry.sms_messages set expires_at = %s", [datetime.now(UTC) + timedelta(minutes=40)])
    for _ in range(4):
        worker.drain(store, send, five_minutes_left, concurrency=2)
        let_time_pass(db, minutes=15)
    assert_state(db, message="expired", queue="expired")
    assert not stand_in.posts()
