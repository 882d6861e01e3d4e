"""The check that a form was sent from one of the console's own pages.

A browser names the origin of a form that another site posts, in `Sec-Fetch-Site` or `Origin`. As a second check each
form carries a token, made from a cookie of this browser for one person and a few hours. A page that cannot read the
cookie cannot make the token, and no key has to be stored. OWASP calls this a double-submit cookie.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from urllib.parse import parse_qsl

LARGEST_FORM = 16 * 1024
# One working day: a form of the evening is refused in the morning.
FORM_LASTS = timedelta(hours=8)
NONCE = re.compile(r"[\w-]{32}", re.ASCII)


def form(text: str) -> dict[str, str]:
    """The fields of a posted form, the first of each name, stripped. ValueError: the text is not a form."""
    if len(text) > LARGEST_FORM:
        raise ValueError("it is longer than every form of the console")
    fields: dict[str, str] = {}
    for name, value in parse_qsl(text, keep_blank_values=True, max_num_fields=50, errors="strict"):
        if "\0" in value:
            raise ValueError("Postgres cannot store a NUL in a text")
        fields.setdefault(name, value.strip())
    return fields


def nonce(cookie: str | None) -> str | None:
    """The value of the console's cookie, if it is well-formed."""
    return cookie if cookie and NONCE.fullmatch(cookie) else None


def new_nonce() -> str:
    return secrets.token_urlsafe(24)


def token(nonce: str, actor: str, now: datetime) -> str:
    """The token of this browser's forms for one person, valid for FORM_LASTS."""
    expires = int((now + FORM_LASTS).timestamp())
    return f"{expires}.{_seal(nonce, actor, expires)}"


def refusal(
    headers: Mapping[str, str], fields: Mapping[str, str], nonce: str | None, actor: str, now: datetime
) -> str | None:
    """The reason why a form is refused; None if it is accepted. The names of `headers` are in lower case."""
    if not _is_from_here(headers):
        return "Another site sent this form."
    expires, _, seal = fields.get("token", "").partition(".")
    if nonce is None or not (expires.isascii() and expires.isdigit() and len(expires) <= 12):
        return "This form came without the console's cookie."
    if not hmac.compare_digest(seal.encode(), _seal(nonce, actor, int(expires)).encode()):
        return "This form was made for another person or another browser."
    if int(expires) < now.timestamp():
        return "This form has expired."
    return None


def noticed(nonce: str, actor: str, text: str) -> str:
    """A notice for the next page of this browser and person: the text and a seal, which no other site can make."""
    return f"{_notice_seal(nonce, actor, text)}.{text}"


def notice(nonce: str | None, actor: str, given: str) -> str:
    """The text of a notice that this browser was sent; empty if it was not."""
    seal, _, text = given.partition(".")
    is_ours = nonce and actor and hmac.compare_digest(seal.encode(), _notice_seal(nonce, actor, text).encode())
    return text if is_ours else ""


def _notice_seal(nonce: str, actor: str, text: str) -> str:
    return hmac.new(nonce.encode(), f"notice {actor} {text}".encode(), hashlib.sha256).hexdigest()[:32]


def _is_from_here(headers: Mapping[str, str]) -> bool:
    # The rules of Go's http.CrossOriginProtection. Behind a proxy `host` may differ from the browser's host, so
    # Sec-Fetch-Site comes first; only browsers from before 2023 do not send it.
    if site := headers.get("sec-fetch-site"):
        # Browsers send "none" when a person reloads the answer to a form.
        return site in ("same-origin", "none")
    origin = headers.get("origin")
    return origin is None or origin.partition("://")[2] == headers.get("host")


def _seal(nonce: str, actor: str, expires: int) -> str:
    return hmac.new(nonce.encode(), f"{expires} {actor}".encode(), hashlib.sha256).hexdigest()
