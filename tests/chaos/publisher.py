"""A publisher that is killed at a given step: the real publish_events in a separate process, ended by SIGKILL."""

from __future__ import annotations

import importlib.util
import itertools
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from multiprocessing.process import BaseProcess

import boto3
import psycopg

from local.aws.container import ROOT, LambdaContext
from local.stack import ENVIRONMENT
from sms_retry import publish, runtime
from sms_retry.store import Store
from sms_retry.values import Event
from tests.chaos.worker import DATABASE_AWAY, Kill, preload, processes
from tests.event_bus import ACCESS

STEPS = ("before the take", "after the take", "after the bus", "before the confirmation", "after the confirmation")

preload(__name__)
# boto3 reads its description of EventBridge for the first client, and keeps it.
boto3.client("events", region_name=ACCESS["AWS_DEFAULT_REGION"])

_spec = importlib.util.spec_from_file_location("publisher", ROOT / "functions" / "publish_events" / "app.py")
assert _spec
assert _spec.loader
app = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(app)


def start(database_url: str, bus: Mapping[str, str], kill: Kill | None = None) -> BaseProcess:
    """A publisher that empties the outbox once. `bus` is the environment of boto3. It exits as a worker does."""
    publisher = processes.Process(target=_publish, args=(database_url, bus, kill), name="publisher")
    publisher.start()
    return publisher


def _publish(database_url: str, bus: Mapping[str, str], kill: Kill | None) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.environ |= ENVIRONMENT | {"DATABASE_URL": database_url} | bus
    if kill:
        _install_hooks(kill)
    context = LambdaContext("publish_events", "512", time.monotonic() + 300)
    try:
        app.lambda_handler({}, context)
    except psycopg.OperationalError:
        sys.exit(DATABASE_AWAY)


def _install_hooks(kill: Kill) -> None:
    turns = itertools.count(1)

    def kill_at(step: str) -> None:
        if step == kill.step and next(turns) == kill.nth:
            os.kill(os.getpid(), signal.SIGKILL)

    class HookedStore(Store):
        def take_events(self, limit: int, lease: timedelta) -> list[Event]:
            kill_at("before the take")
            events = super().take_events(limit, lease)
            kill_at("after the take")
            return events

        def done_events(self, ids: Sequence[int]) -> None:
            kill_at("before the confirmation")
            super().done_events(ids)
            kill_at("after the confirmation")

    event_bus, store = publish.event_bus, HookedStore(runtime.database)

    def hooked_bus(name: str) -> publish.Put:
        put = event_bus(name)

        def hooked_put(events: Sequence[Event]) -> list[bool] | None:
            accepted = put(events)
            kill_at("after the bus")
            return accepted

        return hooked_put

    vars(runtime).update(store=lambda: store)
    vars(publish).update(event_bus=hooked_bus)
