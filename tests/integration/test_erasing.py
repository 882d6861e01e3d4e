"""The body of an ended message can be erased. An erased message is never sent again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from local.waiting import let_time_pass
from sms_retry import operate
from sms_retry.store import Store
from sms_retry.values import Message
from tests.integration.examples import (
    MINUTE,
    accepted,
    assert_state,
    claimed,
    count,
    finish,
    number,
    one,
    receipt,
    sid,
    take_in,
    unknown,
)

A_WEEK_AGO = datetime.now(UTC) - timedelta(days=7)


def with_body(db: psycopg.Connection) -> set[int]:
    """The ids of the messages that have a body."""
    return {row[0] for row in db.execute("select id from sms_retry.sms_messages where body is not null")}


def erase_ended(db: psycopg.Connection, store: Store) -> None:
    """Erase the bodies of all messages; each of them must have ended."""
    let_time_pass(db, days=1, seconds=1)
    assert store.erase_bodies(1) > 0
    assert with_body(db) == set()


def test_only_messages_that_ended_long_enough_ago_are_erased(db: psycopg.Connection, store: Store) -> None:
    accepted(store, 1)
    finish(store, claimed(store, 2), "refused", code=21211)
    waiting, not_known = take_in(store, 3), unknown(store, 4).message_id
    let_time_pass(db, days=1, hours=23)
    yesterday = accepted(store, 5).message_id
    assert store.erase_bodies(2) == 0

    let_time_pass(db, hours=2)

    assert store.erase_bodies(2) == 2
    assert store.erase_bodies(2) == 0
    assert with_body(db) == {waiting, not_known, yesterday}


def test_a_late_failure_ends_an_erased_message(db: psycopg.Connection, store: Store) -> None:
    claim = accepted(store)
    erase_ended(db, store)

    assert receipt(store, sid(), "undelivered", 30003, claim.ticket, delays=(MINUTE,) * 3) == "settled"

    assert_state(db, message="undelivered", queue="failed", reason="body_erased", error_code=30003)


def test_a_late_delivery_of_an_erased_message_is_believed(db: psycopg.Connection, store: Store) -> None:
    claim = accepted(store)
    erase_ended(db, store)
    assert receipt(store, sid(), "delivered", None, claim.ticket) == "settled"
    assert_state(db, message="delivered", queue="completed")


@pytest.mark.parametrize("force", [False, True])
def test_an_erased_message_cannot_be_sent_again_by_hand(db: psycopg.Connection, store: Store, force: bool) -> None:
    finish(store, claimed(store, 1), "refused", code=30005)
    parked = unknown(store, 2, on_unknown="hold")
    let_time_pass(db, hours=73)
    assert store.release_unknown([parked.ticket]) == ["unknown"]
    erase_ended(db, store)

    for message_id in (1, parked.message_id):
        assert not operate.retry(store, "anna", message_id, force)
    assert operate.requeue(store, "anna", 30005, A_WEEK_AGO, 10) == 0
    assert store.claim_due(10) == []


@pytest.mark.parametrize("outcome", ["refused", "deferred"])
def test_a_late_report_of_an_erased_message_schedules_no_retry(
    db: psycopg.Connection, store: Store, outcome: str
) -> None:
    parked = unknown(store, on_unknown="hold")
    let_time_pass(db, hours=73)
    store.release_unknown([parked.ticket])
    erase_ended(db, store)

    assert finish(store, parked, outcome, code=30001, delays=(MINUTE,)) == "failed"


def test_logging_an_erased_message_as_sent_changes_nothing(db: psycopg.Connection, store: Store) -> None:
    store.set_consent("*", number(), "opted_out")
    message = Message(number(), "Hello.", message_key="1")
    message_id = store.queue(message)
    erase_ended(db, store)

    assert store.log_sent(message, sid()) == message_id
    assert_state(db, message="failed")
    assert count(db, "sms_attempts") == 0


@pytest.mark.parametrize("change", ["sms_messages set body = null", "sms_retry_queue set body_erased = true"])
def test_a_waiting_message_cannot_be_erased(db: psycopg.Connection, store: Store, change: str) -> None:
    take_in(store)
    with pytest.raises(psycopg.errors.CheckViolation):
        db.execute(f"update sms_retry.{change}")


def test_cleanup_of_erased_messages_keeps_a_message_with_a_body(db: psycopg.Connection, store: Store) -> None:
    accepted(store)
    let_time_pass(db, days=8)

    assert store.cleanup(only_erased=True) == 0
    assert store.erase_bodies(7) == 1
    assert store.cleanup(only_erased=True) == 1

    assert (count(db, "sms_retry_queue"), with_body(db)) == (0, set())
    assert one(db, "select status from sms_retry.sms_messages") == "sent"


def test_cleanup_removes_erased_messages_and_messages_with_a_body(db: psycopg.Connection, store: Store) -> None:
    accepted(store, 1)
    let_time_pass(db, days=8)
    assert store.erase_bodies(1) == 1
    accepted(store, 2)
    let_time_pass(db, days=8)
    assert store.cleanup() == 2
