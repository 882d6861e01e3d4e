"""The environment of each Lambda, as one value; every missing or invalid variable is reported at once, by name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit

Settings = TypeVar("Settings")

TWILIO_API_URL = "https://api.twilio.com"
# SQL's sms_message_faults accepts the same senders, and `*` for that of the deployment. A name has a letter.
SENDER = re.compile(r"\+[1-9][0-9]{1,14}|[0-9]{3,8}|MG[0-9a-fA-F]{32}|(?=.*[A-Za-z])[A-Za-z0-9 ]{1,11}")
# The host of a function URL of Lambda.
FUNCTION_URL = re.compile(r"[a-z0-9]+\.lambda-url\.[a-z0-9-]+\.on\.aws")
# The entries of the variables that hold a list, with commas between them.
NUMBER = re.compile(r"\+[1-9][0-9]{0,14}")
ADDRESS = re.compile(r"https?://[^/?#@\s]+/?")
EVENT_TYPE = re.compile(r"delivered|undelivered|failed|expired|cancelled|unknown|reply")
ROLE = re.compile(r"(?!(?i:public)$)[A-Za-z_][A-Za-z0-9_$.@-]{0,62}")


class SettingsError(Exception):
    """The environment is incomplete or invalid; the message names every such variable and quotes no value."""


@dataclass(frozen=True, slots=True)
class Database:
    """How to reach Postgres: a URL, or the ARN of a secret. All that health_check needs."""

    url: str | None
    secret_arn: str | None


@dataclass(frozen=True, slots=True)
class Account:
    """The Twilio account: its SID and token, or the ARN of the secret that holds them; and the URL of its API."""

    account_sid: str | None
    auth_token: str | None
    secret_arn: str | None
    api_url: str


@dataclass(frozen=True, slots=True)
class Credentials:
    """The Twilio credentials. An API key, if present, sends; only auth tokens sign callbacks.

    `accounts` are those of subaccounts, by the names that senders have for them.
    """

    account_sid: str
    auth_token: str = field(default="", repr=False)
    api_key_sid: str | None = None
    api_key_secret: str | None = field(default=None, repr=False)
    next_auth_token: str | None = field(default=None, repr=False)
    accounts: Mapping[str, Credentials] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, secret: Mapping[str, Any]) -> Credentials:
        """The credentials of a secret. A subaccount without its SID or its token counts as absent."""
        given = {name: value for name, value in secret.items() if name in cls.__dataclass_fields__}
        accounts = given.pop("accounts", None) or {}
        complete = {name: own for name, own in accounts.items() if own.get("account_sid") and own.get("auth_token")}
        return cls(**given, accounts={name: cls.of(own) for name, own in complete.items()})

    def named(self, account: str | None) -> Credentials | None:
        """The credentials of a subaccount, or (None) of the main account; None where the secret has none."""
        return self if account is None else self.accounts.get(account)

    @property
    def signing_tokens(self) -> tuple[str, ...]:
        return tuple(token for token in (self.auth_token, self.next_auth_token) if token)


@dataclass(frozen=True, slots=True)
class Sender:
    """The sender (`+1...` or `MG...`), the number of POSTs in flight, and the public URL for Twilio's callbacks.

    Only numbers that begin with an entry of `only_to` may get a message; without an entry every number may.
    """

    sender: str
    webhook_url: str
    concurrency: int
    only_to: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sending:
    """The settings of send_sms and retry_sms."""

    database: Database
    account: Account
    sender: Sender


@dataclass(frozen=True, slots=True)
class Working:
    """The settings of process_retries. `max_workers` may run at a time, each with SEND_CONCURRENCY POSTs in flight.

    A worker looks again for due messages for `linger_seconds`.
    """

    database: Database
    account: Account
    sender: Sender
    max_workers: int
    linger_seconds: int = 0


@dataclass(frozen=True, slots=True)
class Asking:
    """The settings of reconcile."""

    database: Database
    account: Account


@dataclass(frozen=True, slots=True)
class Listening:
    """The settings of twilio_webhook. Twilio signs each callback for one of `addresses`; the current one is first."""

    database: Database
    account: Account
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Talking:
    """The settings of the doctor for Twilio. Twilio may post to each of `addresses`; the current one is first."""

    account: Account
    sender: Sender
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CleaningUp:
    """The settings of cleanup_retries, in days after the end of a message: None keeps its text, or the message."""

    database: Database
    erase_body_after: int | None
    keep_messages: int | None = None


@dataclass(frozen=True, slots=True)
class SigningIn:
    """The settings of console: its OpenID provider, and itself as a client of that provider.

    A person is an operator by the value `operator_value` of the claim `operator_claim`. The key of the sessions
    is given, or is in a secret; so is the client's secret, where it has one. `address` is None where the console has
    the address of its API.
    """

    issuer: str
    client_id: str
    client_secret: str | None = field(repr=False)
    client_secret_arn: str | None
    session_key: str | None = field(repr=False)
    session_secret_arn: str | None
    operator_claim: str | None
    operator_value: str | None
    address: str | None


@dataclass(frozen=True, slots=True)
class Publishing:
    """The settings of publish_events: it puts events on `event_bus`, and looks for more for `linger_seconds`."""

    database: Database
    event_bus: str
    linger_seconds: int


@dataclass(frozen=True, slots=True)
class Migrating:
    """The settings of migrate: the types of the events that are written, and the database roles of applications.

    `owner` signs in as the owner of the schema, where the other functions sign in as another role.
    """

    database: Database
    event_types: tuple[str, ...]
    application_roles: tuple[str, ...]
    owner: Database | None = None


def database(environ: Mapping[str, str]) -> Database:
    read = _Reader(environ)
    return read.checked(_database(read))


def sending(environ: Mapping[str, str]) -> Sending:
    read = _Reader(environ)
    return read.checked(Sending(_database(read), _account(read), _sender(read)))


def working(environ: Mapping[str, str]) -> Working:
    read = _Reader(environ)
    most = _most_workers(read)
    return read.checked(Working(_database(read), _account(read), _sender(read), most, _linger(read)))


def most_workers(environ: Mapping[str, str]) -> int:
    """MAX_WORKERS alone."""
    read = _Reader(environ)
    return read.checked(_most_workers(read))


def asking(environ: Mapping[str, str]) -> Asking:
    read = _Reader(environ)
    return read.checked(Asking(_database(read), _account(read)))


def listening(environ: Mapping[str, str], stage: Mapping[str, str] | None = None) -> Listening:
    """The PUBLIC_WEBHOOK_URL of `stage`, the variables of the API's stage, is the API's own address.

    No caller can set these variables. The environment cannot hold that address: the API is created after the function.
    """
    read = _Reader(environ)
    return read.checked(Listening(_database(read), _account(read), _addresses(read, stage)))


def default_sender(environ: Mapping[str, str]) -> str:
    """TWILIO_SENDER, for the functions that send nothing; empty where it is not set."""
    return _Reader(environ).optional("TWILIO_SENDER") or ""


def twilio(environ: Mapping[str, str], stage: Mapping[str, str] | None = None) -> Talking:
    """All that concerns Twilio, without the database."""
    read = _Reader(environ)
    return read.checked(Talking(_account(read), _sender(read), _addresses(read, stage)))


def cleaning_up(environ: Mapping[str, str]) -> CleaningUp:
    read = _Reader(environ)
    days = read.number("ERASE_BODY_AFTER_DAYS", 7, 0, 7) if read.optional("ERASE_BODY_AFTER_DAYS") else None
    keep = read.number("KEEP_MESSAGES_DAYS", 7, 7, 3650) if read.optional("KEEP_MESSAGES_DAYS") else None
    return read.checked(CleaningUp(_database(read), days, keep))


def signing_in(environ: Mapping[str, str], stage: Mapping[str, str] | None = None) -> SigningIn:
    """CONSOLE_ISSUER, CONSOLE_CLIENT_ID and CONSOLE_URL may be in `stage`, the variables of the API's stage.

    No caller can set these variables. The environment cannot hold the client of the stack's own user pool: that client
    has the address of the API, which is created after the function.
    """
    read = _Reader({**environ, **(stage or {})})
    key, arn = read.optional("CONSOLE_SESSION_KEY"), read.optional("CONSOLE_SESSION_SECRET_ARN")
    if not key and not arn:
        read.faults.append("CONSOLE_SESSION_KEY or CONSOLE_SESSION_SECRET_ARN is not set")
    # Not `url`: the issuer must be equal to the tokens' `iss`, also in its last slash.
    given = SigningIn(
        issuer=read.required("CONSOLE_ISSUER"),
        client_id=read.required("CONSOLE_CLIENT_ID"),
        client_secret=read.optional("CONSOLE_CLIENT_SECRET"),
        client_secret_arn=read.optional("CONSOLE_CLIENT_SECRET_ARN"),
        session_key=key,
        session_secret_arn=arn,
        operator_claim=read.optional("CONSOLE_OPERATOR_CLAIM"),
        operator_value=read.optional("CONSOLE_OPERATOR_VALUE"),
        address=read.optional("CONSOLE_URL"),
    )
    return read.checked(given)


def publishing(environ: Mapping[str, str]) -> Publishing:
    read = _Reader(environ)
    return read.checked(Publishing(_database(read), read.required("EVENT_BUS_NAME"), _linger(read)))


def migrating(environ: Mapping[str, str]) -> Migrating:
    read = _Reader(environ)
    types = read.listed("EVENT_TYPES", EVENT_TYPE, f"any of {EVENT_TYPE.pattern.replace('|', ', ')}")
    roles = read.listed("APPLICATION_ROLES", ROLE, "roles of the database, and not public")
    owner = Database(read.optional("MIGRATION_URL"), read.optional("MIGRATION_SECRET_ARN"))
    return read.checked(Migrating(_database(read), types, roles, owner if owner.url or owner.secret_arn else None))


class _Reader:
    """Reads variables and collects their faults until `checked`. An empty value counts as absent."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.faults: list[str] = []

    def checked(self, settings: Settings) -> Settings:
        if self.faults:
            raise SettingsError("the environment is not complete: " + "; ".join(dict.fromkeys(self.faults)))
        return settings

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

    def listed(self, name: str, entry: re.Pattern[str], entries: str) -> tuple[str, ...]:
        """The entries of a list with commas, empty if the variable is. An empty entry is a fault."""
        value = self.optional(name)
        found = tuple(each.strip() for each in value.split(",")) if value else ()
        if not all(entry.fullmatch(each) for each in found):
            self.faults.append(f"{name} must be {entries}, with commas between them")
        return found

    def number(self, name: str, default: int, least: int, most: int) -> int:
        value = self.optional(name) or str(default)
        if not (value.isascii() and value.isdigit() and least <= int(value) <= most):
            self.faults.append(f"{name} must be a whole number from {least} to {most}")
            return default
        return int(value)


