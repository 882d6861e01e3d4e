"""The console verifies an ID token by the provider's keys, and seals its own cookies."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey

from sms_retry.console import session, sign_in
from sms_retry.console.session import Attempt, Person
from sms_retry.console.sign_in import NotSignedIn, Provider

NOW = datetime.now(UTC)
ATTEMPT = Attempt("state", "nonce", "verifier", "/")
ANSWER = {"state": "state", "code": "code"}
BACK = "https://console.example.com/sign-in/done"
KEY = "a-key-of-the-tests-of-32-characters"
ANNA = Person("anna", "https://id.example.com", "anna@example.com", is_operator=True)


class Issuer:
    """A provider over HTTP that answers every code with a token of `claims`, signed by `key`."""

    def __init__(self) -> None:
        self.key = RSAKey.generate_key(2048, {"kid": "1"})
        self.header: dict[str, Any] = {"alg": "RS256", "kid": "1"}
        self.claims: dict[str, Any] = {}
        self.metadata: dict[str, Any] = {}
        self.keys_read = 0
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                is_keys = self.path == "/keys"
                issuer.keys_read += is_keys
                self._send({"keys": [issuer.key.as_dict(private=False)]} if is_keys else issuer.described())

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                self._send({"access_token": "a", "token_type": "Bearer", "id_token": issuer.token()})

            def _send(self, answer: object) -> None:
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.end_headers()
                self.wfile.write(json.dumps(answer).encode())

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        Thread(target=self.server.serve_forever, daemon=True).start()

    def described(self) -> dict[str, Any]:
        names = {"authorization_endpoint": "authorize", "token_endpoint": "token", "jwks_uri": "keys"}
        return {"issuer": self.url, **{name: f"{self.url}/{path}" for name, path in names.items()}, **self.metadata}

    def token(self) -> str:
        at = int(time.time())
        claims = {"iss": self.url, "aud": "console", "sub": "anna", "nonce": "nonce", "iat": at, "exp": at + 300}
        claims = {name: value for name, value in {**claims, **self.claims}.items() if value is not None}
        key = OctKey.import_key("the-client's-secret") if self.header["alg"] == "HS256" else self.key
        made: str = jwt.encode(self.header, claims, key, algorithms=[self.header["alg"]])
        return made


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    found = Issuer()
    yield found
    found.server.shutdown()
    found.server.server_close()


def provider(issuer: Issuer) -> Provider:
    return Provider(issuer.url, "console", "the-client's-secret", "groups", "sms-operators")


def signed_in(issuer: Issuer, at: Provider | None = None) -> Person:
    return (at or provider(issuer)).finish(BACK, ATTEMPT, ANSWER, datetime.now(UTC))


@pytest.mark.parametrize(
    ("claims", "email", "is_operator"),
    [
        ({}, None, False),
        ({"email": "a@example.com"}, None, False),
        ({"email": "a@example.com", "email_verified": "true"}, None, False),
        ({"email": "a@example.com", "email_verified": True}, "a@example.com", False),
        ({"groups": ["staff", "sms-operators"]}, None, True),
        ({"groups": "sms-operators"}, None, True),
        ({"groups": "sms-operators-of-another"}, None, False),
        ({"groups": {"sms-operators": True}}, None, False),
        ({"groups": None}, None, False),
    ],
)
def test_the_claims_of_a_token_make_a_person(
    issuer: Issuer, claims: dict[str, Any], email: str | None, is_operator: bool
) -> None:
    issuer.claims = claims
    assert signed_in(issuer) == Person("anna", issuer.url, email, is_operator)


@pytest.mark.parametrize(("is_verified", "is_operator"), [(True, True), (False, False), ("true", False), (None, False)])
def test_only_a_verified_address_makes_an_operator(issuer: Issuer, is_verified: object, is_operator: bool) -> None:
    issuer.claims = {"email": "boss@example.com", "email_verified": is_verified}
    by_email = Provider(issuer.url, "console", "the-client's-secret", "email", "boss@example.com")
    assert signed_in(issuer, by_email).is_operator is is_operator


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://evil.example.com"},
        {"aud": "another-client"},
        {"aud": None},
        {"nonce": "of another attempt"},
        {"nonce": None},
        {"sub": None},
        {"exp": None},
        {"exp": 1},
        {"iat": 9_999_999_999},
        {"azp": "another-client"},
    ],
    ids=str,
)
def test_a_token_for_another_purpose_is_refused(issuer: Issuer, claims: dict[str, Any]) -> None:
    issuer.claims = claims
    with pytest.raises(NotSignedIn):
        signed_in(issuer)


@pytest.mark.parametrize("header", [{"alg": "HS256"}, {"alg": "none"}])
@pytest.mark.filterwarnings("ignore")
def test_a_token_without_a_signature_of_the_provider_is_refused(issuer: Issuer, header: dict[str, str]) -> None:
    issuer.header = header
    with pytest.raises(NotSignedIn):
        signed_in(issuer)


def test_a_token_of_a_rotated_key_is_accepted_and_the_keys_are_read_at_most_once_a_minute(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = provider(issuer)
    signed_in(issuer, at)
    signed_in(issuer, at)
    assert issuer.keys_read == 1

    issuer.key, issuer.header = RSAKey.generate_key(2048, {"kid": "2"}), {"alg": "RS256", "kid": "2"}
    with pytest.raises(NotSignedIn):
        signed_in(issuer, at)
    assert issuer.keys_read == 1
    issuer.claims = {"iat": int(time.time()), "exp": int(time.time()) + 300}
    a_minute_later = time.time() + sign_in.PAUSE + 1
    monkeypatch.setattr(sign_in.time, "time", lambda: a_minute_later)
    assert signed_in(issuer, at).subject == "anna"
    assert issuer.keys_read == 2


def test_a_token_of_a_key_that_the_provider_does_not_have_is_refused(issuer: Issuer) -> None:
    at = provider(issuer)
    signed_in(issuer, at)
    issuer.key = RSAKey.generate_key(2048, {"kid": "1"})
    with pytest.raises(NotSignedIn):
        signed_in(issuer, at)


def test_a_provider_that_names_another_issuer_is_refused(issuer: Issuer) -> None:
    issuer.metadata = {"issuer": "https://evil.example.com"}
    with pytest.raises(NotSignedIn, match="another issuer"):
        provider(issuer).begin(BACK, "/")


@pytest.mark.parametrize("answer", [{}, {"state": "state"}, {"code": "code"}, {"code": "code", "state": "é"}])
def test_an_answer_without_the_state_and_a_code_is_refused(issuer: Issuer, answer: dict[str, str]) -> None:
    with pytest.raises(NotSignedIn):
        provider(issuer).finish(BACK, ATTEMPT, answer, NOW)


def test_a_session_lasts_eight_hours_with_its_own_key() -> None:
    cookie = session.session(ANNA, KEY, NOW)
    assert session.person(cookie, KEY, NOW + timedelta(hours=7, minutes=59)) == ANNA
    assert session.person(cookie, KEY, NOW + timedelta(hours=8, seconds=1)) is None
    assert session.person(cookie, KEY + "2", NOW) is None
    assert session.person(cookie[:-2], KEY, NOW) is None
    assert session.person(session.attempt(ATTEMPT, KEY, NOW), KEY, NOW) is None


@pytest.mark.parametrize("cookie", [None, "", "x", "a.b.c", "é.é.é", ".."])
def test_a_cookie_that_is_no_session_is_none(cookie: str | None) -> None:
    assert session.person(cookie, KEY, NOW) is None
