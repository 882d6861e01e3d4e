"""Rows of the database that people look at: a NamedTuple for each SQL function that lists or reports something.

The fields of a NamedTuple are the columns of its function, and are selected by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple, TypeVar

from psycopg.rows import class_row

from sms_retry.connection import Connection
from sms_retry.values import Cause

Row = TypeVar("Row", bound=NamedTuple)


class ListedMessage(NamedTuple):
    """A message in a list. `at` is the time when it is due, was claimed, or ended.

    Its queue columns are None once the clean-up has removed the queue row.
    """

    message_id: int
    business_id: str
    kind: str
    number: str
    status: str
    queue_id: int | None
    queue_status: str | None
    at: datetime
    ended: bool
    reason: str | None
    attempt: int | None
    retry_count: int
    error_code: int | None


class MessageDetails(NamedTuple):
    """One message without its text; `number` is masked, and `body_length` is None once the text is erased."""

    message_id: int
    message_key: str | None
    business_id: str
    kind: str
    number: str
    body_length: int | None
    on_unknown: str
    time_zone: str | None
    created_at: datetime
    expires_at: datetime
    status: str
    provider_sid: str | None
    error_code: int | None
    error_message: str | None
    retry_count: int
    max_retries: int | None
    queue_status: str | None
    at: datetime
    ended: bool
    reason: str | None
    attempt: int | None


class StoryStep(NamedTuple):
    """One step of a message: taken in, an attempt's outcome, a delivery receipt, or the time when it is due."""

    at: datetime
    what: str
    ticket: str | None
    message_sid: str | None
    error_code: int | None
    detail: str | None


class NumberAndText(NamedTuple):
    phone_number: str
    body: str | None


class CurrentHold(NamedTuple):
    """A hold that is set; `masked_key` hides a person's number."""

    scope: str
    key: str
    masked_key: str
    until: datetime
    reason: str
    probing: bool
    opened_at: datetime


class KnownSender(NamedTuple):
    """A sender of the deployment: the business whose default it is, its subaccount, its pace and its tokens now."""

    sender: str
    business_id: str | None
    account: str | None
    segments_per_second: Decimal | None
    tokens: Decimal | None
    is_held: bool

    @property
    def pace(self) -> str:
        """The segments a second; empty without a pace."""
        return "" if self.segments_per_second is None else f"{self.segments_per_second.normalize():f}"


class Origin(NamedTuple):
    """The sender of a message (`*`: that of the deployment), its subaccount, its batch and its segments."""

    sender: str
    account: str | None
    batch: str | None
    segments: int | None


class Parts(NamedTuple):
    """The media and the content template of a message."""

    media_urls: list[str] | None
    content_sid: str | None
    content_variables: dict[str, str] | None


class Consent(NamedTuple):
    """A person's consent to one business, or to every business ('*')."""

    business_id: str
    consent: str
    consent_changed_at: datetime | None
    time_zone: str | None


class RecordedAction(NamedTuple):
    id: int
    at: datetime
    actor: str
    action: str
    subject: str
    result: str | None


class FoundMessage(NamedTuple):
    """`found_by` is id, key, sid, batch or number."""

    message_id: int
    found_by: str


class EndedInHour(NamedTuple):
    """The number of messages that ended in one hour, by queue status and last error code."""

    hour: datetime
    status: str
    error_code: int | None
    messages: int


class WaitingFor(NamedTuple):
    """The number of messages that wait for one reason, and the time when the first of them is due."""

    reason: str | None
    messages: int
    first_due: datetime


class FailedSince(NamedTuple):
    """The number of messages that failed with one code, and the instant up to which they were counted."""

    failed: int
    until: datetime


class Budget(NamedTuple):
    """A budget of segments in each interval, and the segments spent; `turns_at` is None if its interval is over."""

    scope: str
    key: str
    per: timedelta
    segments: int
    spent: int
    turns_at: datetime | None


class Usage(NamedTuple):
    """Usage by day, business, sender, country, kind or code: accepted messages, refused POSTs and last receipts.

    Half were delivered within `median_seconds`, 95 in a hundred within `slowest_seconds`.
    """

    name: str
    messages: int
    segments: int
    refused: int
    delivered: int
    undelivered: int
    median_seconds: int | None
    slowest_seconds: int | None

    @property
    def delivery_rate(self) -> float | None:
        """The share of delivered messages among those with a last receipt, from 0 to 1."""
        known = self.delivered + self.undelivered
        return self.delivered / known if known else None


class CountrySegments(NamedTuple):
    """The accepted segments to one country under one name of `Usage`."""

    name: str
    country: str
    segments: int


class Erased(NamedTuple):
    """The rows of one person that one call erased, and the messages that are `left`.

    `on_their_way` of those are claimed: each is erasable once its worker has reported. `consents` are all but opt-outs,
    which stay.
    """

    messages: int
    attempts: int
    callbacks: int
    holds: int
    consents: int
    left: int
    on_their_way: int