def _database(read: _Reader) -> Database:
    url, arn = read.optional("DATABASE_URL"), read.optional("DATABASE_SECRET_ARN")
    if not url and not arn:
        read.faults.append("DATABASE_URL or DATABASE_SECRET_ARN is not set")
    return Database(url, arn)


def _most_workers(read: _Reader) -> int:
    return read.number("MAX_WORKERS", 1, 1, 50)


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
    if sender and not SENDER.fullmatch(sender):
        forms = "a number (+1...), a short code, a name of up to 11 letters and digits, or a Messaging Service (MG...)"
        read.faults.append(f"TWILIO_SENDER must be {forms}")
    only_to = read.listed("ONLY_TO", NUMBER, "numbers or their first digits, such as +1 or +447700900123")
    return Sender(sender, read.url("PUBLIC_WEBHOOK_URL"), read.number("SEND_CONCURRENCY", 20, 1, 200), only_to)


def _addresses(read: _Reader, stage: Mapping[str, str] | None) -> tuple[str, ...]:
    own, current = _Reader(stage or {}).optional("PUBLIC_WEBHOOK_URL"), read.optional("PUBLIC_WEBHOOK_URL")
    former = read.listed("FORMER_WEBHOOK_URLS", ADDRESS, "URLs without a path, such as https://sms.example.com")
    addresses = [read.url("PUBLIC_WEBHOOK_URL")] if current or not own else []
    addresses += [url.rstrip("/") for url in (own, *former) if url]
    return tuple(dict.fromkeys(addresses))


def _linger(read: _Reader) -> int:
    return read.number("LINGER_SECONDS", 0, 0, 60)
