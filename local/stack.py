"""The whole stack on one machine: Postgres, a Twilio stand-in that fails as planned, and AWS around our handlers.

All our code is real: the handlers are loaded as Lambda loads them, and read their settings from the environment.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import psycopg

from local.aws.container import ROOT
from local.aws.triggers import API_HOST, Clock, Front, Handler, http_front, load, routes, schedules
from local.twilio.senders import OwnNumber
from local.twilio.stand_in import Behaviour, TwilioStandIn
from local.waiting import let_time_pass
from sms_retry.console import session
from sms_retry.console.session import Person

TEMPLATE = ROOT / "template.yaml"
FUNCTIONS = tuple(sorted(app.parent.name for app in (ROOT / "functions").glob("*/app.py")))
# The variables that `sam local` gives to the functions. In a container this machine's loopback has another name.
ENVIRONMENT: dict[str, str] = {
    name: value.replace("host.docker.internal", "127.0.0.1")
    for name, value in json.loads((ROOT / "tests" / "env.json").read_text())["Parameters"].items()
}
POSTGRES_PORT = urlsplit(ENVIRONMENT["DATABASE_URL"]).port or 0
TWILIO_PORT = urlsplit(ENVIRONMENT["TWILIO_API_URL"]).port or 0
FRONT_PORT = TWILIO_PORT + 1
CONSOLE_PORT = FRONT_PORT + 1
# The console's user: every browser on loopback has this person's session.
OPERATOR = Person("local", ENVIRONMENT["CONSOLE_ISSUER"], "you@localhost", is_operator=True)


def session_of(person: Person) -> str:
    """The console's cookie for a session of this person, which begins now."""
    return session.session(person, ENVIRONMENT["CONSOLE_SESSION_KEY"], datetime.now(UTC))


@dataclass(frozen=True)
class Stack:
    """The running parts. `db` is the owner's connection, for queries.

    `handlers` are keyed by the names of their folders. `urls` are their variables for database and Twilio.
    """

    database_url: str
    db: psycopg.Connection
    twilio: TwilioStandIn
    front: Front
    console: Front
    clock: Clock
    handlers: Mapping[str, Handler]
    urls: Mapping[str, str]

    def invoke(self, function: str, event: object = None) -> Any:
        """Invoke a function and return its answer; the default event is `{}`."""
        return self.handlers[function]({} if event is None else event)

    def let_minutes_pass(self, minutes: int = 1) -> list[tuple[str, Any]]:
        """Make all rows and messages older by one minute at a time; post callbacks while the scheduled functions run.

        Returns each invoked function with its answer, in order.
        """
        returned = []
        for _ in range(minutes):
            let_time_pass(self.db, minutes=1)
            self.twilio.let_time_pass(60)
            with ThreadPoolExecutor(1, "callbacks") as poster:
                posting = poster.submit(self.twilio.deliver_callbacks)
                returned += self.clock.advance()
            posting.result()
        return returned


@contextmanager
def stack(
    database_url: str,
    behaviour: Behaviour | None = None,
    *,
    real_time: bool = False,
    issuer: str | None = None,
    runtime_url: str | None = None,
) -> Iterator[Stack]:
    """The stack over an empty or migrated database, on free ports. Time passes only in `let_minutes_pass`.

    With `real_time` it uses its fixed ports, and Twilio posts callbacks when they are due. With an `issuer` people sign
    in to the console there; without one every browser is OPERATOR's. With a `runtime_url` only `migrate` signs in by
    `database_url`, and all other functions by `runtime_url`. OSError: a port is taken.
    """
    with ExitStack() as parts:
        urls = {"DATABASE_URL": runtime_url or database_url, "MIGRATION_URL": database_url if runtime_url else ""}
        parts.enter_context(environment(**urls, **({"CONSOLE_ISSUER": issuer} if issuer else {})))
        own = {"PUBLIC_WEBHOOK_URL": f"https://{API_HOST}"}
        front = parts.enter_context(http_front(routes(TEMPLATE), FRONT_PORT if real_time else 0, stage=own))
        pages = routes(TEMPLATE, "ConsoleApi")
        port = CONSOLE_PORT if real_time else 0
        everyone = None if issuer else lambda: session_of(OPERATOR)
        console = parts.enter_context(http_front(pages, port, is_console=True, session=everyone))
        twilio = TwilioStandIn(
            behaviour,
            account_sid=ENVIRONMENT["TWILIO_ACCOUNT_SID"],
            auth_token=ENVIRONMENT["TWILIO_AUTH_TOKEN"],
            callbacks="live" if real_time else "manual",
            route=dict.fromkeys((ENVIRONMENT["PUBLIC_WEBHOOK_URL"], own["PUBLIC_WEBHOOK_URL"]), front.url),
            port=TWILIO_PORT if real_time else 0,
        )
        parts.enter_context(twilio)
        twilio.senders.numbers[ENVIRONMENT["TWILIO_SENDER"]] = OwnNumber(
            f"{ENVIRONMENT['PUBLIC_WEBHOOK_URL']}/twilio/inbound"
        )
        os.environ["TWILIO_API_URL"] = urls["TWILIO_API_URL"] = twilio.url
        handlers = {function: load(function) for function in FUNCTIONS}
        for handler in handlers.values():
            parts.callback(handler.close)
        handlers["migrate"]({})
        db = parts.enter_context(psycopg.connect(database_url, autocommit=True))
        clock = Clock(schedules(TEMPLATE), lambda function, event: handlers[function](event))
        yield Stack(database_url, db, twilio, front, console, clock, handlers, urls)


@contextmanager
def environment(**changes: str) -> Iterator[None]:
    """Set the variables that the handlers read, with `changes`; the former environment is restored at the end."""
    before = dict(os.environ)
    os.environ.update({**ENVIRONMENT, **changes})
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