class Readings:
    """The reading half of `Store`: every method may be repeated."""

    def __init__(self, connection: Connection) -> None:
        self._again = connection.again

    def health(self) -> dict[str, Any]:
        """The figures of SQL's sms_retry_health, by name."""
        figures: dict[str, Any] = self._again("select sms_retry.sms_retry_health()", [])[0][0]
        return figures

    def last_day(self) -> list[EndedInHour]:
        return self._rows(EndedInHour, "sms_last_day")

    def waiting_for(self) -> list[WaitingFor]:
        """The reasons of the next 1,000 waiting messages."""
        return self._rows(WaitingFor, "sms_waiting_for")

    def current_holds(self) -> list[CurrentHold]:
        """At most 200, the wider scopes first."""
        return self._rows(CurrentHold, "sms_open_holds")

    def waiting(self, after: datetime, after_id: int, limit: int) -> list[ListedMessage]:
        """Waiting messages, the earliest due first, that follow queue row `after_id`, due at `after`."""
        return self._listed("waiting_sms", after, after_id, limit)

    def stuck(self, limit: int) -> list[ListedMessage]:
        """Messages that are late, silently claimed or unknown: at most `limit` of each."""
        return self._listed("stuck_sms", limit)

    def parked(self) -> list[int]:
        """The ids of the messages that may have been sent and wait for a person."""
        return [message_id for (message_id,) in self._again("select sms_retry.held_sms()", [])]

    def ended(
        self, how: str, code: int | None, since: datetime, before: datetime, before_id: int, limit: int
    ) -> list[ListedMessage]:
        """Messages that ended with queue status `how`, the latest first, that precede queue row `before_id`."""
        return self._listed("ended_sms", how, code, since, before, before_id, limit)

    def failed_since(self, cause: Cause, since: datetime) -> FailedSince:
        function = "failed_sms_of_reason_since" if isinstance(cause, str) else "failed_sms_since"
        return self._rows(FailedSince, function, cause, since)[0]

    def to_same_person(self, message_id: int, before_id: int, limit: int) -> list[ListedMessage]:
        """Messages to the same number, the latest first, with ids below `before_id`."""
        return self._listed("sms_of_same_person", message_id, before_id, limit)

    def found(self, word: str, number: str | None) -> list[FoundMessage]:
        """Messages with this id, key or SID, and the latest message of this batch and to this number."""
        return self._rows(FoundMessage, "found_sms", word, number)

    def listed(self, message_ids: list[int]) -> list[ListedMessage]:
        """These messages, in this order."""
        return self._rows(ListedMessage, "listed_sms", message_ids)

    def batch(self, batch: str) -> dict[str, int]:
        """The messages of a batch by status."""
        return dict(self._again("select status, messages from sms_retry.sms_batch(%s)", [batch]))

    def of_batch(self, batch: str, before_id: int, limit: int) -> list[ListedMessage]:
        """Messages of a batch, the latest first, with ids below `before_id`."""
        return self._listed("sms_of_batch", batch, before_id, limit)

    def message_details(self, message_id: int) -> MessageDetails | None:
        return next(iter(self._rows(MessageDetails, "sms_message_details", message_id)), None)

    def message_origin(self, message_id: int) -> Origin | None:
        return next(iter(self._rows(Origin, "sms_message_origin", message_id)), None)

    def message_parts(self, message_id: int) -> Parts | None:
        return next(iter(self._rows(Parts, "sms_message_parts", message_id)), None)

    def senders_of(self, message_ids: Sequence[int]) -> dict[int, str]:
        """The senders of these messages, without the messages that have the sender of the deployment."""
        return dict(self._again("select message_id, sender from sms_retry.sms_named_senders(%s)", [list(message_ids)]))

    def senders(self) -> list[KnownSender]:
        return self._rows(KnownSender, "sms_senders_known")

    def usage(self, by: str, since: timedelta) -> list[Usage]:
        """The usage since then by day (UTC), business, sender, country, kind or code."""
        return self._rows(Usage, "sms_usage_by", by, datetime.now(UTC) - since)

    def segments_by_country(self, by: str, since: timedelta) -> list[CountrySegments]:
        """The accepted segments since then by a dimension of `usage` and by country."""
        return self._rows(CountrySegments, "sms_segments_by", by, datetime.now(UTC) - since)

    def message_story(self, message_id: int) -> list[StoryStep]:
        return self._rows(StoryStep, "sms_message_story", message_id)

    def number_of(self, message_id: int) -> str | None:
        """The number that the message goes to; None where no message has this id."""
        rows = self._again("select phone_number from sms_retry.sms_number_of(%s)", [message_id])
        return str(rows[0][0]) if rows else None

    def show(self, message_id: int, actor: str) -> NumberAndText | None:
        """The number and the text of one message. The request is recorded, like every action."""
        return next(iter(self._rows(NumberAndText, "show_sms", message_id, actor)), None)

    def consents_of(self, message_id: int) -> list[Consent]:
        """The consents of the person that the message goes to."""
        return self._rows(Consent, "sms_consents_of", message_id)

    def recorded_actions(self, subject: str | None, before_id: int, limit: int) -> list[RecordedAction]:
        """Actions by hand on one subject or on all, the latest first, with ids below `before_id`."""
        return self._rows(RecordedAction, "sms_actions_done", subject, before_id, limit)

    def _rows(self, shape: type[Row], function: str, *given: Any) -> list[Row]:
        places = ", ".join(["%s"] * len(given))
        statement = f"select {', '.join(shape._fields)} from sms_retry.{function}({places})"
        rows: list[Any] = self._again(statement, given, class_row(shape))
        return rows

    def _listed(self, function: str, *given: Any) -> list[ListedMessage]:
        """The messages with the ids that an SQL function returns, in the order of the ids, in one statement."""
        places = ", ".join(["%s"] * len(given))
        ids = f"array(select sms_retry.{function}({places}))"
        statement = f"select {', '.join(ListedMessage._fields)} from sms_retry.listed_sms({ids})"
        rows: list[Any] = self._again(statement, given, class_row(ListedMessage))
        return rows
