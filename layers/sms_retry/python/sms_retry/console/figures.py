"""How the queue is, in one word and in six figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sms_retry.console.view import duration, reason


class Verdict(NamedTuple):
    """How it is, in a word and a sentence."""

    tone: str
    icon: str
    word: str
    because: str


class Tile(NamedTuple):
    """One figure, and the page that has more of it."""

    word: str
    figure: str
    more: str
    page: str
    tone: str = ""


def verdict(figures: Mapping[str, Any], holds: Sequence[Any]) -> Verdict:
    """The worst that the figures of `health.check` say; `holds` are the open ones."""
    shut = next((hold for hold in holds if hold.scope in ("account", "sender")), None)
    rate, overdue, status = figures["success_rate"], figures["overdue"], figures["health_status"]
    went = "Nothing has ended in the last day." if rate is None else f"{rate:.1%} of the last day's messages were sent."
    if shut:
        return Verdict("bad", "pause", "On hold", f"Nothing goes out: {reason(shut.reason)}. {went}")
    if status != "healthy":
        return Verdict("bad" if status == "critical" else "wait", "warning", status.capitalize(), went)
    if overdue:
        late = f"{overdue:,} more than two minutes late, the latest by {duration(figures['oldest_due_seconds'])}."
        return Verdict("wait", "clock", "Behind", f"{late} {went}")
    return Verdict("good", "check", "Healthy", went)


def tiles(figures: Mapping[str, Any]) -> list[Tile]:
    """The figures of `health.check` that are asked for first."""
    pending, due, sent = figures["pending"], figures["due"], figures["processing"]
    late, unknown, held, holds = (figures[name] for name in ("oldest_due_seconds", "unknown", "held_unknowns", "holds"))
    # Beyond it nobody has counted.
    due = f"{due:,}" if due < 10_000 else f"{due:,} or more"
    paid, about = figures["retry_success_rate"], "about " if figures["pending_is_estimate"] else ""
    return [
        Tile("Waiting", f"{about}{pending:,}", f"{due} due, {sent:,} being sent", "/waiting"),
        Tile("Oldest due", duration(late) if late else "–", "past its time", "/stuck", "wait" if late > 120 else ""),
        Tile("Unknown", f"{unknown:,}", "being asked about", "/stuck", "doubt" if unknown else ""),
        Tile("For a person", f"{held:,}", "may have been sent", "/stuck", "bad" if held else ""),
        Tile("Holds", f"{holds:,}", "nothing goes there", "/holds", "bad" if holds else ""),
        Tile("Sent by a retry", "–" if paid is None else f"{paid:.0%}", "of what failed first", "/ended?how=completed"),
    ]
