"""Every 15 minutes: publishes the health of the queue as metrics, and returns it."""

from __future__ import annotations

from typing import Any

from sms_retry import health, metrics, runtime


@runtime.invocation
def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    figures = health.check(runtime.store())
    for name, value in health.gauges(figures).items():
        metrics.gauge(name, value)
    return figures
