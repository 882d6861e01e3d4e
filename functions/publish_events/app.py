"""Every minute: puts the events of the outbox on the event bus, and looks for more until the next tick."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Any

from sms_retry import metrics, publish, runtime, settings


@runtime.invocation
def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    given = settings.publishing(os.environ)
    store = runtime.store()
    done = publish.publish(
        store, publish.event_bus(given.event_bus), runtime.seconds_left(context), given.linger_seconds
    )
    waiting, oldest_seconds = store.waiting_events()
    metrics.count("PublishedEvents", done.published)
    metrics.count("RefusedEvents", done.failed)
    metrics.gauge("WaitingEvents", waiting)
    metrics.gauge("OldestEventSeconds", oldest_seconds)
    return {**asdict(done), "waiting": waiting}
