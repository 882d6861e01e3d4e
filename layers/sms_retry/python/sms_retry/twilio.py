"""Twilio's API: signs in, sends a message, and reads the answer."""

from __future__ import annotations

import base64
import json
import select
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from http.client import HTTPConnection, HTTPException, HTTPMessage, HTTPSConnection
from typing import Any
from urllib.parse import urlencode, urlsplit

from sms_retry.settings import FUNCTION_URL, TWILIO_API_URL, Credentials
from sms_retry.values import Accepted, Answer, Claim, Refused, Send, Unknown, Unreached

CONNECT_TIMEOUT = 3.0
# Twilio can take 26 s to answer. A shorter timeout would turn answers into unknown messages.
READ_TIMEOUT = 30.0

# Twilio repeats a callback only if the fragment of its URL says so. Twilio does not sign the fragment.
CALLBACK_RETRIES = "#rc=3&rp=5xx,ct,rt"
# Where too many callbacks come at once, an HTTP API answers 5xx, and a function URL 429.
FUNCTION_URL_RETRIES = "#rc=3&rp=4xx,5xx,ct,rt"

# Twilio's code for a login that it refuses.
AUTHENTICATE = 20003

# A longer Retry-After is a mistake of a proxy more often than Twilio's wish.
LONGEST_RETRY_AFTER = timedelta(hours=1)

# https://www.twilio.com/docs/messaging/features/traffic-shaping: the purpose of a message. The Compliance Toolkit
# may reschedule only marketing among these.
INTENTS = {"transactional": "notifications", "marketing": "marketing", "otp": "otp", "emergency": "security"}


class NotSent(Exception):
    """No connection: no byte of the request was written."""


class AnswerLost(Exception):
    """The request was written, at least in part, and no whole answer came back."""


@contextmanager
def open_sender(
    credentials: Credentials,
    api_url: str,
    sender: str,
    webhook_url: str,
    renewed: Callable[[], Credentials | None] = lambda: None,
) -> Iterator[Send]:
    """A `send` for any number of threads, each with its own client; its connections end with the context.

    After the first 401 `renewed` gives the credentials to repeat that POST with, and to use from then on.
    """
    login = _Login(credentials, renewed)
    retries = FUNCTION_URL_RETRIES if FUNCTION_URL.fullmatch(urlsplit(webhook_url).netloc) else CALLBACK_RETRIES

    with open_clients(api_url) as client:

        def post(signed_in: Credentials | None, claim: Claim, valid_for: timedelta) -> Answer:
            if signed_in is None:
                return Refused(401, AUTHENTICATE, f"the Twilio secret has no complete account {claim.account}")
            twilio, wire = client(signed_in)
            form = {
                "To": claim.to_number,
                **_content(claim),
                "StatusCallback": f"{webhook_url}/twilio/status?t={claim.ticket}{retries}",
                "ValidityPeriod": int(valid_for.total_seconds()),
                "MessageIntent": INTENTS[claim.kind],
                **_origin(claim.sender or sender),
            }
            url = f"{TWILIO_API_URL}/2010-04-01/Accounts/{signed_in.account_sid}/Messages.json"
            try:
                # Not `messages.create`, which builds an object from each answer for a quarter of a send's CPU.
                twilio.request("POST", url, data=form)
            except NotSent as error:
                return Unreached(str(error))
            except AnswerLost as error:
                return Unknown(str(error))
            return read_answer(*wire.answer)

        def send(claim: Claim, valid_for: timedelta) -> Answer:
            used = login.credentials
            answer = post(used.named(claim.account), claim, valid_for)
            if isinstance(answer, Refused) and answer.http_status == 401 and login.renew() is not used:
                return post(login.credentials.named(claim.account), claim, valid_for)
            return answer

        yield send


def _origin(sender: str) -> dict[str, str]:
    return {"MessagingServiceSid" if sender.startswith("MG") else "From": sender}


def _content(claim: Claim) -> dict[str, str | list[str]]:
    """The text, the media or the content template: Twilio takes no text beside a template."""
    if claim.content_sid:
        variables = {"ContentVariables": claim.content_variables} if claim.content_variables else {}
        return {"ContentSid": claim.content_sid, **variables}
    text = {"Body": claim.body} if claim.body else {}
    return {**text, **({"MediaUrl": claim.media_urls} if claim.media_urls else {})}


def read_answer(status: int, headers: Mapping[str, str] | HTTPMessage, text: str) -> Answer:
    """The answer to POST /Messages. It is `Refused` only if Twilio certainly did not accept the message."""
    request_id = headers.get("Twilio-Request-Id")
    body = _json_object(text)
    if 200 <= status < 300:
        sid = body.get("sid")
        if isinstance(sid, str) and sid:
            return Accepted(sid, status, request_id)
        return Unknown(f"HTTP {status} without a SID", status, request_id)
    code = _code(body)
    if 400 <= status < 500 or (status == 503 and code == 20503):
        message = str(body.get("message") or f"HTTP {status}")
        return Refused(status, code, message, _retry_after(headers), request_id)
    return Unknown(f"HTTP {status}", status, request_id)


