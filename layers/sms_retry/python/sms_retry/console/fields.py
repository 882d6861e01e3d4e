"""Fields of forms and queries, read as values."""

from __future__ import annotations

import re
from datetime import datetime

from sms_retry.numbers import E164, from_text
from sms_retry.store import Store

ID = re.compile(r"[0-9]{1,18}")
A_TIME = "Write a time as 2026-01-31T09:00."


class InvalidField(ValueError):
    """A field has an invalid value; the message says how to correct it, and does not repeat the value."""


class NoSuchMessage(LookupError):
    """No message has this id; it may have been erased."""


def message_id(store: Store, text: str) -> int:
    """The id of an existing message. NoSuchMessage: the text is not such an id."""
    if not ID.fullmatch(text) or not store.number_of(int(text)):
        raise NoSuchMessage
    return int(text)


def batch_of(store: Store, text: str) -> str:
    """The batch of the message with this id. NoSuchMessage: the text is not such an id, or the message has no batch."""
    origin = store.message_origin(message_id(store, text))
    if origin is None or origin.batch is None:
        raise NoSuchMessage
    return origin.batch


def number(text: str) -> str:
    """The one spelling of a number as people write it."""
    found = from_text(text)
    if found is None:
        raise InvalidField("Enter a complete number with + and its country code, such as +14155550123.")
    return found


def number_in(text: str) -> str | None:
    """The number to search for; None if the text means none."""
    # Earlier releases stored impossible numbers too.
    return from_text(text) or (text if E164.fullmatch(text) else None)


def code(text: str | None) -> int | None:
    if not text:
        return None
    if not re.fullmatch("[1-9][0-9]{0,8}", text):
        raise InvalidField("A code is a number, such as 30003.")
    return int(text)


def instant(text: str | None) -> datetime | None:
    """The value of a datetime-local input, read as UTC."""
    if not text:
        return None
    if not re.fullmatch(r"[2-9][0-9]{3}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(:[0-9]{2})?", text):
        raise InvalidField(A_TIME)
    try:
        return datetime.fromisoformat(f"{text}+00:00")
    except ValueError:
        raise InvalidField(A_TIME) from None
