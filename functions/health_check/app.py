"""Every fifteen minutes: how the queue is, in numbers and in one word."""

from __future__ import annotations

from typing import Any

from sms_retry import runtime

WARNING, CRITICAL = 0.8, 0.6


@runtime.invocation
def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    health = runtime.store().health()
    rate = health["success_rate"]
    status = "healthy"
    if rate is not None and rate < WARNING:
        status = "critical" if rate < CRITICAL else "warning"
    runtime.count("DueMessages", health["due"])
    runtime.count("HeldMessages", health["holds"])
    return {**health, "health_status": status}
