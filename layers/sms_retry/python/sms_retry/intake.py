"""Reads the events of applications. An invalid event raises one error that names every wrong field."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from psycopg.errors import InvalidParameterValue

from sms_retry import settings
from sms_retry.numbers import e164
from sms_retry.values import Message

KINDS = ("transactional", "marketing", "otp", "emergency")
ON_UNKNOWN = ("resend", "hold")
LONGEST_BODY = 1600
MOST_MEDIA = 10
# SQL's queue_sms_retries accepts as many.
MOST_MESSAGES = 10_000
NOTHING_STORED = "nothing was stored: "
# `*` is the sender of the deployment.
SENDER = re.compile(rf"\*|{settings.SENDER.pattern}")
SENDER_FORMS = "a number in E.164, a short code, a name of up to 11 letters and digits, or MG and 32 hexadecimal digits"
# SQL's sms_message_faults accepts the same templates.
CONTENT_SID = re.compile("HX[0-9a-fA-F]{32}")
URL = re.compile(r"https://\S{1,1992}")
SID = re.compile(r"(SM|MM)[0-9a-fA-F]{32}")
# Characters that JSON can contain and Postgres cannot store: NUL, and half of a surrogate pair.
UNSTORABLE = re.compile("[\0\ud800-\udfff]")
FIELD = re.compile("[A-Za-z_]{1,40}")
STORABLE = ", without NUL and without half of a surrogate pair"


class InvalidEvent(ValueError):
    """Nothing was stored; the message names every wrong field and says which values it accepts."""


@dataclass(frozen=True, slots=True)
class Failed:
    """Twilio refused the application's own first send with this error."""

    error_code: int
    error_message: str | None


@dataclass(frozen=True, slots=True)
class Sent:
    """Twilio accepted the application's own first send under this SID."""

    provider_sid: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """The place of an invalid message in its list, from 1, and its fault."""

    place: int
    fault: str


def read(event: Mapping[str, Any], allows_first_send: bool = True) -> tuple[Message, Failed | Sent | None]:
    """The message of a `send_sms` event, and the outcome of the application's own first send, if it made one."""
    fields = _Fields(event, "event" if allows_first_send else "message")
    media_urls, content_sid = (
        fields.urls("media_urls"),
        fields.matching("content_sid", CONTENT_SID, "HX and 32 hexadecimal digits"),
    )
    message = Message(
        to_number=fields.number("to"),
        body=fields.body("body", required=not (media_urls or content_sid)),
        message_key=fields.text("message_key", required=False, most=255),
        business_id=fields.text("business_id", required=False, most=255) or "default",
        kind=fields.choice("kind", KINDS),
        on_unknown=fields.choice("on_unknown", ON_UNKNOWN),
        time_zone=fields.zone("time_zone"),
        scheduled_for=fields.instant("scheduled_for"),
        expires_at=fields.instant("expires_at"),
        sender=fields.matching("sender", SENDER, SENDER_FORMS),
        batch=fields.text("batch", required=False, most=255),
        media_urls=media_urls,
        content_sid=content_sid,
        content_variables=fields.variables("content_variables"),
    )
    if message.scheduled_for and message.expires_at and message.expires_at <= message.scheduled_for:
        fields.wrong("expires_at", "must be later than scheduled_for")
    first_send = _first_send(fields) if allows_first_send else None
    known = {"to", "body", *Message.__dataclass_fields__} - {"to_number"}
    fields.check(known | {"failed", "sent"} if allows_first_send else known)
    return message, first_send


def read_many(event: Mapping[str, Any]) -> tuple[str | None, dict[int, Message], list[Refusal]]:
    """The batch of a `send_sms` event with `messages`, the valid ones by their places (from 1), and the refusals."""
    fields = _Fields(event)
    batch, given = fields.text("batch", required=False, most=255), event.get("messages")
    if not isinstance(given, list) or not 1 <= len(given) <= MOST_MESSAGES:
        fields.wrong("messages", f"must be a list of 1 to {MOST_MESSAGES} messages")
    fields.check({"batch", "messages"})
    valid: dict[int, Message] = {}
    refused = []
    for place, one in enumerate(given if isinstance(given, list) else (), 1):
        try:
            message, _ = read(one, allows_first_send=False)
            valid[place] = message if message.batch else replace(message, batch=batch)
        except InvalidEvent as fault:
            refused.append(Refusal(place, str(fault).removeprefix(NOTHING_STORED)))
    return batch, valid, refused


@contextmanager
def refusals() -> Iterator[None]:
    """Within it, a refusal of the SQL entry is an InvalidEvent with the same sentence."""
    try:
        yield
    except InvalidParameterValue as error:
        if not (refusal := error.diag.message_primary or "").startswith("nothing was stored"):
            raise
        raise InvalidEvent(refusal) from None


def read_message_id(event: Mapping[str, Any]) -> tuple[int, bool]:
    """The message id of a `retry_sms` event, and `force`: send again although the message may have been sent."""
    fields = _Fields(event)
    message_id, force = event.get("message_id"), event.get("force", False)
    if not isinstance(message_id, int) or isinstance(message_id, bool) or not 0 < message_id < 2**63:
        fields.wrong("message_id", "must be the message_id that send_sms returned")
    if not isinstance(force, bool):
        fields.wrong("force", "must be true or false")
    fields.check({"message_id", "force"})
    return int(message_id or 0), bool(force)


