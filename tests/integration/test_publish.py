"""Publishing: every event reaches the bus at least once, whatever the bus refuses, and in the order of its message."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import timedelta

import jsonschema
import psycopg
import pytest

from local.aws.container import ROOT
from local.waiting import let_time_pass
from sms_retry import publish
from sms_retry.store import Store
from tests.event_bus import Bus, event_bus
from tests.integration.examples import accepted, five_minutes_left, one, take_in
from tests.integration.test_events import record, reply


@pytest.fixture
def bus(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bus]:
    with event_bus() as found:
        for name, value in found.environment.items():
            monkeypatch.setenv(name, value)
        yield found


@pytest.fixture(autouse=True)
def subscribed(db: psycopg.Connection) -> None:
    db.execute("select sms_retry.subscribe_sms_events(array['cancelled', 'failed', 'delivered', 'reply'])")


def cancelled(db: psycopg.Connection, store: Store, number: int) -> list[int]:
    ids = [take_in(store, n + 1, message_key=f"order {n}") for n in range(number)]
    for message_id in ids:
        db.execute("select sms_retry.cancel_sms_retry(%s)", [message_id])
    return ids


def run(store: Store) -> publish.Published:
    return publish.publish(store, publish.event_bus("messages"), five_minutes_left, 0)


def test_events_are_put_in_tens_and_confirmed(db: psycopg.Connection, store: Store, bus: Bus) -> None:
    ids = cancelled(db, store, 25)
    assert run(store) == publish.Published(published=25, failed=0)
    assert [event["message_id"] for event in bus.details] == ids
    assert {event["bus"] for event in bus.details} == {"messages"}
    assert bus.calls == [10, 10, 5]
    assert one(db, "select count(*) from sms_retry.sms_outbox") == 0
    assert run(store) == publish.Published(0, 0)


def test_a_refused_entry_is_put_again_and_an_accepted_one_is_not(
    db: psycopg.Connection, store: Store, bus: Bus
) -> None:
    bus.refuses = 3
    ids = cancelled(db, store, 30)
    failed = run(store).failed
    assert failed == 10
    for _ in range(5):
        let_time_pass(db, minutes=2)
        failed += run(store).failed
    assert sorted(event["message_id"] for event in bus.details) == ids
    assert bus.seen == len(ids) + failed
    assert store.waiting_events()[0] == 0


def test_a_throttled_bus_loses_nothing(db: psycopg.Connection, store: Store, bus: Bus) -> None:
    cancelled(db, store, 3)
    bus.is_throttled = True
    assert run(store) == publish.Published(published=0, failed=3)
    bus.is_throttled = False
    let_time_pass(db, minutes=2)
    assert run(store) == publish.Published(published=3, failed=0)


def test_a_later_ending_is_not_put_before_a_refused_earlier_one(db: psycopg.Connection, store: Store, bus: Bus) -> None:
    accepted(store)
    record(store, "failed", code=30005)
    record(store, "delivered")
    bus.refuses = 1
    assert run(store) == publish.Published(published=0, failed=2)
    assert bus.calls == [1]
    bus.refuses = 0
    let_time_pass(db, minutes=2)
    assert run(store).published == 2
    assert [event["detail_type"] for event in bus.details] == ["SMS failed", "SMS delivered"]
    assert bus.calls == [1, 1, 1]


def test_only_a_reply_has_a_number_and_a_text(db: psycopg.Connection, store: Store, bus: Bus) -> None:
    accepted(store)
    record(store, "delivered")
    reply(store, "Thanks!")
    run(store)
    delivered, replied = bus.details
    assert "+49176" not in json.dumps(delivered)
    assert replied["reply"]["body"] == "Thanks!"
    assert (replied["message_id"], replied["detail_type"]) == (1, "SMS reply")


def test_the_schema_describes_every_event(db: psycopg.Connection, store: Store, bus: Bus) -> None:
    schema = json.loads((ROOT / "docs/event.schema.json").read_text())
    cancelled(db, store, 1)
    reply(store, "Thanks!")
    run(store)
    for event in bus.details:
        assert event.pop("detail_type").startswith("SMS ")
        del event["bus"]
        jsonschema.validate(event, schema)
        assert set(schema["required"]) == event.keys() - {"reply"}


def test_a_lingering_publisher_looks_again_each_second(db: psycopg.Connection, store: Store, bus: Bus) -> None:
    seconds = iter(range(60, 0, -1))
    slept: list[float] = []

    def sleep(pause: float) -> None:
        slept.append(pause)
        if len(slept) == 2:
            cancelled(db, store, 1)

    left: Callable[[], float] = lambda: float(next(seconds))  # noqa: E731
    done = publish.publish(store, publish.event_bus("messages"), left, 20, sleep)
    assert done.published == 1
    assert len(slept) > 2
    assert timedelta(minutes=1) == publish.LEASE
