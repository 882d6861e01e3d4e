"""The client of sms-retry for Python: one file without dependencies, to copy. `make clients` of sms-retry writes it.

Each function runs one statement on a DB-API cursor with tuple rows and %s placeholders, such as one of psycopg,
psycopg2, Django or SQLAlchemy, and so belongs to the transaction of its connection. An argument that is None has the
default of the database.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Protocol


class Cursor(Protocol):
    def execute(self, query: Any, params: Any, /) -> Any: ...

    def fetchall(self) -> list[Any]: ...


class Place(NamedTuple):
    """A row of queue_sms_retries."""

    place: int
    message_id: int | None
    status: str | None
    fault: str | None


class BatchCount(NamedTuple):
    """A row of sms_batch."""

    status: str
    messages: int


class MessageState(NamedTuple):
    """A row of sms_message_state."""

    message_id: int
    status: str | None
    provider_sid: str | None
    next_attempt_at: datetime | None
    error_code: int | None


class Event(NamedTuple):
    """A row of take_sms_events."""

    id: int
    type: str | None
    at: datetime | None
    message_id: int | None
    message_key: str | None
    business_id: str | None
    batch: str | None
    error_code: int | None
    reason: str | None
    detail: Mapping[str, Any] | None


def queue_sms_retry(
    cursor: Cursor,
    to_number: str,
    body: str,
    *,
    message_key: str | None = None,
    business_id: str | None = None,
    kind: str | None = None,
    on_unknown: str | None = None,
    time_zone: str | None = None,
    scheduled_for: datetime | None = None,
    expires_at: datetime | None = None,
    error_code: int | None = None,
    error_message: str | None = None,
    delays: Sequence[timedelta] | None = None,
    sender: str | None = None,
    batch: str | None = None,
    media_urls: Sequence[str] | None = None,
    content_sid: str | None = None,
    content_variables: Mapping[str, Any] | None = None,
) -> int:
    """Queue one message, once per key, inside the caller's transaction. Returns the message's id.

    to_number          the recipient in E.164, such as +14155550123
    body               1 to 1,600 characters
    message_key        the same key twice, in one business_id, is one message
    business_id        the business that the message is sent for
    kind               transactional, marketing, otp or emergency
    on_unknown         resend or hold
    time_zone          an IANA time zone of the recipient
    scheduled_for      not sent before this time
    expires_at         not sent after this time
    error_code         Twilio's code of a first send that failed
    error_message      Twilio's text of that failure
    delays             the waits after that failure
    sender             a number, a short code, a name or a Messaging Service
    batch              the name of the batch
    media_urls         1 to 10 https URLs
    content_sid        a content template, HX...
    content_variables  the variables of the template
    """
    rows = _rows(
        cursor,
        "queue_sms_retry",
        ("to_number", "text", to_number),
        ("body", "text", body),
        ("message_key", "text", message_key),
        ("business_id", "text", business_id),
        ("kind", "text", kind),
        ("on_unknown", "text", on_unknown),
        ("time_zone", "text", time_zone),
        ("scheduled_for", "timestamptz", scheduled_for),
        ("expires_at", "timestamptz", expires_at),
        ("error_code", "integer", error_code),
        ("error_message", "text", error_message),
        ("delays", "interval[]", delays),
        ("sender", "text", sender),
        ("batch", "text", batch),
        ("media_urls", "text[]", media_urls),
        ("content_sid", "text", content_sid),
        ("content_variables", "jsonb", content_variables),
    )
    return int(rows[0][0])


def queue_sms_retries(
    cursor: Cursor,
    messages: Sequence[Mapping[str, Any]],
    *,
    batch: str | None = None,
) -> list[Place]:
    """Queue many messages. Returns a row for each place, from 1: the message, or the fault of a refused one.

    messages  1 to 10,000 objects with the fields of send_sms, such as to, body and message_key
    batch     the batch of all that name none
    """
    rows = _rows(
        cursor,
        "queue_sms_retries",
        ("messages", "jsonb", messages),
        ("batch", "text", batch),
    )
    return [Place(*row) for row in rows]


def cancel_sms_retry(
    cursor: Cursor,
    message_id: int,
) -> str | None:
    """Cancel one message. Returns its status. A message that was sent, or is being sent, is not sent again.

    message_id  the id that the message was queued with
    """
    rows = _rows(
        cursor,
        "cancel_sms_retry",
        ("message_id", "bigint", message_id),
    )
    return None if rows[0][0] is None else str(rows[0][0])


def cancel_sms_batch(
    cursor: Cursor,
    batch: str,
    *,
    limit_count: int | None = None,
) -> int:
    """Cancel a batch. Returns how many messages were cancelled. No message of it is sent again.

    batch        the name of the batch
    limit_count  the most messages to cancel in one call
    """
    rows = _rows(
        cursor,
        "cancel_sms_batch",
        ("batch", "text", batch),
        ("limit_count", "integer", limit_count),
    )
    return int(rows[0][0])


def sms_batch(
    cursor: Cursor,
    batch: str,
) -> list[BatchCount]:
    """Count the messages of a batch by status.

    batch  the name of the batch
    """
    rows = _rows(
        cursor,
        "sms_batch",
        ("batch", "text", batch),
    )
    return [BatchCount(*row) for row in rows]


def set_sms_consent(
    cursor: Cursor,
    business_id: str,
    phone_number: str,
    consent: str,
) -> int:
    """Record a person's consent. Returns how many waiting messages failed by an opt-out.

    business_id   the business, or * for every business
    phone_number  the person, in E.164
    consent       opted_in, opted_out or unknown
    """
    rows = _rows(
        cursor,
        "set_sms_consent",
        ("business_id", "text", business_id),
        ("phone_number", "text", phone_number),
        ("consent", "text", consent),
    )
    return int(rows[0][0])


def sms_message_state(
    cursor: Cursor,
    message_id: int,
) -> list[MessageState]:
    """The state of one message; no row for an id that does not exist.

    message_id  the id that the message was queued with
    """
    rows = _rows(
        cursor,
        "sms_message_state",
        ("message_id", "bigint", message_id),
    )
    return [MessageState(*row) for row in rows]


def take_sms_events(
    cursor: Cursor,
    *,
    limit_count: int | None = None,
    lease: timedelta | None = None,
) -> list[Event]:
    """Lease the oldest events. An event that done_sms_events has not confirmed comes again after the lease.

    limit_count  the most events
    lease        how long no other consumer gets them
    """
    rows = _rows(
        cursor,
        "take_sms_events",
        ("limit_count", "integer", limit_count),
        ("lease", "interval", lease),
    )
    return [Event(*row)._replace(detail=_json(row[9])) for row in rows]


def done_sms_events(
    cursor: Cursor,
    ids: Sequence[int],
) -> int:
    """Confirm events: they do not come again. Returns the number of events that were waiting.

    ids  the ids of events
    """
    rows = _rows(
        cursor,
        "done_sms_events",
        ("ids", "bigint[]", ids),
    )
    return int(rows[0][0])


def _rows(cursor: Cursor, function: str, *arguments: tuple[str, str, Any]) -> list[Any]:
    given = [argument for argument in arguments if argument[2] is not None]
    places = ", ".join(f"{name} => %s::{type}" for name, type, _ in given)
    cursor.execute(
        f"select * from sms_retry.{function}({places})",  # noqa: S608
        [json.dumps(value, default=_text) if type == "jsonb" else value for _, type, value in given],
    )
    return cursor.fetchall()


def _text(value: Any) -> str:
    """A value in JSON that JSON has no type for."""
    return str(value.isoformat() if isinstance(value, datetime) else value)


def _json(value: Any) -> Any:
    """Some drivers return JSON as text."""
    return json.loads(value) if isinstance(value, str) else value
