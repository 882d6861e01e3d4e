"""A worker that is told where to die: the real process_retries in a process of its own, ended by SIGKILL.

Its hooks are put around the real parts in that process; nothing in the package knows of them.
"""

from __future__ import annotations

import http.client
import importlib.util
import itertools
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.process import BaseProcess
from select import select

import psycopg
import twilio.rest  # noqa: F401  imported at the first send, which takes long

from local.aws.container import ROOT, LambdaContext
from local.stack import ENVIRONMENT
from sms_retry import runtime
from sms_retry.store import Store
from sms_retry.twilio import Send
from sms_retry.values import Answer, Claim, Report, Ticket

STEPS = (
    "before the claim",
    "after the claim",
    "before the POST",
    "during the POST",
    "after Twilio accepted",
    "before the write",
    "after the write",
)
KILLED, DATABASE_AWAY = -signal.SIGKILL, 3
CONCURRENCY = 4
# How long one that is to die during its POST waits for an answer that takes longer (seconds).
DURING = 0.03

# Forked from a process that has imported everything, so that a worker starts in milliseconds.
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["__main__", __name__])


_spec = importlib.util.spec_from_file_location("app", ROOT / "functions" / "process_retries" / "app.py")
assert _spec
assert _spec.loader
app = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(app)


@dataclass(frozen=True)
class Death:
    """By SIGKILL, when one of STEPS comes for the `nth` time."""

    step: str
    nth: int = 1


def start(database_url: str, twilio_url: str, death: Death | None = None) -> BaseProcess:
    """A worker that drains the queue once; it ends with 0, KILLED or DATABASE_AWAY, or with 1 and a traceback."""
    worker = _processes.Process(target=_work, args=(database_url, twilio_url, death), name="worker")
    worker.start()
    return worker


def _work(database_url: str, twilio_url: str, death: Death | None) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.environ |= ENVIRONMENT | {"DATABASE_URL": database_url, "TWILIO_API_URL": twilio_url}
    os.environ["SEND_CONCURRENCY"] = str(CONCURRENCY)
    if death:
        _arm(death)
    context = LambdaContext("process_retries", "512", time.monotonic() + 300)
    try:
        app.lambda_handler({}, context)
    except psycopg.OperationalError:
        sys.exit(DATABASE_AWAY)


def _arm(death: Death) -> None:
    turns = itertools.count(1)

    def is_time(step: str) -> bool:
        return step == death.step and next(turns) == death.nth

    def die_if(step: str) -> None:
        if is_time(step):
            os.kill(os.getpid(), signal.SIGKILL)

    class MortalStore(Store):
        def claim_due(self, limit: int) -> list[Claim]:
            die_if("before the claim")
            claims = super().claim_due(limit)
            if claims:
                die_if("after the claim")
            return claims

        def finish(self, reports: Sequence[Report]) -> dict[Ticket, str]:
            if reports:
                die_if("before the write")
            settled = super().finish(reports)
            if reports:
                die_if("after the write")
            return settled

    class MortalConnection(http.client.HTTPConnection):
        def getresponse(self) -> http.client.HTTPResponse:
            for step, wait in (("during the POST", DURING), ("after Twilio accepted", None)):
                if is_time(step):
                    select([self.sock], [], [], wait)
                    os.kill(os.getpid(), signal.SIGKILL)
            return super().getresponse()

    store, sender = MortalStore(runtime.database), runtime.sender

    @contextmanager
    def mortal_sender() -> Iterator[Send]:
        with sender() as send:

            def mortal_send(claim: Claim, valid_for: timedelta) -> Answer:
                die_if("before the POST")
                return send(claim, valid_for)

            yield mortal_send

    vars(runtime).update(store=lambda: store, sender=mortal_sender)
    vars(sys.modules["sms_retry.twilio"]).update(HTTPConnection=MortalConnection)
