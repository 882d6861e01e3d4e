"""The outbox: endings and replies become events, in order, once committed, and only where they are subscribed to."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import psycopg
import pytest
from psycopg.errors import InvalidParameterValue

from local.waiting import let_time_pass
from sms_retry import delivery
from sms_retry.store import Store
from sms_retry.values import Event, Final, Message, Receipt, Reply
from tests.integration.examples import (
    accepted,
    claimed,
    count,
    finish,
    number,
    one,
    sid,
    take_in,
    unknown,
)

TYPES = ["delivered", "undelivered", "failed", "expired", "cancelled", "unknown", "reply"]
LEASE = timedelta(minutes=1)


@pytest.fixture
def subscribed(db: psycopg.Connection) -> None:
    db.execute("select sms_retry.subscribe_sms_events(%s)", [TYPES])


def told(store: Store) -> list[tuple[str, int | None, int | None, str | None]]:
    """All events, each confirmed: type, message, code and reason."""
    events = store.take_events(1000, LEASE)
    store.done_events([event.id for event in events])
    return [(event.type, event.message_id, event.error_code, event.reason) for event in events]


def record(store: Store, status: str, n: int = 1, code: int | None = None) -> None:
    """Record a receipt of the message that Twilio has as `sid(n)`."""
    reason = "no_code" if code is None else "final"
    verdict = None if status in ("delivered", "sent") else Final(reason=reason)
    store.record_delivery(Receipt(sid(n), status, code, None, number(n)), verdict)


def every_ending(db: psycopg.Connection, store: Store) -> None:
    """One message for each ending, in the order of TYPES."""
    accepted(store, 1)
    record(store, "delivered", 1)
    accepted(store, 2)
    record(store, "undelivered", 2, code=30005)
    finish(store, claimed(store, 3), "refused", code=21211, reason="invalid")
    finish(store, claimed(store, 4), "expired")
    db.execute("select sms_retry.cancel_sms_retry(%s)", [take_in(store, 5)])
    doubted = unknown(store, 6, on_unknown="hold")
    let_time_pass(db, hours=73)
    store.release_unknown([doubted.ticket])


def reply(store: Store, body: str, message_sid: str = "SMreply", wish: str | None = None, n: int = 1) -> bool:
    return delivery.apply_reply(store, Reply(message_sid, number(n), wish, (), "+15005550006", body))  # type: ignore[arg-type]


@pytest.mark.usefixtures("subscribed")
def test_every_ending_has_its_event(db: psycopg.Connection, store: Store) -> None:
    every_ending(db, store)
    assert told(store) == [
        ("delivered", 1, None, None),
        ("undelivered", 2, 30005, "final"),
        ("failed", 3, 21211, "invalid"),
        ("expired", 4, None, None),
        ("cancelled", 5, None, "called_off"),
        ("unknown", 6, None, "held"),
    ]
    assert told(store) == []


@pytest.mark.usefixtures("subscribed")
def test_what_has_not_ended_has_no_event(db: psycopg.Connection, store: Store) -> None:
    accepted(store, 1)
    take_in(store, 2)
    finish(store, claimed(store, 3), "refused", code=30001, delays=(timedelta(minutes=1),))
    finish(store, claimed(store, 4), "deferred", delays=(timedelta(minutes=1),), reason="quiet_hours")
    unknown(store, 5)
    record(store, "sent", 1)
    assert told(store) == []


@pytest.mark.usefixtures("subscribed")
def test_an_event_has_the_key_business_and_batch_of_its_message(store: Store, db: psycopg.Connection) -> None:
    message = Message(number(), "Hello.", message_key="order 7", business_id="shop", batch="spring", kind="otp")
    db.execute("select sms_retry.cancel_sms_retry(%s)", [store.queue(message)])
    (event,) = store.take_events(1, LEASE)
    assert (event.message_key, event.business_id, event.batch, event.detail) == ("order 7", "shop", "spring", None)


@pytest.mark.usefixtures("subscribed")
def test_the_endings_of_one_message_keep_their_order(db: psycopg.Connection, store: Store) -> None:
    accepted(store)
    record(store, "failed", code=30005)
    record(store, "delivered")
    assert [event[0] for event in told(store)] == ["failed", "delivered"]


@pytest.mark.usefixtures("subscribed")
def test_a_failure_without_a_code_is_told_again_with_its_code(db: psycopg.Connection, store: Store) -> None:
    accepted(store)
    record(store, "failed")
    record(store, "failed", code=30005)
    assert [event[:3] for event in told(store)] == [("failed", 1, None), ("failed", 1, 30005)]


@pytest.mark.usefixtures("subscribed")
def test_a_repeated_receipt_is_no_second_event(db: psycopg.Connection, store: Store) -> None:
    accepted(store)
    record(store, "delivered")
    record(store, "delivered")
    assert len(told(store)) == 1


@pytest.mark.usefixtures("subscribed")
def test_an_opt_out_ends_waiting_messages_with_an_event_each(db: psycopg.Connection, store: Store) -> None:
    take_in(store)
    take_in(store, message_key="second")
    store.set_consent("*", number(), "opted_out")
    take_in(store, message_key="third")
    assert told(store) == [("failed", n, None, "opted_out") for n in (1, 2, 3)]


@pytest.mark.usefixtures("subscribed")
def test_a_message_that_the_application_sent_itself_has_not_failed(db: psycopg.Connection, store: Store) -> None:
    store.set_consent("*", number(), "opted_out")
    store.log_sent(Message(number(), "Hello."), sid())
    assert told(store) == []


@pytest.mark.usefixtures("subscribed")
def test_an_ending_that_is_rolled_back_has_no_event(db: psycopg.Connection, store: Store) -> None:
    message_id = take_in(store)
    with db.transaction(force_rollback=True):
        db.execute("select sms_retry.cancel_sms_retry(%s)", [message_id])
    assert told(store) == []


def test_without_a_subscription_nothing_is_written(db: psycopg.Connection, store: Store) -> None:
    pages = """
        select sum(pg_relation_size(c.oid)) from pg_class c left join pg_index i on i.indexrelid = c.oid
        where 'sms_retry.sms_outbox'::regclass in (c.oid, i.indrelid)"""
    numbered = "select is_called from sms_retry.sms_outbox_id_seq"
    before = one(db, pages)
    every_ending(db, store)
    store.set_consent("*", number(7), "opted_out")
    take_in(store, 7)
    reply(store, "Thanks!")
    assert one(db, pages) == before
    assert one(db, numbered) is False
    assert count(db, "sms_replies") == 0
    db.execute("select sms_retry.subscribe_sms_events(%s)", [["failed"]])
    take_in(store, 7, message_key="heard")
    assert one(db, pages) > before
    assert one(db, numbered) is True


def test_only_subscribed_types_are_written(db: psycopg.Connection, store: Store) -> None:
    db.execute("select sms_retry.subscribe_sms_events(%s)", [["failed", "expired"]])
    every_ending(db, store)
    reply(store, "Thanks!")
    assert [event[0] for event in told(store)] == ["failed", "expired"]


def test_an_unknown_type_is_refused(db: psycopg.Connection) -> None:
    with pytest.raises(InvalidParameterValue, match="types must be delivered"):
        db.execute("select sms_retry.subscribe_sms_events(%s)", [["failed", "sent"]])


def test_a_later_subscription_replaces_the_earlier_one(db: psycopg.Connection) -> None:
    for types in (["failed", "reply"], ["failed", "delivered"], ["failed", "delivered"]):
        db.execute("select sms_retry.subscribe_sms_events(%s)", [types])
    assert one(db, "select array_agg(type order by type) from sms_retry.sms_event_types") == ["delivered", "failed"]
    db.execute("select sms_retry.subscribe_sms_events(null)")
    assert count(db, "sms_event_types") == 0


@pytest.mark.usefixtures("subscribed")
def test_an_event_is_leased_to_one_consumer_and_returned_after_its_lease(db: psycopg.Connection, store: Store) -> None:
    every_ending(db, store)
    taken = store.take_events(4, LEASE)
    others = store.take_events(100, LEASE)
    assert [event.id for event in taken + others] == [1, 2, 3, 4, 5, 6]
    assert store.take_events(100, LEASE) == []
    store.done_events([event.id for event in others])
    let_time_pass(db, seconds=61)
    assert [event.id for event in store.take_events(100, LEASE)] == [1, 2, 3, 4]


@pytest.mark.usefixtures("subscribed")
def test_an_event_waits_for_the_earlier_event_of_its_message(db: psycopg.Connection, store: Store) -> None:
    accepted(store, 1)
    record(store, "failed", code=30005)
    (first,) = store.take_events(100, LEASE)
    record(store, "delivered")
    assert store.take_events(100, LEASE) == []
    store.done_events([first.id])
    assert [event.type for event in store.take_events(100, LEASE)] == ["delivered"]


@pytest.mark.usefixtures("subscribed")
def test_an_event_waits_while_another_consumer_takes_the_earlier_one(
    db: psycopg.Connection, open_store: Callable[[], Store], database_url: str
) -> None:
    store = open_store()
    accepted(store, 1)
    record(store, "failed", code=30005)
    record(store, "delivered")
    finish(store, claimed(store, 2), "expired")
    with psycopg.connect(database_url) as other:
        assert len(other.execute("select * from sms_retry.take_sms_events(1)").fetchall()) == 1
        assert [event.type for event in store.take_events(100, LEASE)] == ["expired"]


@pytest.mark.usefixtures("subscribed")
def test_a_reply_is_an_event_with_the_message_that_it_answers(db: psycopg.Connection, store: Store) -> None:
    accepted(store, batch="spring")
    assert reply(store, "Thanks!")
    assert reply(store, "Thanks!")
    (event,) = store.take_events(100, LEASE)
    assert (event.type, event.message_id, event.batch) == ("reply", 1, "spring")
    assert event.detail == {"from": number(), "to": "+15005550006", "body": "Thanks!", "sid": "SMreply"}


@pytest.mark.usefixtures("subscribed")
def test_a_reply_answers_only_a_message_of_the_last_three_days(db: psycopg.Connection, store: Store) -> None:
    accepted(store)
    let_time_pass(db, days=3, hours=1)
    reply(store, "Who is this?")
    assert told(store) == [("reply", None, None, None)]


@pytest.mark.usefixtures("subscribed")
def test_a_stop_is_an_event_too_and_counts_once(db: psycopg.Connection, store: Store) -> None:
    take_in(store)
    for _ in range(2):
        reply(store, "STOP", wish="stop")
    assert [event[0] for event in told(store)] == ["failed", "reply"]


@pytest.mark.usefixtures("subscribed")
def test_erasing_a_person_removes_their_replies(db: psycopg.Connection, store: Store) -> None:
    reply(store, "Mine.", "SM1", n=1)
    reply(store, "Theirs.", "SM2", n=2)
    db.execute("select sms_retry.erase_sms_recipient(%s)", [number(1)])
    assert [event.detail and event.detail["body"] for event in store.take_events(100, LEASE)] == ["Theirs."]


@pytest.mark.usefixtures("subscribed")
def test_events_that_no_consumer_takes_are_removed_after_a_week(db: psycopg.Connection, store: Store) -> None:
    finish(store, claimed(store, 1), "expired")
    let_time_pass(db, days=8)
    finish(store, claimed(store, 2), "expired")
    let_time_pass(db, seconds=5)
    assert (store.waiting_events()[0], store.waiting_events()[1] > 600_000) == (2, True)
    assert store.cleanup_events() == 1
    assert store.cleanup_events() == 0
    assert told(store) == [("expired", 2, None, None)]


def test_the_events_of_a_message_show_no_text(store: Store) -> None:
    shown = repr(Event(1, "reply", None, 1, None, None, None, None, None, {"body": "secret"}))  # type: ignore[arg-type]
    assert "secret" not in shown
