"""Asks Twilio: which messages went to a number since an instant, and how the message with a SID stands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sms_retry.settings import Credentials
from sms_retry.twilio import AnswerLost, NotSent, open_clients


@dataclass(frozen=True, slots=True)
class Listed:
    """A message as Twilio's list shows it."""

    sid: str
    status: str
    error_code: int | None
    to_number: str
    body: str
    direction: str
    created: datetime


@dataclass(frozen=True, slots=True)
class Gone:
    """Twilio no longer has this message."""


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """Twilio did not answer; further questions would fail alike."""

    why: str


SentTo = Callable[[str, datetime], list[Listed] | NoAnswer]
LookUp = Callable[[str], Listed | Gone | NoAnswer]


@contextmanager
def open_listing(
    credentials: Credentials, api_url: str, read_timeout: float | None = None
) -> Iterator[tuple[SentTo, LookUp]]:
    """Two questions to Twilio: the messages to a number since an instant, and the message with a SID."""
    with open_clients(api_url, read_timeout) as client:

        def sent_to(to_number: str, since: datetime) -> list[Listed] | NoAnswer:
            twilio, wire = client(credentials)
            found: list[Listed] = []
            try:
                for record in twilio.messages.stream(to=to_number, page_size=100):
                    message = _listed(record)
                    if message.created < since:
                        break
                    found.append(message)
            except (NotSent, AnswerLost) as error:
                return NoAnswer(str(error))
            except (_sdk_error(), ValueError):
                return NoAnswer(f"HTTP {wire.answer[0]}")
            return found

        def look_up(sid: str) -> Listed | Gone | NoAnswer:
            twilio, wire = client(credentials)
            try:
                return _listed(twilio.messages(sid).fetch())
            except (NotSent, AnswerLost) as error:
                return NoAnswer(str(error))
            except (_sdk_error(), ValueError):
                return Gone() if wire.answer[0] == 404 else NoAnswer(f"HTTP {wire.answer[0]}")

        yield sent_to, look_up


def _sdk_error() -> type[Exception]:
    from twilio.base.exceptions import TwilioException

    error: type[Exception] = TwilioException
    return error


def _listed(record: Any) -> Listed:
    return Listed(
        record.sid, record.status, record.error_code, record.to, record.body, record.direction, record.date_created
    )
