"""Publishers and workers are killed: every ending is told, and nothing else. The short version of `make chaos`."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from local.postgres.server import Server
from local.stack import Stack, stack
from local.waiting import let_time_pass
from sms_retry.store import Store
from tests.chaos.events import published
from tests.chaos.publisher import STEPS, start
from tests.chaos.worker import KILLED, Kill
from tests.event_bus import Bus, event_bus
from tests.integration.examples import take_in

# The number of events that come twice if a publisher with 25 events is killed at a step.
TWICE = dict.fromkeys(STEPS, 0) | {"after the bus": 10, "before the confirmation": 25}


@pytest.fixture
def bus() -> Iterator[Bus]:
    with event_bus() as found:
        yield found


@pytest.fixture
def whole(server: Server, worker_id: str) -> Iterator[Stack]:
    with stack(server.create_database(f"sms_retry_published_{worker_id}")) as parts:
        yield parts


@pytest.mark.parametrize("step", STEPS)
def test_a_publisher_killed_at_one_step_loses_no_event(
    db: psycopg.Connection, store: Store, database_url: str, bus: Bus, step: str
) -> None:
    db.execute("select sms_retry.subscribe_sms_events(array['cancelled'])")
    ids = [take_in(store, n, message_key=f"order {n}") for n in range(1, 26)]
    for message_id in ids:
        db.execute("select sms_retry.cancel_sms_retry(%s)", [message_id])
    for kill in (Kill(step), None):
        publisher = start(database_url, bus.environment, kill)
        publisher.join(60)
        assert publisher.exitcode == (KILLED if kill else 0)
        let_time_pass(db, minutes=2)
    told = [event["message_id"] for event in bus.details]
    assert sorted(set(told)) == ids
    assert len(told) - len(ids) == TWICE[step]
    assert store.waiting_events() == (0, 0)


def test_every_ending_is_told_while_workers_and_publishers_are_killed(whole: Stack, bus: Bus) -> None:
    found = published(whole, bus, seed=1)

    assert not found.violations
    assert found.kills
    assert found.events >= 30
