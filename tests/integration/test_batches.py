"""Many messages in one call: the same result as one call each, their counts, and calling a batch off."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.errors import InvalidParameterValue
from psycopg.rows import dict_row

from sms_retry import bulk
from sms_retry.intake import InvalidEvent
from sms_retry.store import Queued, Store
from sms_retry.values import Report, Ticket
from tests.integration.examples import (
    accepted,
    claimed,
    count,
    finish,
    number,
    one,
    take_in,
    unknown,
    wait_until_blocked,
)
from tests.integration.test_events import LEASE, record
from tests.tables import delete_all

Fields = dict[str, Any]

FIELDS = st.fixed_dictionaries(
    {
        "to": st.sampled_from(["+14155550123", "+14155550124", "+4407700900123", "+447700900123", "+49176", "x"]),
        "body": st.sampled_from(["Hello.", "  Hello.\n", "Bye.", " ", "x" * 1601, "€" * 200]),
    },
    optional={
        "message_key": st.sampled_from(["a", "b"]),
        "business_id": st.sampled_from(["default", "shop"]),
        "kind": st.sampled_from(["transactional", "marketing", "otp", "emergency", "spam"]),
        "on_unknown": st.sampled_from(["resend", "hold", "hope"]),
        "time_zone": st.sampled_from(["Europe/Paris", "Mars/Olympus"]),
        "scheduled_for": st.sampled_from(["2030-01-31T09:00:00+00:00", "1999-01-01T00:00:00Z"]),
        "expires_at": st.sampled_from(["2030-02-01T09:00:00+01:00", "9999-06-01T00:00:00Z"]),
        "sender": st.sampled_from(["+15005550006", "12345", "a sender that is too long"]),
        "batch": st.sampled_from(["spring", "x" * 256]),
        "media_urls": st.sampled_from([["https://example.com/a.png"], ["http://example.com/a.png"], []]),
        "content_sid": st.sampled_from(["HX" + "0" * 32, "HX"]),
        "content_variables": st.sampled_from([{"1": "x"}, ["x"]]),
    },
)
COLUMNS = """
    select m.message_key, m.business_id, m.to_number, m.body, m.kind, m.on_unknown, m.time_zone, m.status, m.sender,
        m.batch, m.segments, m.media_urls, m.content_sid, m.content_variables,
        m.expires_at - m.created_at > '1 year' as far, q.lane, q.status as queue_status,
        q.scheduled_for > now() + interval '1 hour' as is_scheduled, q.reason,
        q.retry_count, q.finished_at is not null as has_ended
    from sms_retry.sms_messages m join sms_retry.sms_retry_queue q on q.message_id = m.id
    order by m.id"""


def prepare(db: psycopg.Connection) -> None:
    """An opt-out, an opt-in and a business with a sender."""
    delete_all(db)
    db.execute("select sms_retry.set_sms_consent('shop', '+14155550124', 'opted_out')")
    db.execute("select sms_retry.set_sms_consent('*', '+447700900123', 'opted_in')")
    db.execute("insert into sms_retry.sms_senders (sender, business_id) values ('+15005550001', 'shop')")
    db.execute("select sms_retry.subscribe_sms_events(array['failed'])")


def stored(db: psycopg.Connection) -> tuple[list[Fields], list[tuple[Any, ...]]]:
    with db.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(COLUMNS).fetchall()
    events = db.execute("select type, message_key, business_id, batch, reason from sms_retry.sms_outbox order by id")
    return rows, events.fetchall()


def one_by_one(db: psycopg.Connection, messages: list[Fields]) -> list[tuple[int | None, str | None]]:
    """The message or the fault of each place."""
    results: list[tuple[int | None, str | None]] = []
    for message in messages:
        fields = {"to_number" if name == "to" else name: value for name, value in message.items()}
        if "content_variables" in fields:
            fields["content_variables"] = json.dumps(fields["content_variables"])
        types = {"media_urls": "::text[]", "content_variables": "::jsonb"}
        places = ", ".join(f"{name} => %s{types.get(name, '')}" for name in fields)
        try:
            found = one(db, f"select sms_retry.queue_sms_retry({places})", list(fields.values()))
            results.append((found, None))
        except psycopg.errors.InvalidParameterValue as error:
            results.append((None, (error.diag.message_primary or "").removeprefix("nothing was stored: ")))
    return numbered(results)


def at_once(store: Store, messages: list[Fields]) -> list[tuple[int | None, str | None]]:
    found = store.queue_many(json.dumps(messages), None)
    assert [each.place for each in found] == list(range(1, len(messages) + 1))
    return [(each.message_id, each.fault) for each in found]


def numbered(results: list[tuple[int | None, str | None]]) -> list[tuple[int | None, str | None]]:
    """The results with the messages numbered from 0, in the order in which they occur."""
    ids: dict[int, int] = {}
    return [(ids.setdefault(id, len(ids)) if id else None, fault) for id, fault in results]


@given(st.lists(FIELDS, max_size=3), st.lists(FIELDS, min_size=1, max_size=6))
def test_many_at_once_are_stored_as_one_by_one(
    db: psycopg.Connection, store: Store, earlier: list[Fields], messages: list[Fields]
) -> None:
    prepare(db)
    expected = one_by_one(db, earlier + messages)
    rows = stored(db)
    prepare(db)
    results = at_once(store, earlier) if earlier else []
    assert numbered(results + at_once(store, messages)) == expected
    assert stored(db) == rows


def texts(count: int, batch: str | None = None, **fields: Any) -> list[Fields]:
    return [{"to": number(n), "body": "Your parcel is here.", "kind": "otp", **fields} for n in range(1, count + 1)]


@pytest.mark.parametrize(
    ("message", "fault"),
    [
        (7, "the message must be a JSON object"),
        ({"to": 14155550123, "body": "Hello."}, "to must be text"),
        ({"to": "+14155550123", "body": "Hello.", "priority": 1}, "priority is not a field of this event"),
        ({"to": "+14155550123", "body": "Hello.", "+14155550123": 1}, "one name is not a field of this event"),
        (
            {"to": "+14155550123", "body": "Hello.", "message_key": ""},
            "message_key must be text of 1 to 255 characters",
        ),
        (
            {"to": "+14155550123", "body": "Hello.", "media_urls": "https://x.example"},
            "media_urls must be 1 to 10 https URLs",
        ),
        (
            {"to": "+14155550123", "body": "Hello.", "expires_at": "2030-02-30T00:00:00Z"},
            "scheduled_for and expires_at must be ISO 8601 times with an offset from UTC",
        ),
    ],
)
def test_a_message_with_a_wrong_field_is_named_by_its_place_and_the_others_are_stored(
    db: psycopg.Connection, store: Store, message: Any, fault: str
) -> None:
    rows = store.queue_many(json.dumps([*texts(1), message, *texts(1)]), None)
    assert [row.status for row in rows] == ["queued", None, "queued"]
    assert rows[1] == Queued(2, None, None, rows[1].fault)
    assert fault in (rows[1].fault or "")
    assert count(db, "sms_messages") == 2


@pytest.mark.parametrize("messages", ["[]", "{}", "null", "[" + ",".join(["{}"] * 10_001) + "]"])
def test_no_message_and_more_than_ten_thousand_are_refused(store: Store, messages: str) -> None:
    with pytest.raises(InvalidParameterValue, match="messages must be an array of 1 to 10000 objects"):
        store.queue_many(messages, None)


def test_a_repeated_call_stores_nothing_more(db: psycopg.Connection, store: Store) -> None:
    messages = json.dumps([{**text, "message_key": text["to"]} for text in texts(20)])
    assert store.queue_many(messages, "spring") == store.queue_many(messages, "spring")
    assert count(db, "sms_messages") == count(db, "sms_retry_queue") == 20


@pytest.mark.parametrize(("body", "is_same"), [("Your parcel is here.", True), ("Your parcel is late.", False)])
def test_a_key_that_another_transaction_stores_meanwhile_is_one_message(
    db: psycopg.Connection, database_url: str, store: Store, body: str, is_same: bool
) -> None:
    messages = [{**text, "message_key": text["to"]} for text in texts(3)]
    with psycopg.connect(database_url) as other, ThreadPoolExecutor(1) as background:
        other.execute("select sms_retry.queue_sms_retry(%s, %s, message_key => %s)", [number(2), body, number(2)])
        queued = background.submit(store.queue_many, json.dumps(messages), None)
        wait_until_blocked(db, other)
        other.commit()
        first, second, third = queued.result()
    assert [first.status, third.status] == ["queued", "queued"]
    assert (second.message_id == 1) is is_same
    assert (second.fault or "").startswith("message_key belongs to a message with another") is not is_same
    assert count(db, "sms_messages") == 3


def test_a_batch_is_counted_by_status(db: psycopg.Connection, store: Store) -> None:
    store.queue_many(json.dumps(texts(3)), "spring")
    accepted(store, 7, batch="spring")
    accepted(store, 8, batch="autumn")
    assert store.batch("spring") == {"queued": 3, "sent": 1}
    assert store.batch("winter") == {}


def test_cancelling_a_batch_ends_its_waiting_messages_and_no_other(db: psycopg.Connection, store: Store) -> None:
    db.execute("select sms_retry.subscribe_sms_events(array['cancelled'])")
    store.queue_many(json.dumps(texts(3)), "spring")
    take_in(store, 4, batch="autumn")
    accepted(store, 5, batch="spring")
    assert one(db, "select sms_retry.cancel_sms_batch('spring')") == 3
    assert one(db, "select sms_retry.cancel_sms_batch('spring')") == 0
    assert store.batch("spring") == {"cancelled": 3, "sent": 1}
    assert store.batch("autumn") == {"queued": 1}
    events = store.take_events(10, LEASE)
    assert [(event.type, event.batch, event.reason) for event in events] == 3 * [("cancelled", "spring", "called_off")]


def test_cancelling_a_batch_in_parts_ends_every_message_once(db: psycopg.Connection, store: Store) -> None:
    store.queue_many(json.dumps(texts(5)), "spring")
    assert [one(db, "select sms_retry.cancel_sms_batch('spring', 2)") for _ in range(4)] == [2, 2, 1, 0]


def test_a_message_on_its_way_is_not_sent_again_after_its_batch_was_cancelled(
    db: psycopg.Connection, store: Store
) -> None:
    minute = (timedelta(minutes=1),)
    sending = claimed(store, 1, batch="spring")
    accepted(store, 2, batch="spring")
    doubted = unknown(store, 3, batch="spring")
    assert one(db, "select sms_retry.cancel_sms_batch('spring')") == 0
    assert finish(store, sending, "refused", code=30001, delays=minute) == "failed"
    record(store, "failed", 2, code=30003)
    db.execute("update sms_retry.sms_retry_queue set claimed_at = now() - interval '1 hour' where status = 'unknown'")
    assert store.release_unknown([doubted.ticket]) == []
    assert store.batch("spring") == {"failed": 2, "unknown": 1}


def test_a_failed_message_is_not_requeued_after_its_batch_was_cancelled(db: psycopg.Connection, store: Store) -> None:
    finish(store, claimed(store, 1, batch="spring"), "refused", code=30003)
    one(db, "select sms_retry.cancel_sms_batch('spring')")
    assert one(db, "select sms_retry.requeue_failed_sms(30003, now() - interval '1 hour')") == 0


def test_a_receipt_that_explains_a_failure_is_recorded_after_its_batch_was_cancelled(
    db: psycopg.Connection, store: Store
) -> None:
    accepted(store, 1, batch="spring")
    record(store, "undelivered", 1)
    one(db, "select sms_retry.cancel_sms_batch('spring')")
    record(store, "undelivered", 1, code=30007)
    assert one(db, "select error_code from sms_retry.sms_messages") == 30007
    assert store.batch("spring") == {"undelivered": 1}


@pytest.mark.parametrize("outcome", ["refused", "deferred"])
def test_one_call_cancels_a_batch_while_a_worker_claims(
    db: psycopg.Connection, store: Store, database_url: str, outcome: str
) -> None:
    store.queue_many(json.dumps(texts(3)), "spring")
    with psycopg.connect(database_url) as worker, ThreadPoolExecutor(1) as pool:
        row = worker.execute("select id, attempt from sms_retry.claim_sms(1)").fetchone()
        cancelling = pool.submit(one, db, "select sms_retry.cancel_sms_batch('spring')")
        with psycopg.connect(database_url, autocommit=True) as watcher:
            wait_until_blocked(watcher, worker)
        worker.commit()
        assert cancelling.result() == 2
    assert row
    store.finish([Report(Ticket(*row), outcome, code=30001, delays=(timedelta(minutes=1),))])
    assert "queued" not in store.batch("spring")


def test_one_call_cancels_a_batch_while_a_worker_gives_a_message_back(
    db: psycopg.Connection, store: Store, database_url: str
) -> None:
    claim = claimed(store, 1, batch="spring")
    finishes = """select from sms_retry.finish_sms_retries(
        array[%s]::bigint[], array[1], array['deferred'], delays => array['{00:01}'])"""
    with psycopg.connect(database_url) as worker, ThreadPoolExecutor(1) as pool:
        worker.execute(finishes, [claim.ticket.id])
        cancelling = pool.submit(one, db, "select sms_retry.cancel_sms_batch('spring')")
        with psycopg.connect(database_url, autocommit=True) as watcher:
            wait_until_blocked(watcher, worker)
        worker.commit()
        assert cancelling.result() == 1
    assert store.batch("spring") == {"cancelled": 1}


def test_a_claim_does_not_wait_for_a_batch_that_is_being_cancelled(
    db: psycopg.Connection, store: Store, database_url: str
) -> None:
    store.queue_many(json.dumps(texts(5)), "spring")
    take_in(store, 6, batch="autumn")
    with psycopg.connect(database_url) as canceller:
        canceller.execute("select sms_retry.cancel_sms_batch('spring', 3)")
        assert [claim.message_id for claim in store.claim_due(10)] == [4, 5, 6]
        canceller.commit()
        assert store.claim_due(10) == []
    assert store.batch("spring") == {"cancelled": 3, "queued": 2}


def test_claims_between_the_parts_of_a_cancelled_batch_take_no_cancelled_message(
    db: psycopg.Connection, store: Store
) -> None:
    store.queue_many(json.dumps(texts(1_000)), "spring")
    cancelled, claimed = 0, []
    while part := one(db, "select sms_retry.cancel_sms_batch('spring', 100)"):
        cancelled += part
        claimed += store.claim_due(10)
    assert (cancelled, len({claim.message_id for claim in claimed})) == (1_000 - 90, 90)
    assert store.claim_due(10) == []
    assert store.batch("spring") == {"cancelled": 910, "queued": 90}
    failed = [Report(claim.ticket, "refused", code=30001, delays=(timedelta(minutes=1),)) for claim in claimed]
    assert set(store.finish(failed).values()) == {"failed"}


def test_a_list_of_messages_is_queued_and_each_invalid_one_is_named(db: psycopg.Connection, store: Store) -> None:
    first, second = texts(2)
    late = {**first, "kind": "transactional", "to": "+14155550123", "expires_at": "2026-01-31T11:01:00+00:00"}
    sent = {**first, "sent": {"provider_sid": "SM" + "0" * 32}}
    event = {"batch": "spring", "messages": [first, {"to": "x"}, second, late, sent]}
    # 3 o'clock at night in California.
    done = bulk.queue(store, event, "request", datetime(2026, 1, 31, 11, tzinfo=UTC))
    assert (done["batch"], done["queued"], done["message_ids"]) == ("spring", 2, [1, 2])
    assert [refusal["place"] for refusal in done["refused"]] == [2, 4, 5]
    assert "to must be a phone number" in done["refused"][0]["fault"]
    assert "sending hours" in done["refused"][1]["fault"]
    assert done["refused"][2]["fault"] == "sent is not a field of this event"
    assert store.batch("spring") == {"queued": 2}


def test_a_repeated_invocation_queues_nothing_more(db: psycopg.Connection, store: Store) -> None:
    event = {"messages": [*texts(2), *texts(1)]}
    now = datetime(2026, 1, 31, 11, tzinfo=UTC)
    assert bulk.queue(store, event, "request", now) == bulk.queue(store, event, "request", now)
    assert count(db, "sms_messages") == 3


@pytest.mark.parametrize("messages", [None, [], {}, [{}] * 10_001])
def test_a_list_without_messages_or_with_too_many_is_refused(store: Store, messages: Any) -> None:
    with pytest.raises(InvalidEvent, match="messages must be a list of 1 to 10000 messages"):
        bulk.queue(store, {"messages": messages}, "request", datetime(2026, 1, 31, 11, tzinfo=UTC))
