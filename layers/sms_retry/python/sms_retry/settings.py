"""The environment, read once: what is missing or wrong is reported all at once, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit


class SettingsError(Exception):
    """The environment lacks something or has it wrong; the message names every such variable."""


@dataclass(frozen=True, slots=True)
class Database:
    """Where Postgres is: a URL, or the ARN of the secret that says so."""

    url: str | None
    secret_arn: str | None


@dataclass(frozen=True, slots=True)
class Account:
    """The Twilio account: its SID and token, or the ARN of the secret that holds them; and where its API is."""

    account_sid: str | None
    auth_token: str | None
    secret_arn: str | None
    api_url: str


@dataclass(frozen=True, slots=True)
class Credentials:
    """How to sign in; an API key sends where there is one, and only auth tokens sign callbacks."""

    account_sid: str
    auth_token: str = field(default="", repr=False)
    api_key_sid: str | None = None
    api_key_secret: str | None = field(default=None, repr=False)
    next_auth_token: str | None = field(default=None, repr=False)

    @property
    def signing_tokens(self) -> tuple[str, ...]:
        return tuple(token for token in (self.auth_token, self.next_auth_token) if token)


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sends (`+1...` or `MG...`), how many POSTs are in flight, and where Twilio's callbacks come in."""

    sender: str
    webhook_url: str
    concurrency: int


TWILIO_API_URL = "https://api.twilio.com"


class _Reader:
    """Reads variables and keeps what is wrong with them until `check`. An empty value is an absent one."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.faults: list[str] = []

    def optional(self, name: str) -> str | None:
        return self.environ.get(name, "").strip() or None

    def required(self, name: str) -> str:
        value = self.optional(name)
        if value is None:
            self.faults.append(f"{name} is not set")
        return value or ""

    def url(self, name: str, default: str | None = None) -> str:
        value = (self.optional(name) or default) if default else self.required(name)
        parts = urlsplit(value or "")
        if value and (parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment):
            self.faults.append(f"{name} must be an http(s) URL without query or fragment")
        return (value or "").rstrip("/")

    def number(self, name: str, default: int, least: int, most: int) -> int:
        value = self.optional(name) or str(default)
        if not (value.isascii() and value.isdigit() and least <= int(value) <= most):
            self.faults.append(f"{name} must be a whole number from {least} to {most}")
            return default
        return int(value)

    def check(self) -> None:
        if self.faults:
            raise SettingsError("the environment is not complete: " + "; ".join(self.faults))


def database(environ: Mapping[str, str]) -> Database:
    read = _Reader(environ)
    found = _database(read)
    read.check()
    return found


def sending(environ: Mapping[str, str]) -> tuple[Database, Account, Sender]:
    """What a Lambda that sends needs."""
    read = _Reader(environ)
    found = _database(read), _account(read), _sender(read)
    read.check()
    return found


def asking(environ: Mapping[str, str]) -> tuple[Database, Account]:
    """What a Lambda that only asks Twilio needs."""
    read = _Reader(environ)
    found = _database(read), _account(read)
    read.check()
    return found


def listening(environ: Mapping[str, str]) -> tuple[Database, Account, str]:
    """What the webhook needs: the last is the public URL that Twilio signs."""
    read = _Reader(environ)
    found = _database(read), _account(read), read.url("PUBLIC_WEBHOOK_URL")
    read.check()
    return found


def most_workers(environ: Mapping[str, str]) -> int:
    """How many workers may send at a time, each with SEND_CONCURRENCY in flight."""
    read = _Reader(environ)
    found = read.number("MAX_WORKERS", 1, 1, 50)
    read.check()
    return found


def cleaning(environ: Mapping[str, str]) -> tuple[Database, int | None]:
    """What the clean-up needs: the last is after how many days texts are erased, None where they stay in the log."""
    read = _Reader(environ)
    days = read.number("ERASE_BODY_AFTER_DAYS", 7, 1, 7) if read.optional("ERASE_BODY_AFTER_DAYS") else None
    found = _database(read), days
    read.check()
    return found


def _database(read: _Reader) -> Database:
    url, arn = read.optional("DATABASE_URL"), read.optional("DATABASE_SECRET_ARN")
    if not url and not arn:
        read.faults.append("DATABASE_URL or DATABASE_SECRET_ARN is not set")
    return Database(url, arn)


def _account(read: _Reader) -> Account:
    arn = read.optional("TWILIO_SECRET_ARN")
    sid, token = read.optional("TWILIO_ACCOUNT_SID"), read.optional("TWILIO_AUTH_TOKEN")
    if not arn:
        for name, value in (("TWILIO_ACCOUNT_SID", sid), ("TWILIO_AUTH_TOKEN", token)):
            if not value:
                read.faults.append(f"{name} (or TWILIO_SECRET_ARN) is not set")
    return Account(sid, token, arn, read.url("TWILIO_API_URL", TWILIO_API_URL))


def _sender(read: _Reader) -> Sender:
    sender = read.required("TWILIO_SENDER")
    if sender and not ((sender.startswith("+") and sender[1:].isdigit()) or sender.startswith("MG")):
        read.faults.append("TWILIO_SENDER must be a number (+1...) or a Messaging Service (MG...)")
    return Sender(sender, read.url("PUBLIC_WEBHOOK_URL"), read.number("SEND_CONCURRENCY", 20, 1, 200))
