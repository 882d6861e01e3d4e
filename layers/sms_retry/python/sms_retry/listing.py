"""Asks Twilio: which messages went to a number, and how the message with a SID stands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from sms_retry.matching import Listed, NoAnswer, Page
from sms_retry.settings import Credentials
from sms_retry.twilio import AnswerLost, NotSent, Wire, open_clients

PAGE_SIZE = 100


@dataclass(frozen=True, slots=True)
class Gone:
    """Twilio no longer has this message."""


# The pages are asked for one by one, as they are read; after a NoAnswer there are no more.
# Both questions are put to the subaccount of this name, or (None) to the main account.
SentTo = Callable[[str, str | None], Iterator[Page | NoAnswer]]
LookUp = Callable[[str, str | None], Listed | Gone | NoAnswer]

NO_ACCOUNT = NoAnswer("the Twilio secret has no such account")


@contextmanager
def open_listing(
    credentials: Credentials, api_url: str, read_timeout: float | None = None
) -> Iterator[tuple[SentTo, LookUp]]:
    """Two questions to Twilio: the pages of its list of messages to a number, and the message with a SID."""
    with open_clients(api_url, read_timeout) as client:

        def sent_to(to_number: str, account: str | None = None) -> Iterator[Page | NoAnswer]:
            if not (login := credentials.named(account)):
                yield NO_ACCOUNT
                return
            twilio, wire = client(login)
            try:
                page = twilio.messages.page(to=to_number, page_size=PAGE_SIZE)
                while page is not None:
                    yield Page(tuple(map(_listed, page)), _answered_at(wire))
                    page = page.next_page()
            except (NotSent, AnswerLost) as error:
                yield NoAnswer(str(error))
            except (_sdk_error(), ValueError):
                yield NoAnswer(f"HTTP {wire.answer[0]}")

        def look_up(sid: str, account: str | None = None) -> Listed | Gone | NoAnswer:
            if not (login := credentials.named(account)):
                return NO_ACCOUNT
            twilio, wire = client(login)
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
    """ValueError: the record has no date of creation, so it cannot be compared with a claim."""
    if record.date_created is None:
        raise ValueError("no date_created")
    return Listed(
        record.sid,
        record.status,
        record.error_code,
        record.to,
        record.body or "",
        record.direction,
        record.date_created,
        record.date_sent,
        int(record.num_media or 0),
    )


def _answered_at(wire: Wire) -> datetime | None:
    """The time of Twilio's clock at its last answer."""
    try:
        answered_at = parsedate_to_datetime(wire.answer[1].get("Date", ""))
    except ValueError:
        return None
    return answered_at if answered_at.tzinfo else answered_at.replace(tzinfo=UTC)
