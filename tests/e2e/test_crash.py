"""Workers are killed at every step: the short version of `make chaos`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.postgres.server import Server, postgres
from local.stack import Stack, stack
from tests.chaos.crash import AT_ANY_MOMENT, WITH_A_RESTART, Plan, crash
from tests.chaos.worker import STEPS


@pytest.fixture(scope="module")
def whole(server: Server, worker_id: str) -> Iterator[Stack]:
    with stack(server.create_database(f"sms_retry_crash_{worker_id}")) as parts:
        yield parts


@pytest.mark.parametrize(("number", "step"), list(enumerate(STEPS)), ids=STEPS)
def test_workers_killed_at_one_step_lose_nothing_and_send_nothing_twice(whole: Stack, number: int, step: str) -> None:
    found = crash(whole, Plan(step, workers=1 + number % 2, seed=number, messages=10))

    assert not found.violations
    assert found.kills
    assert found.exactly_once == 10


@pytest.mark.parametrize("step", ["after the claim", "during the POST", "after Twilio accepted"])
def test_a_killed_worker_costs_a_paced_sender_no_segments_for_longer_than_a_minute(whole: Stack, step: str) -> None:
    found = crash(whole, Plan(step, workers=1, seed=4, messages=12, pace=4))

    assert not found.violations
    assert found.kills
    assert found.exactly_once == 12


@pytest.mark.parametrize("workers", [2, 4])
def test_workers_killed_at_random_lose_nothing_and_send_nothing_twice(whole: Stack, workers: int) -> None:
    found = crash(whole, Plan(AT_ANY_MOMENT, workers, seed=workers, messages=10))

    assert not found.violations
    assert found.exactly_once == 10


def test_a_crash_of_postgres_too_loses_nothing_and_sends_nothing_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    # The test restarts the server, so it must not use the server of LOCAL_DATABASE_URL.
    monkeypatch.delenv("LOCAL_DATABASE_URL", raising=False)
    programs = os.environ.get("POSTGRES_BIN")
    with postgres(Path(programs) if programs else None, durable=False) as server:
        # Its commits must survive a crash of its processes, though not of the machine.
        url = server.create_database("sms_retry_crash") + "?options=-csynchronous_commit%3Don"
        with stack(url) as parts:
            found = crash(parts, Plan(WITH_A_RESTART, workers=2, seed=1, messages=10), server.restart)

    assert not found.violations
    assert found.exactly_once == 10
