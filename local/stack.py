"""The whole stack on one machine: Postgres, a Twilio that fails when told to, AWS around our handlers.

Nothing of ours is replaced: the handlers are loaded as Lambda loads them, and reach the rest by their environment.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import psycopg

from local.aws.container import ROOT
from local.aws.triggers import Clock, Front, Handler, http_front, load, routes, schedules
from local.twilio.stand_in import Behaviour, TwilioStandIn
from local.waiting import let_time_pass

TEMPLATE = ROOT / "template.yaml"
FUNCTIONS = tuple(sorted(app.parent.name for app in (ROOT / "functions").glob("*/app.py")))
# What `sam local` gives the functions, which reach this machine's loopback under another name.
ENVIRONMENT: dict[str, str] = {
    name: value.replace("host.docker.internal", "127.0.0.1")
    for name, value in json.loads((ROOT / "tests" / "env.json").read_text())["Parameters"].items()
}
POSTGRES_PORT = urlsplit(ENVIRONMENT["DATABASE_URL"]).port or 0
TWILIO_PORT = urlsplit(ENVIRONMENT["TWILIO_API_URL"]).port or 0
FRONT_PORT = TWILIO_PORT + 1
CONSOLE_PORT = FRONT_PORT + 1
# Whom the console lets in, and takes for the actor of what is done there: whoever can reach loopback.
OPERATOR = {"sub": "local", "email": "you@localhost"}


@dataclass(frozen=True)
class Stack:
    """What is up. `db` is a connection to look with; `handlers` are by the names of their folders."""

    database_url: str
    db: psycopg.Connection
    twilio: TwilioStandIn
    front: Front
    console: Front
    clock: Clock
    handlers: Mapping[str, Handler]

    def invoke(self, function: str, event: object = None) -> Any:
        """What the function returns; `{}` is the event where none is given."""
        return self.handlers[function]({} if event is None else event)

    def let_minutes_pass(self, minutes: int = 1) -> list[tuple[str, Any]]:
        """Everything grows older by a minute at a time, and Twilio's callbacks go out while the clock's functions run.

        Returns what was invoked and what it returned, in order.
        """
        returned = []
        for _ in range(minutes):
            let_time_pass(self.db, minutes=1)
            self.twilio.let_time_pass(60)
            with ThreadPoolExecutor(1, "callbacks") as post_office:
                posting = post_office.submit(self.twilio.deliver_callbacks)
                returned += self.clock.advance()
            posting.result()
        return returned


@contextmanager
def stack(database_url: str, behaviour: Behaviour | None = None, *, real_time: bool = False) -> Iterator[Stack]:
    """The stack over an empty or migrated database, on free ports, where time passes when it is told to.

    With `real_time` it is on its fixed ports and Twilio posts its callbacks by itself. OSError: a port is taken.
    """
    with ExitStack() as parts:
        parts.enter_context(environment(DATABASE_URL=database_url))
        front = parts.enter_context(http_front(routes(TEMPLATE), FRONT_PORT if real_time else 0))
        pages = routes(TEMPLATE, "ConsoleApi")
        console = parts.enter_context(http_front(pages, CONSOLE_PORT if real_time else 0, claims=OPERATOR))
        twilio = TwilioStandIn(
            behaviour,
            account_sid=ENVIRONMENT["TWILIO_ACCOUNT_SID"],
            auth_token=ENVIRONMENT["TWILIO_AUTH_TOKEN"],
            callbacks="live" if real_time else "manual",
            route={ENVIRONMENT["PUBLIC_WEBHOOK_URL"]: front.url},
            port=TWILIO_PORT if real_time else 0,
        )
        parts.enter_context(twilio)
        os.environ["TWILIO_API_URL"] = twilio.url
        handlers = {function: load(function) for function in FUNCTIONS}
        for handler in handlers.values():
            parts.callback(handler.close)
        handlers["migrate"]({})
        db = parts.enter_context(psycopg.connect(database_url, autocommit=True))
        clock = Clock(schedules(TEMPLATE), lambda function, event: handlers[function](event))
        yield Stack(database_url, db, twilio, front, console, clock, handlers)


@contextmanager
def environment(**changes: str) -> Iterator[None]:
    """What the handlers read, with `changes`; put back at the end, whatever the handlers set."""
    before = dict(os.environ)
    os.environ.update({**ENVIRONMENT, **changes})
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
