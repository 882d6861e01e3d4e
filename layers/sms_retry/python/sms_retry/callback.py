"""Reads Twilio's callbacks: a form with a valid signature becomes a receipt or a reply."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import Any
from urllib.parse import urlsplit

from sms_retry import numbers, replies
from sms_retry.values import Receipt, Reply, Ticket

# Twilio's largest callback has about 40 fields and 4 KiB. A forged form is hashed as a whole before it is refused.
LARGEST_BODY = 16 * 1024
MOST_FIELDS = 100
# Longer than any value that Twilio sends in these fields, and short enough for the key of an index.
LONGEST_FIELD = 255
UNFIT = f"a NUL in it or more than {LONGEST_FIELD} characters"
# The bytes 0xFE and 0xFF, which stand for the separators of a form, as Python decodes them.
EQUALS, AND = "\udcfe", "\udcff"
PATHS = ("/twilio/status", "/twilio/inbound")

# Twilio puts the channel before the numbers of these: https://www.twilio.com/docs/sms/channels
CHANNELS = ("rcs:", "whatsapp:")


@dataclass(frozen=True, slots=True)
class Unsigned:
    """A request without a signature: not Twilio's."""


@dataclass(frozen=True, slots=True)
class Forged:
    """A request with a signature that no token of ours makes for an address of ours."""


@dataclass(frozen=True, slots=True)
class NotACallback:
    """A request that is not a callback; `why` is the reason."""

    why: str


def read(
    event: Mapping[str, Any],
    addresses: Sequence[str],
    tokens: Sequence[str],
    account_sid: str | None = None,
    accounts: Mapping[str, tuple[str, Sequence[str]]] | None = None,
) -> Receipt | Reply | Unsigned | Forged | NotACallback:
    """The callback in an HTTP API event (payload 2.0), if one of `tokens` signed it for one of `addresses`.

    The signed URL is an address with the path and the raw query: the caller controls the host in the event. The
    query is a ticket or empty: the signed text has no separators, so a field could be moved into the query unseen. A
    callback of another account than `account_sid` or a subaccount is forged; `accounts` has the names and tokens of the
    subaccounts by their SIDs.
    """
    headers = _headers(event.get("headers"))
    signature = _text(headers.get("x-twilio-signature"))
    if not signature:
        return Unsigned()
    path = next((path for path in PATHS if _text(event.get("rawPath")).endswith(path)), None)
    form = _form(event, headers)
    if path is None or form is None:
        largest = f"{LARGEST_BODY} bytes and {MOST_FIELDS} fields"
        return NotACallback(f"it is not a form of at most {largest} that is posted to {' or '.join(PATHS)}")
    query = _text(event.get("rawQueryString"))
    account, tokens = (accounts or {}).get(form.first("AccountSid"), (None, tokens))
    if account is None and account_sid and form.first("AccountSid") not in ("", account_sid):
        return Forged()
    rest = f"{path}{'?' if query else ''}{query}"
    if not is_signed(addresses, rest, form.fields, signature, tokens):
        return Forged()
    ticket = Ticket.parse(query.removeprefix("t="))
    if query and (path == "/twilio/inbound" or query != f"t={ticket}"):
        return NotACallback("its query is not a ticket")
    return _reply(form) if path == "/twilio/inbound" else _receipt(form, ticket, account)


def is_signed(
    addresses: Sequence[str], rest: str, fields: Sequence[tuple[str, str]], signature: str, tokens: Sequence[str]
) -> bool:
    """Whether one of `tokens` signed a form with these fields for `rest` at one of `addresses`.

    The text of the fields is made once, and hashed for each address, with and without its port, and each token. The
    SDK makes it anew each time. https://www.twilio.com/docs/usage/webhooks/webhooks-security
    """
    signed = (rest + "".join(chain.from_iterable(sorted(set(fields))))).encode()
    given, origins = signature.encode(), [origin for address in addresses for origin in _origins(address)]
    return any(hmac.compare_digest(_sign(token, o + signed), given) for o in origins for token in tokens)


def _sign(token: str, text: bytes) -> bytes:
    return base64.b64encode(hmac.digest(token.encode(), text, "sha1"))


