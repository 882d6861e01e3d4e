"""Refuses a message that finds no sending hours before it expires, before it is stored."""

from __future__ import annotations

from datetime import datetime, timedelta

from sms_retry.attempt import SHORTEST_VALIDITY
from sms_retry.hours import ALWAYS_OPEN, HORIZON, SendingHours
from sms_retry.intake import InvalidEvent
from sms_retry.store import Overrides, Store
from sms_retry.values import Message

# SQL's queue_sms_retry sets the same.
EXPIRES_AFTER = timedelta(days=3)


def check_hours(store: Store, message: Message, overrides: Overrides, now: datetime) -> None:
    """Raise InvalidEvent for a message that no worker could send. A message that is stored already is left alone."""
    due = max(now, message.scheduled_for or now)
    expires_at = message.expires_at or due + EXPIRES_AFTER
    if message.kind in ALWAYS_OPEN or expires_at <= due:
        return
    hours = SendingHours.of(overrides.hours)
    if _opens(hours, message, message.time_zone, due) <= expires_at - SHORTEST_VALIDITY:
        return
    known = store.known_before(message)
    if known is None:
        return
    opens = _opens(hours, message, message.time_zone or known.time_zone, due, known.region)
    if known.message_id is not None or opens <= expires_at - SHORTEST_VALIDITY:
        return
    when = f"open at {opens:%Y-%m-%dT%H:%M}+00:00" if opens - due < HORIZON else f"stay closed for {HORIZON.days} days"
    raise InvalidEvent(
        f"nothing was stored: expires_at is too early: the recipient's sending hours for {message.kind} messages"
        f" {when}; give a later expires_at, or the recipient's time_zone"
    )


def _opens(
    hours: SendingHours, message: Message, zone: str | None, due: datetime, region: str | None = None
) -> datetime:
    window = hours.next_window(message.to_number, zone, message.kind, due, region)
    if window.closes - window.opens < SHORTEST_VALIDITY:
        window = hours.next_window(message.to_number, zone, message.kind, window.closes, region)
    return window.opens
