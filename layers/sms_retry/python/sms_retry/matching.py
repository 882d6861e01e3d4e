"""Reads Twilio's list for an unknown message: rules 1 to 3 of "How an unknown message is settled" (how-it-works.md)."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

# Twilio's instants are in whole seconds, and clocks differ by some seconds even where each is right.
CLOCK_MARGIN = timedelta(seconds=5)
# A walk through more pages (of 100 messages) ends before it is complete.
MOST_PAGES = 20


@dataclass(frozen=True, slots=True)
class Listed:
    """A message as Twilio's list shows it. `sent` is None until Twilio has sent it; `media` is a number of files."""

    sid: str
    status: str
    error_code: int | None
    to_number: str
    body: str
    direction: str
    created: datetime
    sent: datetime | None = None
    media: int = 0


@dataclass(frozen=True, slots=True)
class Page:
    """One page of Twilio's list, and the time of Twilio's clock at the answer; None where the answer has no time."""

    messages: tuple[Listed, ...]
    answered_at: datetime | None


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """Twilio did not answer; further questions would fail alike."""

    why: str


@dataclass(frozen=True, slots=True)
class Walk:
    """The outbound messages of the list since a claim. A walk that is not complete may have missed some."""

    messages: tuple[Listed, ...]
    complete: bool


def walk(
    pages: Iterable[Page | NoAnswer],
    since: datetime,
    database_now: Callable[[], datetime],
    has_time: Callable[[], bool],
) -> Walk | NoAnswer:
    """Read the list back to `since`, an instant of the database's clock.

    Twilio sorts the list by the date of sending, and first come the messages that are not sent yet
    (https://www.twilio.com/docs/messaging/api/message-resource#read-multiple-message-resources). So one older message
    proves nothing: the walk is complete when all of a page is older by both dates, or when the list ends.
    """
    found: list[Listed] = []
    ahead = timedelta(0)
    complete = True
    for number, page in enumerate(pages, 1):
        if isinstance(page, NoAnswer):
            return page
        if page.answered_at:
            ahead = max(ahead, database_now() - page.answered_at)
        start = since - ahead - CLOCK_MARGIN
        found += page.messages
        if page.messages and all(_is_older(message, start) for message in page.messages):
            break
        if number == MOST_PAGES or not has_time():
            complete = False
            break
    start = since - ahead - CLOCK_MARGIN
    return Walk(tuple(m for m in found if m.direction.startswith("outbound") and m.created >= start), complete)


def own(body: str, messages: Iterable[Listed], media: int = 0) -> Listed | None:
    """The oldest of these messages that has this text, as Twilio may have rewritten it; None if none has."""
    ours = fingerprint(body, media)
    same = [message for message in messages if ours and fingerprint(message.body, message.media) == ours]
    return min(same, key=lambda message: message.created, default=None)


def fingerprint(body: str, media: int = 0) -> tuple[str, int] | None:
    """The part of a text that Twilio does not rewrite: its letters and digits without case and accents, and its number
    of files.

    Twilio trims white space, and Smart Encoding replaces typographic characters; among these are modifier letters, such
    as the apostrophe of Hawaii, and accents that follow their letter
    (https://www.twilio.com/docs/messaging/services/smart-encoding-char-list). A text without a letter or a digit is
    compared as a whole. None, for a message without text and files, is the fingerprint of no message.
    """
    normal = unicodedata.normalize("NFKD", body)
    kept = (character for character in normal if character.isalnum() and unicodedata.category(character) != "Lm")
    text = "".join(kept).casefold() or normal.strip()
    return (text, media) if text or media else None


def unfailed(messages: Iterable[Listed]) -> list[Listed]:
    """The messages that Twilio accepted. It also lists POSTs that it refused, as `failed` under SIDs of their own:
    https://help.twilio.com/articles/21923437804315
    """
    return [message for message in messages if message.status != "failed"]


def _is_older(message: Listed, start: datetime) -> bool:
    return message.created < start and message.sent is not None and message.sent < start
