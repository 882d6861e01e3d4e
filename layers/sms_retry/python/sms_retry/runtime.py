"""What a Lambda container keeps between invocations: settings, connection, Twilio account and logger."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from functools import cache, partial, wraps
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools import Logger

from sms_retry import conninfo, metrics, settings
from sms_retry.connection import PATIENCE
from sms_retry.store import Store
from sms_retry.values import Answer, Claim, Refused

if TYPE_CHECKING:
    from sms_retry.twilio import Send

# How long a secret is trusted before it is read again (seconds).
SECRET_LIFETIME = 300
# How often a callback that nobody seems to have signed may have the secret read again (seconds).
REREAD = 60.0

Handler = Callable[[dict[str, Any], Any], dict[str, Any]]

logger = Logger(service=metrics.SERVICE)
_terminating = threading.Event()
_reread_at = 0.0


def invocation(handler: Handler) -> Handler:
    """Wraps a handler: request id in every log line, metrics out at the end, a time to stop on SIGTERM.

    A surprise is not caught: it fails the invocation, raises an alarm, and recovery does the rest.
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
    """How much of this invocation is left; nothing once Lambda has asked the container to end."""

    def left() -> float:
        return 0.0 if _terminating.is_set() else context.get_remaining_time_in_millis() / 1000

    return left


def now() -> datetime:
    return datetime.now(UTC)


@cache
def store(patience: timedelta = PATIENCE) -> Store:
    """The database of this container; it connects when it is first used."""
    settings.database(os.environ)
    return Store(database, patience, partial(database, again=True))


def database(again: bool = False) -> str:
    """How to connect to Postgres; `again` reads the secret although it is trusted still."""
    where = settings.database(os.environ)
    return conninfo.from_url(where.url) if where.url else conninfo.from_secret(_secret(where.secret_arn or "", again))


def erase_body_after() -> int | None:
    """After how many days the text of what has ended is erased; None where it stays."""
    return settings.cleaning(os.environ)[1]


@cache
def concurrency() -> int:
    return settings.sending(os.environ)[2].concurrency


def more_workers(event: dict[str, Any], context: Any) -> tuple[int, Callable[[int], None]]:
    """How many workers there may be at this tick, and how to call more of them: this function, beside itself.

    One that was called calls no others. One that cannot be called is counted, and the work is left to the rest.
    """

    def call_workers(more: int) -> None:
        import boto3
        from botocore.exceptions import BotoCoreError, ClientError

        worker = {
            "FunctionName": context.invoked_function_arn,
            "InvocationType": "Event",
            "Payload": json.dumps({**event, "called": True}),
        }
        for _ in range(more):
            try:
                boto3.client("lambda").invoke(**worker)
                metrics.count("CalledWorkers")
            except (BotoCoreError, ClientError):
                metrics.count("UncalledWorkers")
                logger.exception("a worker could not be called")

    return (1 if event.get("called") else settings.most_workers(os.environ)), call_workers


@contextmanager
def sender() -> Iterator[Send]:
    """Sends through Twilio; its connections live for this invocation only.

    When Twilio refuses the credentials, the secret is read once more: it may have been rotated since.
    """
    from sms_retry import twilio

    _database, account, sender = settings.sending(os.environ)
    with ExitStack() as opened:

        def open_with(credentials: settings.Credentials) -> Send:
            return opened.enter_context(
                twilio.open_sender(credentials, account.api_url, sender.sender, sender.webhook_url)
            )

        current = open_with(_credentials(account))
        lock = threading.Lock()
        fresh: list[Send] = []

        def send(claim: Claim, valid_for: timedelta) -> Answer:
            if fresh:
                return fresh[0](claim, valid_for)
            answer = current(claim, valid_for)
            if not (account.secret_arn and isinstance(answer, Refused) and answer.http_status == 401):
                return answer
            with lock:
                if not fresh:
                    fresh.append(open_with(_credentials(account, again=True)))
            return fresh[0](claim, valid_for)

        yield send


@contextmanager
def asking() -> Iterator[tuple[Any, Any]]:
    """Asks Twilio: what was sent to a number, and what became of a SID."""
    from sms_retry import twilio

    _database, account = settings.asking(os.environ)
    with twilio.open_asking(_credentials(account), account.api_url) as questions:
        yield questions


def signers(event: dict[str, Any], again: bool = False) -> tuple[str, tuple[str, ...]]:
    """The URL that callbacks are signed for, and the tokens that may have signed them.

    Where the environment does not say the URL, a variable of the API's stage does, which no caller can set.
    """
    stage = event.get("stageVariables") or {}
    _database, account, webhook_url = settings.listening({**stage, **os.environ})
    return webhook_url, _credentials(account, again).signing_tokens


def rotated_signers(event: dict[str, Any]) -> tuple[str, tuple[str, ...]] | None:
    """The same with the secret read anew, since a token that nobody knew may be a new one; None where that is no news.

    At most once in REREAD seconds: anybody can send what nobody has signed.
    """
    global _reread_at
    if not os.environ.get("TWILIO_SECRET_ARN") or time.time() - _reread_at < REREAD:
        return None
    _reread_at = time.time()
    trusted = signers(event)
    found = signers(event, again=True)
    return found if found != trusted else None


def state(message_id: int) -> dict[str, Any]:
    """How a message stands, as `send_sms` and `retry_sms` return it."""
    found = store().state(message_id)
    if found is None:
        raise LookupError(f"message_id {message_id}: there is no such message")
    next_attempt_at = found.next_attempt_at and found.next_attempt_at.isoformat()
    return {**asdict(found), "next_attempt_at": next_attempt_at}


def _credentials(account: settings.Account, again: bool = False) -> settings.Credentials:
    if not account.secret_arn:
        return settings.Credentials(account.account_sid or "", account.auth_token or "")
    secret = _secret(account.secret_arn, again)
    names = settings.Credentials.__dataclass_fields__
    return settings.Credentials(**{name: value for name, value in secret.items() if name in names})


def _secret(arn: str, again: bool = False) -> dict[str, Any]:
    from aws_lambda_powertools.utilities import parameters

    secret: Any = parameters.get_secret(arn, transform="json", max_age=SECRET_LIFETIME, force_fetch=again)
    return dict(secret)
