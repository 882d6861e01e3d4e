"""Who asks, and whether a form was sent from one of the console's own pages.

A browser that another site's page makes post a form says so: by `Sec-Fetch-Site`, or by an `Origin` that is not ours.
Behind that, each form carries a token, made from a cookie of this browser for one person and a few hours: whoever
cannot read the cookie cannot make the token, and no key has to be kept anywhere. OWASP calls it a double-submit cookie.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl

LARGEST_FORM = 16 * 1024
# A form that was opened in the evening is still good in the night, and no longer in the morning.
FORM_LASTS = timedelta(hours=8)
NONCE = re.compile(r"[\w-]{32}", re.ASCII)


def actor(event: Mapping[str, Any]) -> str | None:
    """Who asks, by the claims of the token that the API's authorizer has checked; None where it let nobody in."""
    authorizer = event["requestContext"].get("authorizer") or {}
    claims = (authorizer.get("jwt") or {}).get("claims") or {}
    return str(claims.get("email") or claims.get("sub") or "") or None


def form(text: str) -> dict[str, str]:
    """A posted form's fields, the first of each name, without spaces around them. ValueError: it is none."""
    if len(text) > LARGEST_FORM:
        raise ValueError("it is longer than any form of ours")
    fields: dict[str, str] = {}
    for name, value in parse_qsl(text, keep_blank_values=True, max_num_fields=50, errors="strict"):
        if "\0" in value:
            raise ValueError("Postgres has no text with a NUL in it")
        fields.setdefault(name, value.strip())
    return fields


def nonce(cookies: list[str], name: str) -> str | None:
    """The console's cookie in a browser, if it has one as we make them."""
    values = (cookie.partition("=")[2] for cookie in cookies if cookie.startswith(f"{name}="))
    return next((value for value in values if NONCE.fullmatch(value)), None)


def new_nonce() -> str:
    return secrets.token_urlsafe(24)


def token(nonce: str, actor: str, now: datetime) -> str:
    """What a form of this browser carries, so that it is believed for a while."""
    expires = int((now + FORM_LASTS).timestamp())
    return f"{expires}.{_seal(nonce, actor, expires)}"


def refusal(
    headers: Mapping[str, str], fields: Mapping[str, str], nonce: str | None, actor: str, now: datetime
) -> str | None:
    """Why a form is not believed; None where it is. `headers` are by their names in lower case."""
    if not _is_from_here(headers):
        return "Another site's page sent this form."
    expires, _, seal = fields.get("token", "").partition(".")
    if nonce is None or not (expires.isascii() and expires.isdigit() and len(expires) <= 12):
        return "This form did not come with the console's cookie."
    if not hmac.compare_digest(seal.encode(), _seal(nonce, actor, int(expires)).encode()):
        return "This form was made for somebody else, or for another browser."
    if int(expires) < now.timestamp():
        return "This form has been open for too long."
    return None


def _is_from_here(headers: Mapping[str, str]) -> bool:
    # As Go's http.CrossOriginProtection judges. Behind a proxy the host may be another than the browser's, so what the
    # browser says of the origin comes first, and only one of before 2023 says nothing.
    if site := headers.get("sec-fetch-site"):
        # None is nobody's page: the person reloads what a form was answered with.
        return site in ("same-origin", "none")
    origin = headers.get("origin")
    return origin is None or origin.partition("://")[2] == headers.get("host")


def _seal(nonce: str, actor: str, expires: int) -> str:
    return hmac.new(nonce.encode(), f"{expires} {actor}".encode(), hashlib.sha256).hexdigest()
