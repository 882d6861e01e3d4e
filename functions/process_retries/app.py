"""Every minute: recovers the claims of dead workers, claims the messages that are due, and sends them."""

from __future__ import annotations

import os
import time
from functools import partial
from typing import Any

from sms_retry import metrics, runtime, scale_out, settings, worker


@runtime.invocation
def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    started = time.monotonic()
    given = settings.working(os.environ)
    with runtime.sender() as send:
        tally = worker.drain(
            runtime.store(),
            send,
            runtime.seconds_left(context),
            given.sender.concurrency,
            scale_out.most_workers(event, given.max_workers),
            partial(scale_out.call_workers, event, context),
            # A worker that another worker called is there for a backlog only.
            linger=0 if event.get("called") else given.linger_seconds,
            only_to=given.sender.only_to,
        )
    return metrics.tick(tally, event, started)
