"""One message's story as a timeline: attempts, delivery receipts, actions by hand, and the next try."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise

from sms_retry import operate
from sms_retry.console.view import STATUSES, Status, duration, reason, relative
from sms_retry.readings import MessageDetails, RecordedAction, StoryStep

STEPS = {"taken in": Status("off", "inbox", "taken in"), "due": Status("wait", "clock", "due")}
TITLES = {
    "taken in": "Taken in",
    "accepted": "Twilio accepted it",
    "refused": "Twilio refused it",
    "unknown": "Unknown: it may have been sent",
    "due": "Next try",
}
BY_HAND = {
    "retry": "made it due now",
    "cancel": "cancelled it",
    "show": "viewed number and text",
}


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the story; `gap` is the time since the line before or, in the future, until this one."""

    at: datetime
    tone: str
    icon: str
    title: str
    gap: str = ""
    ticket: str | None = None
    sid: str | None = None
    code: int | None = None
    detail: str = ""


def story(
    steps: Iterable[StoryStep], actions: Iterable[RecordedAction], message: MessageDetails, now: datetime
) -> list[Event]:
    """The steps and the actions in order, and the message's end if it has a reason."""
    events = [*map(_step, steps), *map(_by_hand, actions)]
    if message.queue_status and message.ended and message.reason:
        status = STATUSES[message.status]
        title, why = status.word.capitalize(), reason(message.reason)
        events.append(Event(message.at, status.tone, status.icon, title, detail=why))
    events.sort(key=lambda event: event.at)
    return [events[0], *(_after(before, event, now) for before, event in pairwise(events))] if events else []


def _step(row: StoryStep) -> Event:
    status = STEPS.get(row.what) or STATUSES.get(row.what) or Status("off", "arrow", row.what)
    # An error that the message waits after has its own line above.
    wait = "" if (row.detail or "").startswith("error_") else reason(row.detail)
    return Event(
        at=row.at,
        tone=status.tone,
        icon=status.icon,
        title=TITLES.get(row.what, f"Delivery receipt: {status.word}"),
        ticket=row.ticket,
        sid=row.message_sid,
        code=row.error_code,
        detail=wait if row.what == "due" else operate.without_numbers(row.detail or ""),
    )


def _by_hand(row: RecordedAction) -> Event:
    title = f"{row.actor} {BY_HAND.get(row.action, row.action)}"
    return Event(row.at, "hand", "hand", title, detail="Nothing was changed." if row.result == "false" else "")


def _after(before: Event, event: Event, now: datetime) -> Event:
    gap = relative(event.at, now) if event.at > now else f"{duration(event.at - before.at)} later"
    return replace(event, gap="" if gap == "0 s later" else gap)
