"""Metrics, printed for CloudWatch (embedded metric format) in one namespace with one dimension."""

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

# The fields of a tally that process_retries returns.
RETURNED = ("recovered", "processed", "success", "failed", "rescheduled", "deferred", "unknown")
# The metric of each reason for a deferral.
DEFERRALS = {
    "quiet_hours": "QuietHoursDeferrals",
    "hold": "HoldDeferrals",
    "daily_limit": "DailyLimitDeferrals",
    "budget": "BudgetDeferrals",
    "given_back": "GivenBackDeferrals",
}
# An event with an earlier time is a copy, invoked by hand.
OLDEST_TICK = timedelta(hours=1)

# The stack's name: two stacks in one account count apart.
SERVICE = os.environ.get("POWERTOOLS_SERVICE_NAME", "sms-retry")
metrics = Metrics(namespace="SmsRetry", service=SERVICE)


def count(name: str, number: int = 1) -> None:
    metrics.add_metric(name, MetricUnit.Count, number)


def gauge(name: str, value: float) -> None:
    """A current value, in the unit that the end of its name stands for."""
    units = {"Seconds": MetricUnit.Seconds, "Rate": MetricUnit.Percent}
    metrics.add_metric(name, next((units[end] for end in units if name.endswith(end)), MetricUnit.Count), value)


def flush() -> None:
    """Print the metrics since the last call."""
    if metrics.metric_set:
        metrics.flush_metrics()


def tick(tally: Tally, event: Mapping[str, Any], started: float) -> dict[str, int]:
    """Count a worker's tally and give the counts that its handler returns; `started` is its `time.monotonic()`.

    TickSeconds begins at the time that the event was scheduled for, which is earlier if Lambda is late.
    """
    for name, number in _counted(tally).items():
        count(name, number)
    seconds = time.monotonic() - started
    scheduled, now = _scheduled(event), datetime.now(UTC)
    gauge("TickSeconds", max(seconds, (now - scheduled).total_seconds()) if scheduled else seconds)
    return {name: getattr(tally, name) for name in RETURNED} | {"duration_ms": int(seconds * 1000)}


def send(tally: Tally) -> None:
    """Count the outcome of one message that send_sms or retry_sms sent, in the metrics of the workers."""
    for name, number in _counted(tally).items():
        if number:
            count(name, number)


def receipt(recorded: Recorded) -> None:
    """Count a receipt: SettledCallbacks, NotedCallbacks, RepeatedCallbacks or UnheardOfCallbacks, by its effect.

    A zero is not printed: it would be a third of the line.
    """
    count(recorded.answer.title().replace("_", "") + "Callbacks")
    if recorded.hold_set:
        count("OpenedHolds")
    if recorded.unlisted:
        count("UnlistedMessages")


def _counted(tally: Tally) -> dict[str, int]:
    numbers = {
        name: getattr(tally, name)
        for name in (*RETURNED, "stale", "unlisted", "broken", "invalid", "not_allowed", "sent")
    }
    counted = {f"{name.title().replace('_', '')}Messages": number for name, number in numbers.items()}
    deferrals = {name: tally.deferrals[reason] for reason, name in DEFERRALS.items()}
    return {**counted, **deferrals, "OpenedHolds": tally.holds_set}


def _scheduled(event: Mapping[str, Any]) -> datetime | None:
    """The time that the event was scheduled for; None if the event has no such time or is not the schedule's own."""
    try:
        scheduled = datetime.fromisoformat(event["scheduled_time"])
        return scheduled if datetime.now(UTC) - scheduled < OLDEST_TICK else None
    except (KeyError, TypeError, ValueError):
        return None
