"""Puts the events of the outbox on an EventBridge bus, each at least once, and a message's own endings in order."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any

from sms_retry.store import Store
from sms_retry.values import Event

SOURCE = "sms-retry"
# Of PutEvents: https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEvents.html
MOST_ENTRIES = 10
TAKEN_AT_ONCE = 100
# An event that was not confirmed is taken again after this time.
LEASE = timedelta(minutes=1)
# The time that one hundred events may take (seconds).
ONE_TURN = 10.0

# Puts events on the bus, and returns whether each was accepted. None: the bus could not be asked.
Put = Callable[[Sequence[Event]], list[bool] | None]

logger = logging.getLogger("sms-retry")


@dataclass(slots=True)
class Published:
    """The number of events that EventBridge accepted, and of those that it refused and that come again."""

    published: int = 0
    failed: int = 0


def publish(
    store: Store,
    put: Put,
    seconds_left: Callable[[], float],
    linger: float,
    sleep: Callable[[float], None] = time.sleep,
) -> Published:
    """Publish until no event waits, and look again each second for `linger` seconds."""
    total, until = Published(), seconds_left() - linger
    while seconds_left() > ONE_TURN:
        events = store.take_events(TAKEN_AT_ONCE, LEASE)
        done = _put_all(put, events)
        if done:
            store.done_events(done)
        total.published += len(done)
        total.failed += len(events) - len(done)
        if events and len(done) == len(events):
            continue
        # EventBridge refuses entries while it is busy, so the next call waits too.
        if seconds_left() <= until:
            break
        sleep(1)
    return total


def entry(event: Event, bus: str) -> dict[str, Any]:
    """One entry of PutEvents. docs/event.schema.json describes its detail."""
    detail: dict[str, Any] = {
        "id": event.id,
        "type": event.type,
        "at": event.at.isoformat(),
        "message_id": event.message_id,
        "message_key": event.message_key,
        "business_id": event.business_id,
        "batch": event.batch,
        "error_code": event.error_code,
        "reason": event.reason,
    }
    if event.detail is not None:
        detail["reply"] = event.detail
    return {
        "EventBusName": bus,
        "Source": SOURCE,
        "DetailType": f"SMS {event.type}",
        "Time": event.at,
        "Detail": json.dumps(detail),
    }


def event_bus(bus: str) -> Put:
    """Puts events on this bus of the account. Most ticks have no event, so boto3 is imported for the first one."""

    @cache
    def client() -> Any:
        import boto3

        return boto3.client("events")

    def put(events: Sequence[Event]) -> list[bool] | None:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            answer = client().put_events(Entries=[entry(event, bus) for event in events])
        except (BotoCoreError, ClientError):
            logger.exception("events could not be put on the bus")
            return None
        return ["ErrorCode" not in result for result in answer["Entries"]]

    return put


def _put_all(put: Put, events: Sequence[Event]) -> list[int]:
    """Put events ten at a time; the ids of the accepted ones. After a refusal no later event of its message is put."""
    waiting, done = list(events), []
    refused: set[int | None] = set()
    while waiting:
        tens = _next_tens(waiting)
        accepted = put(tens)
        if accepted is None:
            break
        done += [event.id for event, is_accepted in zip(tens, accepted, strict=True) if is_accepted]
        refused |= {event.message_id for event, is_accepted in zip(tens, accepted, strict=True) if not is_accepted}
        refused.discard(None)
        put_now = {event.id for event in tens}
        waiting = [event for event in waiting if event.id not in put_now and event.message_id not in refused]
    return done


def _next_tens(waiting: Sequence[Event]) -> list[Event]:
    """The next events, at most one of each message: EventBridge keeps no order within a call."""
    chosen: list[Event] = []
    of: set[int] = set()
    for event in waiting:
        if len(chosen) < MOST_ENTRIES and event.message_id not in of:
            chosen.append(event)
        if event.message_id is not None:
            of.add(event.message_id)
    return chosen
