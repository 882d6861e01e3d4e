"""Status callbacks as Twilio posts them: signed, form-encoded, retried as the fragment of the URL demands."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import socket
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

Answer = int | str
"""The result of one try: an HTTP status, `ct` (no connection) or `rt` (no answer)."""


@dataclass(frozen=True, slots=True)
class Overrides:
    """Twilio's connection overrides; times are seconds. By default: one retry, and only if the connection failed."""

    retries: int = 1
    retry_on: frozenset[str] = frozenset({"ct"})
    connect_timeout: float = 5.0
    read_timeout: float = 15.0
    total: float = 15.0

    def allow_retry(self, answer: Answer) -> bool:
        kind = answer if isinstance(answer, str) else f"{answer // 100}xx"
        return kind in self.retry_on or ("all" in self.retry_on and kind != "2xx")


def read_overrides(fragment: str) -> Overrides:
    """`rc=3&rp=5xx,ct,rt`, with `ct`, `rt` and `tt` in milliseconds."""
    given = dict(parse_qsl(fragment))
    return Overrides(
        retries=int(given.get("rc", 1)),
        retry_on=frozenset(given.get("rp", "ct").split(",")),
        connect_timeout=int(given.get("ct", 5000)) / 1000,
        read_timeout=int(given.get("rt", 15000)) / 1000,
        total=int(given.get("tt", 15000)) / 1000,
    )


def post_callback(url: str, params: Mapping[str, str], auth_token: str, route: Mapping[str, str]) -> tuple[Answer, ...]:
    """Post one callback, blocking, and return the result of each try.

    `route` maps a public origin to its local one. An origin that is neither in it nor loopback is unreachable.
    """
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    public = urlunsplit((parts.scheme, host, parts.path, parts.query, ""))
    local = route.get(f"{parts.scheme}://{host}")
    if local is None and parts.hostname in ("127.0.0.1", "localhost"):
        local = f"{parts.scheme}://{host}"
    target = urlunsplit(("", "", parts.path or "/", parts.query, ""))
    body = urlencode(params).encode()
    headers = {
        "Host": host,
        "Accept": "*/*",
        "Content-Type": "application/x-www-form-urlencoded; charset=UTF-8",
        "User-Agent": "TwilioProxy/1.1",
        "X-Home-Region": "us1",
        "X-Twilio-Signature": signature(auth_token, public, params),
    }
    overrides = read_overrides(parts.fragment)
    give_up = time.monotonic() + overrides.total
    answers = [_try(local, target, body, headers, overrides)]
    headers["I-Twilio-Idempotency-Token"] = str(uuid.uuid4())
    while len(answers) <= overrides.retries and overrides.allow_retry(answers[-1]):
        if time.monotonic() >= give_up:
            break
        answers.append(_try(local, target, body, headers, overrides))
    return tuple(answers)


def signature(auth_token: str, url: str, params: Mapping[str, str]) -> str:
    """X-Twilio-Signature of a form POST: base64 HMAC-SHA1 over the public URL and the sorted parameters."""
    signed = url + "".join(name + params[name] for name in sorted(params))
    return base64.b64encode(hmac.new(auth_token.encode(), signed.encode(), hashlib.sha1).digest()).decode()


def _try(local: str | None, target: str, body: bytes, headers: Mapping[str, str], overrides: Overrides) -> Answer:
    if local is None:
        return "ct"
    connection = http.client.HTTPConnection(urlsplit(local).netloc, timeout=overrides.connect_timeout)
    try:
        try:
            connection.connect()
        except OSError:
            return "ct"
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sock.settimeout(overrides.read_timeout)
        try:
            connection.request("POST", target, body, dict(headers))
            response = connection.getresponse()
            response.read()
        except (OSError, http.client.HTTPException):
            return "rt"
        return response.status
    finally:
        connection.close()
