"""How the queue is: SQL's figures, one word about them, and the gauges that they are published as."""

from __future__ import annotations

from typing import Any

from sms_retry.store import Store

# Of the last day's sends, those that Twilio took in the end; less than this is worth a look, or a night.
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
    "RetriesPerMessage": "retries_per_message",
    "SentLastHour": "sent_last_hour",
    "CallbacksLastHour": "callbacks_last_hour",
    "CallbackLagSeconds": "callback_lag_seconds",
    "DeadTuples": "dead_tuples",
    "OldestSnapshotSeconds": "oldest_snapshot_seconds",
}
PERCENTAGES = {"SuccessRate": "success_rate", "RetrySuccessRate": "retry_success_rate"}


def check(store: Store) -> dict[str, Any]:
    """The figures of SQL's sms_retry_health, and `health_status`: healthy, warning or critical."""
    figures = store.health()
    return {**figures, "health_status": status(figures["success_rate"])}


def status(success_rate: float | None) -> str:
    """One word for a share from 0 to 1; where nothing ended, nothing is wrong."""
    if success_rate is None or success_rate >= WARNING:
        return "healthy"
    return "warning" if success_rate >= CRITICAL else "critical"


def gauges(figures: dict[str, Any]) -> dict[str, float]:
    """The metrics, by name; what nobody can say, such as a share of nothing, is left out."""
    found = {name: figures[figure] for name, figure in GAUGES.items() if figures[figure] is not None}
    shares = {name: figures[figure] for name, figure in PERCENTAGES.items() if figures[figure] is not None}
    return found | {name: 100 * share for name, share in shares.items()}