@contextmanager
def open_clients(
    api_url: str, read_timeout: float | None = None
) -> Iterator[Callable[[Credentials], tuple[Any, Wire]]]:
    """Gives each thread its own SDK client and wire; an SDK client must not be shared between threads."""
    from twilio.rest import Client

    own = threading.local()
    wires: list[Wire] = []

    def client(credentials: Credentials) -> tuple[Any, Wire]:
        if not hasattr(own, "wire"):
            own.wire, own.clients = Wire(api_url, read_timeout), {}
            wires.append(own.wire)
        signed_in, made = own.clients.get(credentials.account_sid, (None, None))
        if signed_in is not credentials:
            user = credentials.api_key_sid or credentials.account_sid
            secret = credentials.api_key_secret if credentials.api_key_sid else credentials.auth_token
            made = Client(user, secret, credentials.account_sid, http_client=own.wire)
            own.clients[credentials.account_sid] = credentials, made
        return made, own.wire

    try:
        yield client
    finally:
        for wire in wires:
            wire.close()


class _Login:
    """The credentials of all threads, which the first 401 replaces."""

    def __init__(self, credentials: Credentials, renewed: Callable[[], Credentials | None]) -> None:
        self.credentials = credentials
        self._renewed: Callable[[], Credentials | None] | None = renewed
        self._lock = threading.Lock()

    def renew(self) -> Credentials:
        with self._lock:
            if self._renewed:
                self.credentials = self._renewed() or self.credentials
                self._renewed = None
        return self.credentials


class Wire:
    """The SDK's HttpClient on one open connection; it knows whether a byte of the request was written."""

    def __init__(self, api_url: str, read_timeout: float | None = None) -> None:
        self._url = urlsplit(api_url)
        self._read_timeout = read_timeout
        self._connection: HTTPConnection | None = None
        self.answer: tuple[int, Mapping[str, str] | HTTPMessage, str] = (0, {}, "")

    def close(self) -> None:
        if self._connection:
            self._connection.close()
            self._connection = None

    def request(
        self,
        method: str,
        url: str,
        params: Mapping[str, object] | None = None,
        data: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
        auth: tuple[str, str] | None = None,
        timeout: float | None = None,  # noqa: ARG002  the SDK's signature; our timeouts are fixed
        allow_redirects: bool = False,  # noqa: ARG002
    ) -> Any:
        """One request, never repeated. Raises NotSent before and AnswerLost after its first byte was written."""
        from twilio.http.response import Response

        self.answer = 0, {}, ""
        sent = dict(headers or {})
        if auth:
            sent["Authorization"] = "Basic " + base64.b64encode(":".join(auth).encode()).decode()
        target = self._url.path + urlsplit(url).path
        query = "&".join(part for part in (urlsplit(url).query, urlencode(params or {}, doseq=True)) if part)
        connection = self._connected()
        try:
            body = urlencode(data, doseq=True).encode() if data else None
            connection.request(method, f"{target}?{query}" if query else target, body, sent)
            response = connection.getresponse()
            text = response.read().decode(errors="replace")
        except (OSError, HTTPException) as error:
            self.close()
            raise AnswerLost(f"no answer: {type(error).__name__}") from error
        self.answer = response.status, response.headers, text
        return Response(response.status, text, response.headers)

    def _connected(self) -> HTTPConnection:
        """The open connection, or a new one if Twilio has ended it."""
        connection = self._connection
        if connection and connection.sock and not select.select([connection.sock], [], [], 0)[0]:
            return connection
        self.close()
        try:
            connection = self._connection = self._new()
            connection.connect()
        except OSError as error:
            self.close()
            raise NotSent(f"no connection: {type(error).__name__}") from error
        connection.sock.settimeout(self._read_timeout or READ_TIMEOUT)
        return connection

    def _new(self) -> HTTPConnection:
        host, port = self._url.hostname or "", self._url.port
        if self._url.scheme == "https":
            return HTTPSConnection(host, port, timeout=CONNECT_TIMEOUT, context=_tls())
        return HTTPConnection(host, port, timeout=CONNECT_TIMEOUT)


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


def _json_object(text: str) -> dict[str, Any]:
    try:
        body = json.loads(text)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _code(body: Mapping[str, Any]) -> int | None:
    """Twilio's error code, which may be spelled as a string. It fits Postgres's int."""
    code = body.get("code")
    if isinstance(code, str) and code.isascii() and code.isdigit() and len(code) <= 9:
        code = int(code)
    return code if isinstance(code, int) and not isinstance(code, bool) and 0 < code < 2**31 else None


def _retry_after(headers: Mapping[str, str] | HTTPMessage) -> timedelta | None:
    seconds = headers.get("Retry-After", "").strip()
    if not (seconds.isascii() and seconds.isdigit()):
        return None
    return min(LONGEST_RETRY_AFTER, timedelta(seconds=int(seconds))) if len(seconds) < 6 else LONGEST_RETRY_AFTER
