"""The text of what has ended can be erased, and what has none is never sent again, whoever asks for it."""

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
    claimed,
    count,
    finish,
    number,
    one,
    receipt,
    sid,
    standing,
    take_in,
    unknown,
)

A_WEEK_AGO = datetime.now(UTC) - timedelta(days=7)


def bodies(db: psycopg.Connection) -> set[int]:
    """The messages that have their text."""
    return {row[0] for row in db.execute("select id from sms_retry.sms_messages where body is not null")}


def erased(db: psycopg.Connection, store: Store) -> None:
    """Everything that has ended loses its text."""
    let_time_pass(db, days=1, seconds=1)
    assert store.erase_bodies(1) > 0
    assert bodies(db) == set()


def test_only_what_ended_so_many_days_ago_loses_its_text(db: psycopg.Connection, store: Store) -> None:
    accepted(store, 1)
    finish(store, claimed(store, 2), "refused", code=21211)
    waiting, may_have_gone = take_in(store, 3), unknown(store, 4).message_id
    let_time_pass(db, days=1, hours=23)
    yesterday = accepted(store, 5).message_id
    assert store.erase_bodies(2) == 0

    let_time_pass(db, hours=2)

    assert store.erase_bodies(2) == 2
    assert store.erase_bodies(2) == 0
    assert bodies(db) == {waiting, may_have_gone, yesterday}


def test_a_late_failure_of_an_erased_message_is_its_end(db: psycopg.Connection, store: Store) -> None:
    claim = accepted(store)
    erased(db, store)

    assert receipt(store, sid(), "undelivered", 30003, claim.ticket, delays=(MINUTE,) * 3) == "settled"

    now = standing(db)
    assert (now.message, now.queue, now.reason, now.error_code) == ("undelivered", "failed", "body_erased", 30003)


def test_a_late_delivery_of_an_erased_message_is_believed(db: psycopg.Connection, store: Store) -> None:
    claim = accepted(store)
    erased(db, store)
    assert receipt(store, sid(), "delivered", None, claim.ticket) == "settled"
    assert standing(db)[:2] == ("delivered", "completed")


@pytest.mark.parametrize("force", [False, True])
def test_an_erased_message_cannot_be_sent_again_by_hand(db: psycopg.Connection, store: Store, force: bool) -> None:
    finish(store, claimed(store, 1), "refused", code=30005)
    held = unknown(store, 2, on_unknown="hold")
    let_time_pass(db, hours=73)
    assert store.release_unknown([held.ticket]) == ["unknown"]
    erased(db, store)

    for message_id in (1, held.message_id):
        assert not operate.retry(store, "anna", message_id, force)
    assert operate.requeue(store, "anna", 30005, A_WEEK_AGO, 10) == 0
    assert store.claim_due(10) == []


@pytest.mark.parametrize("outcome", ["refused", "deferred"])
def test_a_worker_that_thaws_after_the_text_is_gone_sends_nothing_again(
    db: psycopg.Connection, store: Store, outcome: str
) -> None:
    held = unknown(store, on_unknown="hold")
    let_time_pass(db, hours=73)
    store.release_unknown([held.ticket])
    erased(db, store)

    assert finish(store, held, outcome, code=30001, delays=(MINUTE,)) == "failed"


def test_an_application_that_logs_an_erased_message_as_sent_changes_nothing(
    db: psycopg.Connection, store: Store
) -> None:
    store.set_consent("*", number(), "opted_out")
    message = Message(number(), "Hello.", message_key="1")
    message_id = store.queue(message)
    erased(db, store)

    assert store.log_sent(message, sid()) == message_id
    assert (standing(db).message, count(db, "sms_attempts")) == ("failed", 0)


@pytest.mark.parametrize("table", ["sms_messages set body = null", "sms_retry_queue set body_erased = true"])
def test_what_waits_cannot_lose_its_text(db: psycopg.Connection, store: Store, table: str) -> None:
    take_in(store)
    with pytest.raises(psycopg.errors.CheckViolation):
        db.execute(f"update sms_retry.{table}")


def test_what_keeps_its_text_is_not_removed_where_texts_are_erased(db: psycopg.Connection, store: Store) -> None:
    accepted(store)
    let_time_pass(db, days=8)

    assert store.cleanup(only_erased=True) == 0
    assert store.erase_bodies(7) == 1
    assert store.cleanup(only_erased=True) == 1

    assert (count(db, "sms_retry_queue"), bodies(db)) == (0, set())
    assert one(db, "select status from sms_retry.sms_messages") == "sent"


def test_what_is_erased_is_removed_where_texts_are_kept_as_well(db: psycopg.Connection, store: Store) -> None:
    accepted(store, 1)
    let_time_pass(db, days=8)
    assert store.erase_bodies(1) == 1
    accepted(store, 2)
    let_time_pass(db, days=8)
    assert store.cleanup() == 2
