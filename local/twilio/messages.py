"""Twilio's Messages resource: the parameters of a POST, the fields of a message, the pages of the list."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from typing import Any
from urllib.parse import urlencode, urlsplit

from local.twilio.plan import Refuse
from local.twilio.rewriting import canonical

# Only these are read from a POST; the contract test compares them with CreateMessage in openapi.json.
PARAMETERS = frozenset(
    {
        "To",
        "From",
        "MessagingServiceSid",
        "Body",
        "MediaUrl",
        "ContentSid",
        "StatusCallback",
        "ValidityPeriod",
    }
)

MAGIC_FROM = {"+15005550001": 21212, "+15005550007": 21606, "+15005550008": 21611}
MAGIC_TO = {
    "+15005550001": 21211,
    "+15005550002": 21612,
    "+15005550003": 21408,
    "+15005550004": 21610,
    "+15005550009": 21614,
}
POOL_NUMBER = "+15005550006"

# Twilio quotes the number in some of its messages, and so do these: a test finds code that logs them.
ERRORS = {
    20001: "Unknown parameters",
    20003: "Authenticate",
    20404: "The requested resource was not found",
    20429: "Too Many Requests",
    20500: "An internal server error has occurred",
    20503: "Service unavailable",
    21211: "Invalid 'To' Phone Number: {to}",
    21212: "Invalid 'From' Number",
    21408: "Permission to send an SMS has not been enabled for the region indicated by the 'To' number: {to}",
    21602: "Message body is required.",
    21603: "A 'From' or 'MessagingServiceSid' parameter is required to send a message.",
    21604: "A 'To' phone number is required.",
    21606: "The 'From' phone number provided is not a valid message-capable Twilio phone number.",
    21609: "The 'StatusCallback' URL is not a valid URL.",
    21610: "Attempt to send to unsubscribed recipient",
    21611: "This 'From' number has exceeded the maximum number of queued messages",
    21612: "Message cannot be sent with the current combination of 'To' ({to}) and/or 'From' parameters",
    21614: "'To' number is not a valid mobile number: {to}",
    21617: "The concatenated message body exceeds the 1600 character limit.",
    21624: "Invalid validity period value",
    30001: "Queue overflow",
    30003: "Unreachable destination handset",
    30005: "Unknown destination handset",
    30007: "Message filtered",
    30008: "Unknown error",
    30034: "US A2P 10DLC - Message from an unregistered number",
    30036: "Validity Period Expired",
    30400: "Parameters are not valid",
    30409: "This message cannot be canceled",
}

GSM_7 = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§"
    "¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
GSM_7_ESCAPED = frozenset("\f^{}\\[~]|€")
E164 = re.compile(r"\+[1-9]\d{6,14}")


@dataclass(slots=True)
class Message:
    """One message that Twilio accepted. Instants are epoch seconds; `reached` is the place of its latest receipt."""

    sid: str
    to: str
    sender: str | None
    service: str | None
    body: str
    status_callback: str | None
    status: str
    created: float
    updated: float
    segments: int
    listed_from: float
    sent: float | None = None
    error_code: int | None = None
    media: int = 0
    reached: int = -1


def fault(form: Mapping[str, str]) -> Refuse | None:
    """Twilio's refusal of a wrong form, or of a magic number of its test credentials; None if it is accepted."""
    to, sender, body = form.get("To", ""), form.get("From", ""), form.get("Body", "")
    callback = form.get("StatusCallback", "")
    validity = form.get("ValidityPeriod", "36000")
    if not to:
        return Refuse(400, 21604)
    if not (body or form.get("MediaUrl") or form.get("ContentSid")):
        return Refuse(400, 21602)
    if len(body) > 1600:
        return Refuse(400, 21617)
    if not (sender or form.get("MessagingServiceSid")):
        return Refuse(400, 21603)
    if not (validity.isdecimal() and 1 <= int(validity) <= 36000):
        return Refuse(400, 21624)
    if callback and not _is_web_address(callback):
        return Refuse(400, 21609)
    if not E164.fullmatch(canonical(to)):
        return Refuse(400, 21211)
    code = MAGIC_FROM.get(sender) or MAGIC_TO.get(to)
    return Refuse(400, code) if code else None


def text_of(form: Mapping[str, str]) -> str:
    """The text that Twilio stores; a content template has its own."""
    template = form.get("ContentSid")
    return f"The text of template {template[-4:]}." if template else form.get("Body", "")


