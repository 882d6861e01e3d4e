"""Callbacks from several callers at once, each with its own connection, beside the same number of bare inserts."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager, redirect_stdout
from functools import partial
from http.client import HTTPConnection
from threading import Barrier
from urllib.parse import urlencode, urlsplit

import psycopg
from twilio.request_validator import RequestValidator

from local.aws.triggers import http_front, routes
from local.stack import ENVIRONMENT, TEMPLATE, environment
from sms_retry.connection import CONNECTION, open_session
from sms_retry.store import Store
from sms_retry.values import Receipt, Ticket
from tests.benchmarks.measure import Row, side_by_side
from tests.benchmarks.stage import Stage, claim_and_finish, fill, sid

Call = Callable[[int], object]
"""One callback or one insert, for the nth message, from 1."""

CALLS = {1: 2_000, 50: 3_000}


def rows(stage: Stage) -> Iterator[Row]:
    for callers, count in CALLS.items():
        found = side_by_side(
            {
                "delivered": lambda n=callers, m=count: _when_sent(recorded, stage.url, m, n),
                "insert": lambda n=callers, m=count: inserted(stage.url, m, n),
                "noted": lambda n=callers, m=count: _when_sent(noted, stage.url, m, n),
                "front": lambda n=callers, m=count: _when_sent(through_the_front, stage.url, m, n),
            }
        )
        # The time of one callback, not the rate.
        taken = {name: [1000 * callers / rate for rate in rates] for name, rates in found.items()}
        at_once = f"{callers} caller{'s' * (callers > 1)}"
        goal = ("at most", 1.5) if callers == 1 else None
        yield Row("webhook", f"a delivery recorded, {at_once}", "ms", taken["delivered"], INSERT, taken["insert"], goal)
        yield Row("webhook", f"a `sent` noted, {at_once}", "ms", taken["noted"], INSERT, taken["insert"])
        name = f"a delivery through the HTTP API and the handler, {at_once}"
        yield Row("webhook", name, "ms", taken["front"], INSERT, taken["insert"])


INSERT = "a bare insert of one row"


def through_the_front(url: str, count: int, callers: int) -> float:
    """Signed callbacks posted to the HTTP API; each settles one of `count` messages that are sent."""
    requests = [_signed(n) for n in range(1, count + callers + 1)]
    # A handler prints its metrics.
    with (
        environment(DATABASE_URL=url),
        redirect_stdout(io.StringIO()),
        http_front(routes(TEMPLATE), containers=callers) as front,
    ):
        return _rate(partial(_posting, front.url, requests), count, callers)


def recorded(url: str, count: int, callers: int) -> float:
    """The same callbacks, recorded by the store alone."""
    return _rate(partial(_recording, url, "delivered"), count, callers)


def noted(url: str, count: int, callers: int) -> float:
    """Callbacks whose status is known already, as with most callbacks."""
    return _rate(partial(_recording, url, "sent"), count, callers)


def inserted(url: str, count: int, callers: int) -> float:
    """The limit: one row, one statement, one commit each."""
    with psycopg.connect(url, autocommit=True) as db:
        db.execute("drop table if exists receipts")
        db.execute("create table receipts (message_sid text, status text, ticket text)")
    return _rate(partial(_inserting, url), count, callers)


def _when_sent(callbacks: Callable[[str, int, int], float], url: str, count: int, callers: int) -> float:
    """Fill the tables with `count` sent messages, then measure their callbacks."""
    fill(url, count)
    claim_and_finish(url)
    return callbacks(url, count, callers)


@contextmanager
def _posting(url: str, requests: list[tuple[str, bytes, dict[str, str]]]) -> Iterator[Call]:
    with closing(HTTPConnection(urlsplit(url).netloc)) as connection:

        def post(n: int) -> None:
            connection.request("POST", *requests[n - 1])
            with connection.getresponse() as response:
                response.read()
            assert response.status == 204, response.status

        yield post


@contextmanager
def _recording(url: str, status: str) -> Iterator[Call]:
    with closing(Store(lambda: url)) as store:
        yield lambda n: store.record_delivery(Receipt(sid(n), status, None, Ticket(n, 1), "+4917600000001"))


@contextmanager
def _inserting(url: str) -> Iterator[Call]:
    # With the settings of our own connection: no statement is prepared.
    with open_session(url, **CONNECTION) as connection:
        insert = "insert into receipts values (%s, %s, %s)"
        yield lambda n: connection.execute(insert, [sid(n), "delivered", f"{n}-1"])


def _rate(caller: Callable[[], AbstractContextManager[Call]], count: int, callers: int) -> float:
    """Calls a second. The first call of each caller, for an unknown message, is not counted."""
    ready = Barrier(callers + 1, timeout=120)

    def call_all(first: int) -> None:
        with caller() as call:
            call(count + first)
            ready.wait()
            for n in range(first, count + 1, callers):
                call(n)

    with ThreadPoolExecutor(callers) as pool:
        calling = [pool.submit(call_all, first) for first in range(1, callers + 1)]
        ready.wait()
        started = time.perf_counter()
        for each in calling:
            each.result()
        return count / (time.perf_counter() - started)


def _signed(n: int) -> tuple[str, bytes, dict[str, str]]:
    target, form = f"/twilio/status?t={n}-1", {"MessageSid": sid(n), "MessageStatus": "delivered"}
    signer = RequestValidator(ENVIRONMENT["TWILIO_AUTH_TOKEN"])
    signature = signer.compute_signature(ENVIRONMENT["PUBLIC_WEBHOOK_URL"] + target, form)
    headers = {"Content-Type": "application/x-www-form-urlencoded", "X-Twilio-Signature": signature}
    return target, urlencode(form).encode(), headers
