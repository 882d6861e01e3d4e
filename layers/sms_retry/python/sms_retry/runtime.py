"""The state that a Lambda container keeps between invocations, and the wrapper around each invocation."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache, partial, wraps
from typing import Any, NamedTuple

from aws_lambda_powertools import Logger

from sms_retry import conninfo, metrics, settings
from sms_retry.connection import PATIENCE
from sms_retry.secrets import Secret
from sms_retry.store import Store
from sms_retry.values import Receipt, Send

Handler = Callable[[dict[str, Any], Any], dict[str, Any]]

# How long a callback waits for Twilio's answer to a question of its own (seconds).
QUICK_ANSWER = 3.0

logger = Logger(service=metrics.SERVICE)
_terminating = threading.Event()


def invocation(handler: Handler) -> Handler:
    """Wraps a handler: the request id is in every log line, metrics are printed at the end, SIGTERM ends the time left.

    An exception is not caught: it fails the invocation and sets off an alarm, and a later tick recovers the rows.
    """

    @wraps(handler)
    def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
        logger.append_keys(function=context.function_name, request_id=context.aws_request_id)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, lambda *_: _terminating.set())
        try:
            return handler(event, context)
        finally:
            metrics.flush()

    return lambda_handler


def seconds_left(context: Any) -> Callable[[], float]:
    """The seconds left of this invocation; 0 once Lambda has asked the container to end."""

    def left() -> float:
        return 0.0 if _terminating.is_set() else context.get_remaining_time_in_millis() / 1000

    return left


def now() -> datetime:
    return datetime.now(UTC)


@cache
def store(patience: timedelta = PATIENCE) -> Store:
    """The database of this container; it connects at its first statement."""
    settings.database(os.environ)
    return Store(database, patience, newer_database)


def database() -> str:
    """The connection string of Postgres."""
    return _conninfo(settings.database(os.environ))


def owner() -> str | None:
    """The connection string of the owner of the schema; None if the functions sign in as the owner."""
    where = settings.migrating(os.environ).owner
    return _conninfo(where) if where else None


def secret(arn: str) -> dict[str, Any]:
    """A secret of Secrets Manager, read now."""
    return _secret(arn).value()


def newer_database() -> str | None:
    """The connection string of a secret that was rotated since it was read; None if there is none."""
    where = settings.database(os.environ)
    newer = None if where.url else _secret(where.secret_arn or "").newer()
    return conninfo.from_secret(newer) if newer else None


def sender() -> AbstractContextManager[Send]:
    """A `send` through Twilio; after a 401 it uses the credentials of a secret that was rotated."""
    from sms_retry import twilio

    given = settings.sending(os.environ)
    account, newer = given.account, partial(_newer_credentials, given.account)
    return twilio.open_sender(
        credentials(account), account.api_url, given.sender.sender, given.sender.webhook_url, newer
    )


def only_to() -> tuple[str, ...]:
    """The numbers, or their first digits, that may get a message; empty if every number may."""
    return settings.sending(os.environ).sender.only_to


def default_sender() -> str:
    """The deployment's sender, as TWILIO_SENDER names it; empty where it is not set."""
    return settings.default_sender(os.environ)


@contextmanager
def asking(read_timeout: float | None = None) -> Iterator[tuple[Any, Any]]:
    """Twilio's two questions: its list of the messages to a number, and the state of one SID."""
    from sms_retry import listing

    given = settings.asking(os.environ)
    with listing.open_listing(credentials(given.account), given.account.api_url, read_timeout) as questions:
        yield questions


def code_of(receipt: Receipt) -> int | None:
    """The error code that Twilio has for one message; None without a code, or without an answer in time."""
    with asking(QUICK_ANSWER) as (_sent_to, look_up):
        code: int | None = getattr(look_up(receipt.message_sid, receipt.account), "error_code", None)
    return code


class Signers(NamedTuple):
    """The addresses that Twilio signs callbacks for, the tokens and the SID of the main account, and the name and
    tokens of each subaccount by its SID.
    """

    addresses: tuple[str, ...]
    tokens: tuple[str, ...]
    account_sid: str
    accounts: dict[str, tuple[str, tuple[str, ...]]]


def stage_of(event: Mapping[str, Any]) -> Any:
    """The variables of the API's stage. A function URL has no stage: its own address is in the event.

    AWS routes a request by the id in that address, which is the `apiId` of the event, so no caller can choose it.
    """
    match event:
        case {"stageVariables": variables} if variables:
            return variables
        case {"requestContext": {"apiId": str(own), "domainName": str(host)}}:
            is_its_own = settings.FUNCTION_URL.fullmatch(host) and host.startswith(f"{own}.")
            return {"PUBLIC_WEBHOOK_URL": f"https://{host}"} if is_its_own else None
    return None


def signers(event: dict[str, Any]) -> Signers:
    given = settings.listening(os.environ, stage_of(event))
    return _signers(given, credentials(given.account))


def newer_signers(event: dict[str, Any]) -> Signers | None:
    """The same by a secret that was rotated since it was read; None if it was not."""
    given = settings.listening(os.environ, stage_of(event))
    newer = _newer_credentials(given.account)
    return _signers(given, newer) if newer else None


def _conninfo(where: settings.Database) -> str:
    return conninfo.from_url(where.url) if where.url else conninfo.from_secret(_secret(where.secret_arn or "").value())


def _signers(given: settings.Listening, main: settings.Credentials) -> Signers:
    accounts = {own.account_sid: (name, own.signing_tokens) for name, own in main.accounts.items()}
    return Signers(given.addresses, main.signing_tokens, main.account_sid, accounts)


def credentials(account: settings.Account) -> settings.Credentials:
    if account.secret_arn:
        return settings.Credentials.of(_secret(account.secret_arn).value())
    return settings.Credentials(account.account_sid or "", account.auth_token or "")


def _newer_credentials(account: settings.Account) -> settings.Credentials | None:
    newer = _secret(account.secret_arn).newer() if account.secret_arn else None
    return settings.Credentials.of(newer) if newer else None


@cache
def _secret(arn: str) -> Secret:
    return Secret(arn)
