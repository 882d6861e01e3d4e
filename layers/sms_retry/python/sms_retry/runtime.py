"""The state that a Lambda container keeps between invocations, and the wrapper around each invocation."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache, wraps
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools import Logger

from sms_retry import conninfo, metrics, settings
from sms_retry.connection import PATIENCE
from sms_retry.secrets import Secret
from sms_retry.store import Store
from sms_retry.values import Answer, Claim, Refused

if TYPE_CHECKING:
    from sms_retry.twilio import Send

Handler = Callable[[dict[str, Any], Any], dict[str, Any]]

logger = Logger(service="sms-retry")
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
    where = settings.database(os.environ)
    return conninfo.from_url(where.url) if where.url else conninfo.from_secret(_secret(where.secret_arn or "").value())


def newer_database() -> str | None:
    """The connection string of a secret that was rotated since it was read; None if there is none."""
    where = settings.database(os.environ)
    newer = None if where.url else _secret(where.secret_arn or "").newer()
    return conninfo.from_secret(newer) if newer else None


@contextmanager
def sender() -> Iterator[Send]:
    """A `send` through Twilio; its connections end with this invocation.

    A message that Twilio refuses with HTTP 401 is sent once more if the secret was rotated.
    """
    from sms_retry import twilio

    given = settings.sending(os.environ)
    with ExitStack() as opened:

        def open_with(credentials: settings.Credentials) -> Send:
            its = given.sender
            return opened.enter_context(
                twilio.open_sender(credentials, given.account.api_url, its.sender, its.webhook_url)
            )

        sends = [open_with(_credentials(given.account))]
        lock = threading.Lock()

        def send(claim: Claim, valid_for: timedelta) -> Answer:
            used = sends[-1]
            answer = used(claim, valid_for)
            if not (isinstance(answer, Refused) and answer.http_status == 401):
                return answer
            with lock:
                if sends[-1] is used and (newer := _newer_credentials(given.account)):
                    sends.append(open_with(newer))
            return answer if sends[-1] is used else sends[-1](claim, valid_for)

        yield send


@contextmanager
def asking() -> Iterator[tuple[Any, Any]]:
    """Twilio's two questions: the messages sent to a number, and the state of one SID."""
    from sms_retry import twilio

    given = settings.asking(os.environ)
    with twilio.open_asking(_credentials(given.account), given.account.api_url) as questions:
        yield questions


def signers(event: dict[str, Any]) -> tuple[str, tuple[str, ...]]:
    """The public URL that Twilio signs callbacks for, and the tokens that may have signed them."""
    given = _listening(event)
    return given.webhook_url, _credentials(given.account).signing_tokens


def newer_signers(event: dict[str, Any]) -> tuple[str, tuple[str, ...]] | None:
    """The same by a secret that was rotated since it was read; None if it was not."""
    given = _listening(event)
    newer = _newer_credentials(given.account)
    return (given.webhook_url, newer.signing_tokens) if newer else None


def _listening(event: dict[str, Any]) -> settings.Listening:
    """Without a public URL in the environment, a variable of the API's stage has it, which no caller can set."""
    return settings.listening({**(event.get("stageVariables") or {}), **os.environ})


def _credentials(account: settings.Account) -> settings.Credentials:
    if account.secret_arn:
        return settings.Credentials.of(_secret(account.secret_arn).value())
    return settings.Credentials(account.account_sid or "", account.auth_token or "")


def _newer_credentials(account: settings.Account) -> settings.Credentials | None:
    newer = _secret(account.secret_arn).newer() if account.secret_arn else None
    return settings.Credentials.of(newer) if newer else None


@cache
def _secret(arn: str) -> Secret:
    return Secret(arn)
