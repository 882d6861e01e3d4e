"""Signed cookies: the session of a signed-in person, and an attempt to sign in, until the provider answers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OctKey

# One working day: a session of the evening is over in the morning.
SESSION_LASTS = timedelta(hours=8)
ATTEMPT_LASTS = timedelta(minutes=10)
ALGORITHM = "HS256"


@dataclass(frozen=True, slots=True)
class Person:
    """A signed-in person. `subject` is the provider's name for the person; `email` is None unless it is verified."""

    subject: str
    issuer: str
    email: str | None
    is_operator: bool

    @property
    def name(self) -> str:
        return self.email or self.subject

    @property
    def actor(self) -> str:
        """The name in the log of actions: it stays the same person's when an address is given to another."""
        return f"{self.email or 'no verified email'} ({self.subject} at {self.issuer})"


@dataclass(frozen=True, slots=True)
class Attempt:
    """The secrets of one sign-in: they bind the provider's answer to this browser. `place` is the page to go to."""

    state: str
    nonce: str
    verifier: str
    place: str


def session(person: Person, key: str, now: datetime) -> str:
    """The value of the session's cookie."""
    return _sealed("session", asdict(person), key, now + SESSION_LASTS)


def person(cookie: str | None, key: str, now: datetime) -> Person | None:
    """The person of a session; None if it is expired, forged or of another key."""
    claims = _opened("session", cookie, key, now)
    return Person(**claims) if claims else None


def attempt(of: Attempt, key: str, now: datetime) -> str:
    return _sealed("attempt", asdict(of), key, now + ATTEMPT_LASTS)


def attempted(cookie: str | None, key: str, now: datetime) -> Attempt | None:
    claims = _opened("attempt", cookie, key, now)
    return Attempt(**claims) if claims else None


def _sealed(kind: str, claims: dict[str, Any], key: str, expires: datetime) -> str:
    sealed: str = jwt.encode(
        {"alg": ALGORITHM}, {"aud": kind, "exp": int(expires.timestamp()), "of": claims}, OctKey.import_key(key)
    )
    return sealed


def _opened(kind: str, cookie: str | None, key: str, now: datetime) -> dict[str, Any] | None:
    # `aud` keeps an attempt from being used as a session.
    rules = jwt.JWTClaimsRegistry(
        now=lambda: int(now.timestamp()), leeway=0, aud={"essential": True, "value": kind}, exp={"essential": True}
    )
    try:
        token = jwt.decode(cookie or "", OctKey.import_key(key), algorithms=[ALGORITHM])
        rules.validate(token.claims)
    except (JoseError, ValueError):
        return None
    claims: dict[str, Any] = token.claims["of"]
    return claims
