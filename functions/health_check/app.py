"""Every 15 minutes: publishes the health of the queue as metrics, returns it, and folds the usage."""

from __future__ import annotations

from typing import Any

from sms_retry import health, metrics, runtime

# The seconds that one call may take, and the rows after which another one follows.
ONE_FOLD, MANY_ROWS = 10.0, 50_000


@runtime.invocation
def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    store = runtime.store()
    figures = health.check(store)
    for name, value in health.gauges(figures).items():
        metrics.gauge(name, value)
    seconds_left = runtime.seconds_left(context)
    while seconds_left() > ONE_FOLD and store.fold_usage() > MANY_ROWS:
        pass
    return figures
