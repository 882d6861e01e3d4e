"""What is counted: CloudWatch reads it off what a function prints, under one namespace and one dimension."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools import Metrics
from aws_lambda_powertools.metrics import MetricUnit

if TYPE_CHECKING:
    from sms_retry.delivery import Recorded
    from sms_retry.worker import Tally

# Of a tally, what a tick returns.
RETURNED = ("recovered", "processed", "success", "failed", "rescheduled", "deferred", "unknown")
# Why a message was not sent at its time, and the metric that counts it.
DEFERRALS = {
    "quiet_hours": "QuietHoursDeferrals",
    "hold": "HoldDeferrals",
    "daily_limit": "DailyLimitDeferrals",
    "given_back": "GivenBackDeferrals",
}
# An event that is older was kept by somebody, to be invoked by hand.
OLDEST_TICK = timedelta(hours=1)

# The stack's name: two stacks in one account count apart.
SERVICE = os.environ.get("POWERTOOLS_SERVICE_NAME", "sms-retry")
metrics = Metrics(namespace="SmsRetry", service=SERVICE)


def count(name: str, number: int = 1) -> None:
    metrics.add_metric(name, MetricUnit.Count, number)


def gauge(name: str, value: float) -> None:
    """A figure as it is now, in the unit that its name ends with."""
    units = {"Seconds": MetricUnit.Seconds, "Rate": MetricUnit.Percent}
    metrics.add_metric(name, next((units[end] for end in units if name.endswith(end)), MetricUnit.Count), value)


def flush() -> None:
    """Print what was counted since the last time."""
    if metrics.metric_set:
        metrics.flush_metrics()


def tick(tally: Tally, event: Mapping[str, Any], started: float) -> dict[str, int]:
    """A tick's tally as metrics, and as what its handler returns; `started` is `time.monotonic()` at the start.

    A tick begins when the clock in the event strikes, which is before the function does when Lambda is late.
    """
    for name, number in _counted(tally).items():
        count(name, number)
    seconds = time.monotonic() - started
    struck, now = _struck(event), datetime.now(UTC)
    gauge("TickSeconds", max(seconds, (now - struck).total_seconds()) if struck else seconds)
    return {name: getattr(tally, name) for name in RETURNED} | {"duration_ms": int(seconds * 1000)}


def send(tally: Tally) -> None:
    """What became of one message that was sent by itself, in the metrics of the ticks."""
    for name, number in _counted(tally).items():
        if number:
            count(name, number)


def receipt(recorded: Recorded) -> None:
    """What a receipt changed, as metrics: SettledCallbacks, NotedCallbacks, RepeatedCallbacks or UnheardOfCallbacks."""
    count(recorded.answer.title().replace("_", "") + "Callbacks")
    count("OpenedHolds", recorded.opened)
    count("UnlistedMessages", recorded.unlisted)


def _counted(tally: Tally) -> dict[str, int]:
    numbers = {name: getattr(tally, name) for name in (*RETURNED, "stale", "unlisted", "sent")}
    counted = {f"{name.capitalize()}Messages": number for name, number in numbers.items()}
    deferrals = {name: tally.deferrals[reason] for reason, name in DEFERRALS.items()}
    return {**counted, **deferrals, "OpenedHolds": tally.opened}


def _struck(event: Mapping[str, Any]) -> datetime | None:
    """When the clock struck; None where the event does not say, or cannot be the clock's own."""
    try:
        struck = datetime.fromisoformat(event["scheduled_time"])
        return struck if datetime.now(UTC) - struck < OLDEST_TICK else None
    except (KeyError, TypeError, ValueError):
        return None