def _first_send(fields: _Fields) -> Failed | Sent | None:
    failed, sent = fields.event.get("failed"), fields.event.get("sent")
    if failed is not None and sent is not None:
        fields.wrong("sent", "must not be given together with failed")
    if failed is not None:
        inner = failed if isinstance(failed, Mapping) else {}
        fields.refuse_others(inner, {"error_code", "error_message"}, "failed.")
        code, message = inner.get("error_code"), inner.get("error_message")
        if not isinstance(code, int) or isinstance(code, bool) or not 0 < code < 10**9:
            fields.wrong("failed.error_code", "must be Twilio's error code, a whole number from 1 to 999999999")
            code = 0
        if message is not None and (not isinstance(message, str) or UNSTORABLE.search(message)):
            fields.wrong("failed.error_message", f"must be text{STORABLE}")
        return Failed(code, message if isinstance(message, str) else None)
    if sent is not None:
        sid = sent.get("provider_sid") if isinstance(sent, Mapping) else None
        fields.refuse_others(sent if isinstance(sent, Mapping) else {}, {"provider_sid"}, "sent.")
        if not isinstance(sid, str) or not SID.fullmatch(sid):
            fields.wrong("sent.provider_sid", "must be Twilio's message SID: SM or MM and 32 hexadecimal digits")
            sid = ""
        return Sent(sid)
    return None


class _Fields:
    """Reads the fields of an event, and collects the faults until `check`."""

    def __init__(self, event: Mapping[str, Any], what: str = "event") -> None:
        if not isinstance(event, Mapping):
            raise InvalidEvent(f"the {what} must be a JSON object")
        self.event = event
        self.faults: list[str] = []

    def wrong(self, name: str, why: str) -> None:
        self.faults.append(f"{name} {why}")

    def text(self, name: str, required: bool = True, most: int = 0) -> str | None:
        value = self.event.get(name)
        if value is None and not required:
            return None
        if not isinstance(value, str) or not 1 <= len(value) <= most or UNSTORABLE.search(value):
            self.wrong(name, f"must be text of 1 to {most} characters{STORABLE}")
            return None
        return value

    def matching(self, name: str, pattern: re.Pattern[str], forms: str) -> str | None:
        value = self.event.get(name)
        if value is not None and not (isinstance(value, str) and pattern.fullmatch(value)):
            self.wrong(name, f"must be {forms}")
            return None
        return value

    def urls(self, name: str) -> tuple[str, ...] | None:
        value = self.event.get(name)
        if value is None:
            return None
        given = value if isinstance(value, list) and 1 <= len(value) <= MOST_MEDIA else []
        if not given or not all(isinstance(url, str) and _is_url(url) for url in given):
            self.wrong(name, f"must be a list of 1 to {MOST_MEDIA} https URLs")
        return tuple(given)

    def variables(self, name: str) -> str | None:
        """A JSON object as text."""
        value = self.event.get(name)
        if value is None:
            return None
        try:
            text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        except ValueError:
            text = "\0"
        is_storable = not UNSTORABLE.search(text) and "\\u0000" not in text
        if not (isinstance(value, dict) and is_storable and self.event.get("content_sid")):
            self.wrong(name, f"must be a JSON object, beside a content_sid{STORABLE}")
        return text

    def body(self, name: str, required: bool = True) -> str:
        """The text without white space at its ends, which Twilio would remove; SQL's sms_text does the same."""
        value = self.event.get(name)
        if value is None and not required:
            return ""
        text, least = value.strip() if isinstance(value, str) else "", 1 if required else 0
        if not (isinstance(value, str) and least <= len(text) <= LONGEST_BODY) or UNSTORABLE.search(text):
            ends = "(white space at its ends does not count)"
            self.wrong(name, f"must be text of {least} to {LONGEST_BODY} characters {ends}{STORABLE}")
        return text

    def number(self, name: str) -> str:
        value = self.event.get(name)
        number = e164(value) if isinstance(value, str) else None
        if number is None:
            self.wrong(name, "must be a phone number in E.164, such as +14155550123")
        return number or ""

    def choice(self, name: str, choices: tuple[str, ...]) -> str:
        value = self.event.get(name)
        if value is None:
            return choices[0]
        if value not in choices:
            self.wrong(name, f"must be one of {', '.join(choices)}")
        return str(value)

    def zone(self, name: str) -> str | None:
        value = self.event.get(name)
        try:
            if value is not None:
                ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, TypeError, OSError):
            self.wrong(name, "must be an IANA time zone, such as America/New_York")
            return None
        return value

    def instant(self, name: str) -> datetime | None:
        value = self.event.get(name)
        try:
            instant = datetime.fromisoformat(value) if value is not None else None
        except (ValueError, TypeError):
            instant = None
        # SQL's sms_message_faults accepts the same years.
        if value is not None and (instant is None or instant.tzinfo is None or not 2000 <= instant.year < 9999):
            forms = "of the years 2000 to 9998 with an offset from UTC, such as 2026-01-31T09:00:00+00:00"
            self.wrong(name, f"must be an ISO 8601 time {forms}")
            return None
        return instant

    def check(self, known: set[str]) -> None:
        self.refuse_others(self.event, known)
        if self.faults:
            raise InvalidEvent(NOTHING_STORED + "; ".join(self.faults))

    def refuse_others(self, given: Mapping[str, Any], known: set[str], prefix: str = "") -> None:
        for name in given:
            if name not in known:
                # A name that no field could have may be a phone number or a text.
                shown = name if isinstance(name, str) and FIELD.fullmatch(name) else "one name"
                self.wrong(f"{prefix}{shown}", "is not a field of this event")


def _is_url(text: str) -> bool:
    return bool(URL.fullmatch(text)) and not UNSTORABLE.search(text)
