"""Signing in by OpenID Connect: the authorization code flow with PKCE, `state` and `nonce`.

https://openid.net/specs/openid-connect-core-1_0.html#CodeFlowAuth
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any

from sms_retry.console.session import Attempt, Person
from sms_retry.settings import SigningIn

# Of the provider's signature; never `none`, and never a key that the client knows too.
ALGORITHMS = ["RS256", "PS256", "ES256"]
SCOPE = "openid email profile"
# Seconds: the limit of one request to the provider, the time for which its addresses and keys are kept, and the least
# time between two early readings of its keys.
TIMEOUT, KEPT, PAUSE = 5.0, 3600.0, 60.0
# Clocks differ by some seconds (OpenID Connect Core, 3.1.3.7).
LEEWAY = 60

logger = logging.getLogger("sms-retry")


class NotSignedIn(Exception):
    """The sign-in failed; the message is a sentence for the person, and holds nothing that the provider sent."""


@dataclass
class Provider:
    """An OpenID provider, and this console as its client. A client without a secret has PKCE alone."""

    issuer: str
    client_id: str
    client_secret: str | None = field(default=None, repr=False)
    operator_claim: str | None = None
    operator_value: str | None = None
    _addresses: dict[str, Any] = field(default_factory=dict, repr=False)
    _keys: Any = field(default=None, repr=False)
    _addresses_read_at: float = 0.0
    _keys_read_at: float = 0.0

    def begin(self, back: str, place: str) -> tuple[str, Attempt]:
        """The provider's address for an attempt. The provider sends the browser `back`, and we send it to `place`."""
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        attempt = Attempt(state, nonce, verifier, place)
        address, _ = self._client(back).create_authorization_url(
            self.addresses()["authorization_endpoint"],
            state=attempt.state,
            nonce=attempt.nonce,
            code_verifier=attempt.verifier,
        )
        return address, attempt

    def finish(self, back: str, attempt: Attempt, answer: Mapping[str, str], now: datetime) -> Person:
        """The person of the provider's answer, the parameters with which the browser came `back`."""
        if not secrets.compare_digest(answer.get("state", "").encode(), attempt.state.encode()):
            raise NotSignedIn("This answer is not for the sign-in that this browser began.")
        if "code" not in answer:
            raise NotSignedIn("The provider did not sign you in.")
        try:
            tokens = self._client(back).fetch_token(
                self.addresses()["token_endpoint"],
                grant_type="authorization_code",
                code=answer["code"],
                code_verifier=attempt.verifier,
                timeout=TIMEOUT,
            )
            return self._person(self._claims(tokens["id_token"], attempt.nonce, now))
        except NotSignedIn:
            raise
        except Exception as error:
            # Not its text, which may hold the code or a token.
            logger.warning("sign_in_failed", extra={"error": type(error).__name__, "issuer": self.issuer})
            raise NotSignedIn("The provider's answer could not be verified.") from None

    def addresses(self) -> dict[str, Any]:
        """The provider's metadata: https://openid.net/specs/openid-connect-discovery-1_0.html#ProviderMetadata"""
        if time.time() - self._addresses_read_at > KEPT:
            found = self._get(f"{self.issuer.rstrip('/')}/.well-known/openid-configuration")
            if found.get("issuer") != self.issuer:
                raise NotSignedIn("The provider names another issuer than ConsoleIssuer.")
            self._addresses, self._addresses_read_at = found, time.time()
        return self._addresses

    def _claims(self, id_token: str, nonce: str, now: datetime) -> dict[str, Any]:
        """The claims of an ID token, verified as OpenID Connect Core 3.1.3.7 says."""
        from joserfc import jwt

        rules = jwt.JWTClaimsRegistry(
            now=lambda: int(now.timestamp()),
            leeway=LEEWAY,
            iss={"essential": True, "value": self.issuer},
            aud={"essential": True, "value": self.client_id},
            nonce={"essential": True, "value": nonce},
            sub={"essential": True},
            exp={"essential": True},
            iat={"essential": True},
        )
        claims: dict[str, Any] = self._decoded(id_token).claims
        rules.validate(claims)
        if claims.get("azp", self.client_id) != self.client_id:
            raise ValueError("the ID token is for another client")
        return claims

    def _decoded(self, id_token: str) -> Any:
        """The token, by the provider's keys; they are read again where none of them made it, since keys rotate."""
        from joserfc import jwt
        from joserfc.errors import JoseError

        try:
            return jwt.decode(id_token, self._read_keys(KEPT), algorithms=ALGORITHMS)
        except (JoseError, ValueError):
            return jwt.decode(id_token, self._read_keys(PAUSE), algorithms=ALGORITHMS)

    def _read_keys(self, kept: float) -> Any:
        from joserfc.jwk import KeySet

        if time.time() - self._keys_read_at > kept:
            found: Any = self._get(self.addresses()["jwks_uri"])
            self._keys = KeySet.import_key_set(found)
            self._keys_read_at = time.time()
        return self._keys

    def _person(self, claims: Mapping[str, Any]) -> Person:
        email = (
            claims["email"] if claims.get("email_verified") is True and isinstance(claims.get("email"), str) else None
        )
        return Person(str(claims["sub"]), self.issuer, email, self._is_operator(claims))

    def _is_operator(self, claims: Mapping[str, Any]) -> bool:
        """Whether the claim that the deployment names is, or contains, its value. Without a claim all are viewers."""
        if not self.operator_claim or not self.operator_value:
            return False
        # Some providers let people enter any address.
        if self.operator_claim == "email" and claims.get("email_verified") is not True:
            return False
        found = claims.get(self.operator_claim)
        return self.operator_value in (found if isinstance(found, list) else [found])

    def _client(self, back: str) -> Any:
        from authlib.integrations.requests_client import OAuth2Session

        return OAuth2Session(
            self.client_id,
            self.client_secret,
            scope=SCOPE,
            redirect_uri=back,
            code_challenge_method="S256",
            token_endpoint_auth_method="client_secret_basic" if self.client_secret else "none",
        )

    def _get(self, address: str) -> dict[str, Any]:
        import requests

        try:
            answer = requests.get(address, timeout=TIMEOUT)
            answer.raise_for_status()
            found: dict[str, Any] = answer.json()
        except (requests.RequestException, ValueError) as error:
            logger.warning("provider_unreachable", extra={"error": type(error).__name__, "issuer": self.issuer})
            raise NotSignedIn("The provider does not answer. Try again in a minute.") from None
        return found


@dataclass(frozen=True, slots=True)
class Access:
    """How people get into the console: the key of its sessions, the provider, and its own address."""

    key: str
    provider: Provider
    address: str

    @property
    def back(self) -> str:
        """The address to which the provider sends the browser; the provider must know it."""
        return f"{self.address}/sign-in/done"


def access(given: SigningIn, secret: Callable[[str], Mapping[str, Any]], host: str) -> Access:
    """The access by the settings and their secrets; `host` is that of the API."""
    key = given.session_key or secret(given.session_secret_arn or "")["key"]
    arn = given.client_secret_arn
    client_secret = secret(arn)["client_secret"] if arn else given.client_secret
    provider = _provider(given.issuer, given.client_id, client_secret, given.operator_claim, given.operator_value)
    return Access(key, provider, given.address or f"https://{host}")


# One for each container and client secret: it keeps the provider's addresses and keys.
_provider = lru_cache(maxsize=2)(Provider)
