"""Every minute: take back what a dead worker held, claim what is due, send it again."""

from __future__ import annotations

import time
from typing import Any

from sms_retry import metrics, runtime, worker


@runtime.invocation
def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    started = time.monotonic()
    with runtime.sender() as send:
        tally = worker.drain(
            runtime.store(),
            send,
            runtime.seconds_left(context),
            runtime.concurrency(),
            *runtime.more_workers(event, context),
        )
    return metrics.tick(tally, event, started)