@cache
def _origins(address: str) -> tuple[bytes, ...]:
    """The address without and with its port: Twilio signs either."""
    parts = urlsplit(address)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    hosts = (parts.hostname or "", f"{parts.hostname}:{port}")
    return tuple(parts._replace(netloc=host).geturl().encode() for host in hosts)


class _Form:
    """The fields of a form, and the first value of each."""

    def __init__(self, fields: Sequence[tuple[str, str]]) -> None:
        self.fields = fields
        self._first = dict(reversed(fields))

    def first(self, name: str) -> str:
        return self._first.get(name, "")


def _headers(given: object) -> dict[str, str]:
    pairs = given.items() if isinstance(given, Mapping) else ()
    return {name.lower(): value for name, value in pairs if isinstance(name, str) and isinstance(value, str)}


def _text(given: object) -> str:
    # JSON can contain half of a surrogate pair, which no signed text has.
    return given.encode(errors="replace").decode() if isinstance(given, str) else ""


def _form(event: Mapping[str, Any], headers: Mapping[str, str]) -> _Form | None:
    if not headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        return None
    body = _text(event.get("body"))
    try:
        raw = base64.b64decode(body, validate=True) if event.get("isBase64Encoded") else body.encode()
        if len(raw) > LARGEST_BODY or raw.count(b"&") >= MOST_FIELDS:
            return None
        return _Form(_fields(raw))
    except (binascii.Error, ValueError):
        return None


def _fields(raw: bytes) -> list[tuple[str, str]]:
    """The names and values of a form. ValueError: it is not percent-encoded UTF-8.

    It is decoded as a whole, with bytes that UTF-8 never has in place of its separators: `urllib.parse`, which decodes
    each escape by itself, needs more time for 16 KiB of them than three genuine callbacks. Each `%41` becomes
    `\\x41`, which is Python's escape of the same byte.
    """
    escaped = raw.replace(b"+", b" ").replace(b"=", b"\xfe").replace(b"&", b"\xff").replace(b"\\", b"\\\\")
    decoded = escaped.replace(b"%", b"\\x").decode("unicode_escape").encode("latin-1")
    if decoded.count(b"\xff") != raw.count(b"&") or decoded.count(b"\xfe") != raw.count(b"="):
        raise ValueError("it has a byte that UTF-8 never has")
    text = decoded.decode(errors="surrogateescape")
    text.replace(EQUALS, "").replace(AND, "").encode()
    parted = [field.partition(EQUALS) for field in text.split(AND) if field]
    return [(name, value.replace(EQUALS, "=")) for name, _, value in parted]


def _receipt(form: _Form, ticket: Ticket | None, account: str | None) -> Receipt | NotACallback:
    sid, status, code = map(form.first, ("MessageSid", "MessageStatus", "ErrorCode"))
    to_number, from_number = _without_channel(form.first("To")), _without_channel(form.first("From"))
    if not sid or not status:
        return NotACallback("it has no MessageSid or no MessageStatus")
    if not _can_be_stored(sid, status, to_number):
        return NotACallback(f"its MessageSid, MessageStatus or To has {UNFIT}")
    known = code.isascii() and code.isdigit() and len(code) <= 9
    return Receipt(sid, status, int(code) if known else None, ticket, to_number, from_number, account)


def _reply(form: _Form) -> Reply | NotACallback:
    sender, sid = form.first("From"), form.first("MessageSid")
    to = (form.first("MessagingServiceSid"), _without_channel(form.first("To")))
    if not sender:
        return NotACallback("it has no From")
    if not _can_be_stored(sender, sid, *to):
        return NotACallback(f"its From, To, MessageSid or MessagingServiceSid has {UNFIT}")
    wish = replies.wish(form.first("Body"), form.first("OptOutType"))
    # Postgres cannot store NUL.
    body = form.first("Body").replace("\0", "")
    return Reply(sid or None, numbers.from_text(_without_channel(sender)), wish, tuple(filter(None, to)), to[1], body)


def _without_channel(address: str) -> str:
    channel = next((channel for channel in CHANNELS if address.lower().startswith(channel)), "")
    return address[len(channel) :]


def _can_be_stored(*fields: str) -> bool:
    """Whether Postgres can store these as text and as keys."""
    return all("\0" not in field and len(field) <= LONGEST_FIELD for field in fields)
