"""The state of the queue as one headline and six figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sms_retry.console.view import duration, reason
from sms_retry.readings import CurrentHold


class Headline(NamedTuple):
    """The state of the queue in a word and a sentence."""

    tone: str
    icon: str
    word: str
    because: str


class Tile(NamedTuple):
    """One figure, and the page with its details."""

    word: str
    figure: str
    more: str
    page: str
    tone: str = ""


def headline(figures: Mapping[str, Any], holds: Sequence[CurrentHold]) -> Headline:
    """The most serious of the figures of `health.check` and the holds."""
    everything = next((hold for hold in holds if hold.scope in ("account", "sender") and hold.key == "*"), None)
    rate, overdue, status = figures["success_rate"], figures["overdue"], figures["health_status"]
    sent = "No message ended in the last day." if rate is None else f"{rate:.1%} of the last day's messages were sent."
    if everything:
        return Headline(
            "bad", "pause", "On hold", f"The {everything.scope} sends nothing: {reason(everything.reason)}. {sent}"
        )
    if status != "healthy":
        return Headline("bad" if status == "critical" else "wait", "warning", status.capitalize(), sent)
    if overdue:
        late = f"Messages more than two minutes late: {overdue:,}, by up to {duration(figures['oldest_due_seconds'])}."
        return Headline("wait", "clock", "Behind", f"{late} {sent}")
    return Headline("good", "check", "Healthy", sent)


def tiles(figures: Mapping[str, Any]) -> list[Tile]:
    """The figures of `health.check` that an operator needs first."""
    pending, due, claimed = figures["pending"], figures["due"], figures["processing"]
    late, unknown, parked, holds = (
        figures[name] for name in ("oldest_due_seconds", "unknown", "held_unknowns", "holds")
    )
    # SQL's sms_retry_health counts no further.
    due = f"{due:,}" if due < 10_000 else f"{due:,} or more"
    rate, about = figures["retry_success_rate"], "about " if figures["pending_is_estimate"] else ""
    return [
        Tile("Waiting", f"{about}{pending:,}", f"{due} due, {claimed:,} being sent", "/waiting"),
        Tile(
            "Oldest due", duration(late) if late else "–", "past its due time", "/stuck", "wait" if late > 120 else ""
        ),
        Tile("Unknown", f"{unknown:,}", "Twilio is being asked", "/stuck", "doubt" if unknown else ""),
        Tile("Parked", f"{parked:,}", "a person decides", "/stuck", "bad" if parked else ""),
        Tile("Holds", f"{holds:,}", "nothing is sent there", "/holds", "bad" if holds else ""),
        Tile("Sent by a retry", "–" if rate is None else f"{rate:.0%}", "of retried messages", "/ended?how=completed"),
    ]
