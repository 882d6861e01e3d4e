"""The health of the queue: the figures of SQL, `health_status` for all of them, and their metrics."""

from __future__ import annotations

from typing import Any

from sms_retry.store import Store

# A success rate of the last 24 hours below these is a warning, or critical.
WARNING, CRITICAL = 0.8, 0.6

GAUGES = {
    "PendingMessages": "pending",
    "DueMessages": "due",
    "OverdueMessages": "overdue",
    "OldestDueSeconds": "oldest_due_seconds",
    "ProcessingMessages": "processing",
    "OldestClaimSeconds": "oldest_claim_seconds",
    "UnsettledMessages": "unknown",
    "HeldUnknowns": "held_unknowns",
    "OpenHolds": "holds",
    "SendersAtPace": "senders_at_pace",
    "RetriesPerMessage": "retries_per_message",
    "SentLastHour": "sent_last_hour",
    "CallbacksLastHour": "callbacks_last_hour",
    "CallbackLagSeconds": "callback_lag_seconds",
    "DeliverySeconds": "delivery_seconds",
    "DeadTuples": "dead_tuples",
    "OldestSnapshotSeconds": "oldest_snapshot_seconds",
    "WaitingEvents": "waiting_events",
    "OldestEventSeconds": "oldest_event_seconds",
}
PERCENTAGES = {"SuccessRate": "success_rate", "RetrySuccessRate": "retry_success_rate", "DeliveryRate": "delivery_rate"}

# Figures that the functions of release 0.1 do not have.
NEW: dict[str, Any] = {"delivery_rate": None, "delivery_seconds": None}


def check(store: Store) -> dict[str, Any]:
    """The figures of sms_retry_health, of events and senders, and `health_status`: healthy, warning or critical."""
    waiting, oldest_seconds = store.waiting_events()
    figures = NEW | store.health() | {"waiting_events": waiting, "oldest_event_seconds": oldest_seconds}
    figures["senders_at_pace"] = store.senders_at_pace()
    return {**figures, "health_status": status(figures["success_rate"])}


def status(success_rate: float | None) -> str:
    """healthy, warning or critical, for a share from 0 to 1; healthy if no message ended."""
    if success_rate is None or success_rate >= WARNING:
        return "healthy"
    return "warning" if success_rate >= CRITICAL else "critical"


def gauges(figures: dict[str, Any]) -> dict[str, float]:
    """The metrics, by name; a figure without a value, such as a share of no messages, is left out."""
    found = {name: figures[figure] for name, figure in GAUGES.items() if figures[figure] is not None}
    shares = {name: figures[figure] for name, figure in PERCENTAGES.items() if figures[figure] is not None}
    return found | {name: 100 * share for name, share in shares.items()}