def _is_web_address(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def error(http_status: int, code: int, to: str = "") -> dict[str, Any]:
    return {
        "code": code,
        "message": ERRORS.get(code, "Error").format(to=to),
        "more_info": f"https://www.twilio.com/docs/errors/{code}",
        "status": http_status,
    }


def resource(message: Message, account_sid: str, body: str | None = None) -> dict[str, Any]:
    """The message as JSON, the same in every answer; the answer to a POST has the `body` of the POST."""
    address = f"/2010-04-01/Accounts/{account_sid}/Messages/{message.sid}"
    code = message.error_code
    return {
        "account_sid": account_sid,
        "api_version": "2010-04-01",
        "body": message.body if body is None else body,
        "date_created": _instant(message.created),
        "date_sent": None if message.sent is None else _instant(message.sent),
        "date_updated": _instant(message.updated),
        "direction": "outbound-api",
        "error_code": code,
        "error_message": None if code is None else ERRORS.get(code, "Error"),
        "from": message.sender,
        "messaging_service_sid": message.service,
        "num_media": str(message.media),
        "num_segments": str(message.segments),
        "price": None,
        "price_unit": "USD",
        "sid": message.sid,
        "status": message.status,
        "subresource_uris": {"media": f"{address}/Media.json", "feedback": f"{address}/Feedback.json"},
        "to": message.to,
        "uri": f"{address}.json",
    }


def _instant(epoch: float) -> str:
    return formatdate(epoch).replace("-0000", "+0000")


def segments(body: str) -> int:
    """One segment has 160 characters of GSM-7 or 70 of UCS-2; each of several segments has 153 or 67."""
    if GSM_7.issuperset(body):
        size, one, each = len(body), 160, 153
    elif (GSM_7 | GSM_7_ESCAPED).issuperset(body):
        size, one, each = len(body) + sum(letter in GSM_7_ESCAPED for letter in body), 160, 153
    else:
        size, one, each = len(body.encode("utf-16-le")) // 2, 70, 67
    return 1 if size <= one else math.ceil(size / each)


def page(messages: Sequence[Message], query: Mapping[str, str], account_sid: str) -> dict[str, Any]:
    """One page of `messages`, which are newest first, as ListMessageResponse.

    Twilio sorts by the date of sending, newest first, and first come the messages without one
    (https://www.twilio.com/docs/messaging/api/message-resource#read-multiple-message-resources, and a live account).
    A page token names the last message of the previous page (PA) or the first message of the next page (PB), so that
    messages created between two requests shift no page.
    """
    found = sorted((m for m in messages if _matches(m, query)), key=lambda m: (m.sent is not None, -(m.sent or 0.0)))
    size = min(max(int(query.get("PageSize", 50)), 1), 1000)
    number, token = int(query.get("Page", 0)), query.get("PageToken", "")
    start = number * size
    for place, message in enumerate(found if token else ()):
        if message.sid == token[2:]:
            start = place + 1 if token.startswith("PA") else max(0, place - size)
    shown = found[start : start + size]
    path = f"/2010-04-01/Accounts/{account_sid}/Messages.json?"
    filters = {name: value for name, value in query.items() if name not in ("Page", "PageSize", "PageToken")}

    def address(page_number: int, page_token: str = "") -> str:
        extra = {"PageToken": page_token} if page_token else {}
        return path + urlencode({**filters, "PageSize": size, "Page": page_number, **extra})

    more = start + size < len(found)
    return {
        "end": number * size + max(len(shown) - 1, 0),
        "first_page_uri": address(0),
        "messages": [resource(message, account_sid) for message in shown],
        "next_page_uri": address(number + 1, f"PA{shown[-1].sid}") if more else None,
        "page": number,
        "page_size": size,
        "previous_page_uri": address(number - 1, f"PB{shown[0].sid}") if number and shown else None,
        "start": number * size,
        "uri": address(number, token),
    }


def _matches(message: Message, query: Mapping[str, str]) -> bool:
    if query.get("To", message.to) != message.to or query.get("From", message.sender) != message.sender:
        return False
    asked = {name.removeprefix("DateSent"): query[name] for name in query if name.startswith("DateSent")}
    bounds = {sign: _span(value if sign else value[:10]) for sign, value in asked.items()}
    if message.sent is None:
        return not bounds
    sent = datetime.fromtimestamp(int(message.sent), UTC)
    return all((sign == ">" or sent < end) and (sign == "<" or sent >= start) for sign, (start, end) in bounds.items())


def _span(value: str) -> tuple[datetime, datetime]:
    start = datetime.fromisoformat(value)
    start = start if start.tzinfo else start.replace(tzinfo=UTC)
    return start, start + (timedelta(days=1) if len(value) == 10 else timedelta(seconds=1))
