"""One message's story as a timeline: what we did, what Twilio said, what people did by hand, and what comes next."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise
from typing import Any

from sms_retry import operate
from sms_retry.console.view import STATUSES, Status, duration, reason, relative

STEPS = {"taken in": Status("off", "inbox", "taken in"), "due": Status("wait", "clock", "due")}
TITLES = {
    "taken in": "Taken in",
    "accepted": "Twilio took it",
    "refused": "Twilio refused it",
    "unknown": "It may have been sent: no answer to trust",
    "due": "Due again",
}
BY_HAND = {
    "retry": "wanted it sent now",
    "cancel": "called it off",
    "show": "looked at number and text",
}


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the story; `gap` is the time since the line before, or until it comes."""

    at: datetime
    tone: str
    icon: str
    title: str
    gap: str = ""
    ticket: str | None = None
    sid: str | None = None
    code: int | None = None
    detail: str = ""


def story(told: Iterable[Any], actions: Iterable[Any], message: Any, now: datetime) -> list[Event]:
    """The rows of sms_message_story and sms_actions_done, in order, and how the message ended, if that says why."""
    events = [*map(_told, told), *map(_by_hand, actions)]
    if message.queue_status and message.ended and message.reason:
        status = STATUSES[message.status]
        title, why = status.word.capitalize(), reason(message.reason)
        events.append(Event(message.at, status.tone, status.icon, title, detail=why))
    events.sort(key=lambda event: event.at)
    return [events[0], *(_after(before, event, now) for before, event in pairwise(events))] if events else []


def _told(row: Any) -> Event:
    status = STEPS.get(row.what) or STATUSES.get(row.what) or Status("off", "arrow", row.what)
    # What it is due again after has been told already, if that was an error.
    wait = "" if (row.detail or "").startswith("error_") else reason(row.detail)
    return Event(
        at=row.at,
        tone=status.tone,
        icon=status.icon,
        title=TITLES.get(row.what, f"Twilio says: {status.word}"),
        ticket=row.ticket,
        sid=row.message_sid,
        code=row.error_code,
        detail=wait if row.what == "due" else operate.without_numbers(row.detail or ""),
    )


def _by_hand(row: Any) -> Event:
    title = f"{row.actor} {BY_HAND.get(row.action, row.action)}"
    return Event(row.at, "hand", "hand", title, detail="It stayed as it was." if row.result == "false" else "")


def _after(before: Event, event: Event, now: datetime) -> Event:
    gap = relative(event.at, now) if event.at > now else f"{duration(event.at - before.at)} later"
    return replace(event, gap="" if gap == "0 s later" else gap)
