"""A worker that is killed at a given step: the real process_retries in a separate process, ended by SIGKILL.

The hooks wrap the real parts in that process. The package contains no hook.
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
from datetime import datetime, timedelta
from multiprocessing.process import BaseProcess
from select import select

import psycopg
import twilio.rest  # noqa: F401  because the import at the first send takes long

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
# A worker that is killed during its POST waits so long for the answer, which takes longer (seconds).
DURING = 0.03

# Workers are forked from a process that has imported all modules, so that they start in milliseconds.
processes = multiprocessing.get_context("forkserver")
_preloaded = ["__main__"]


def preload(module: str) -> None:
    _preloaded.append(module)
    processes.set_forkserver_preload(_preloaded)


preload(__name__)


_spec = importlib.util.spec_from_file_location("app", ROOT / "functions" / "process_retries" / "app.py")
assert _spec
assert _spec.loader
app = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(app)


@dataclass(frozen=True)
class Kill:
    """SIGKILL when the worker reaches one of STEPS for the `nth` time."""

    step: str
    nth: int = 1


def start(database_url: str, twilio_url: str, kill: Kill | None = None) -> BaseProcess:
    """A worker that drains the queue once; its exit code is 0, KILLED, DATABASE_AWAY, or 1 with a traceback."""
    worker = processes.Process(target=_work, args=(database_url, twilio_url, kill), name="worker")
    worker.start()
    return worker


def _work(database_url: str, twilio_url: str, kill: Kill | None) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.environ |= ENVIRONMENT | {"DATABASE_URL": database_url, "TWILIO_API_URL": twilio_url}
    os.environ["SEND_CONCURRENCY"] = str(CONCURRENCY)
    if kill:
        _install_hooks(kill)
    context = LambdaContext("process_retries", "512", time.monotonic() + 300)
    try:
        app.lambda_handler({}, context)
    except psycopg.OperationalError:
        sys.exit(DATABASE_AWAY)


def _install_hooks(kill: Kill) -> None:
    turns = itertools.count(1)

    def is_time(step: str) -> bool:
        return step == kill.step and next(turns) == kill.nth

    def kill_at(step: str) -> None:
        if is_time(step):
            os.kill(os.getpid(), signal.SIGKILL)

    class HookedStore(Store):
        def claim_due(self, limit: int, since: datetime | None = None) -> list[Claim]:
            kill_at("before the claim")
            claims = super().claim_due(limit, since)
            if claims:
                kill_at("after the claim")
            return claims

        def finish(self, reports: Sequence[Report]) -> dict[Ticket, str]:
            if reports:
                kill_at("before the write")
            settled = super().finish(reports)
            if reports:
                kill_at("after the write")
            return settled

    class HookedConnection(http.client.HTTPConnection):
        def getresponse(self) -> http.client.HTTPResponse:
            for step, wait in (("during the POST", DURING), ("after Twilio accepted", None)):
                if is_time(step):
                    select([self.sock], [], [], wait)
                    os.kill(os.getpid(), signal.SIGKILL)
            return super().getresponse()

    store, sender = HookedStore(runtime.database), runtime.sender

    @contextmanager
    def hooked_sender() -> Iterator[Send]:
        with sender() as send:

            def hooked_send(claim: Claim, valid_for: timedelta) -> Answer:
                kill_at("before the POST")
                return send(claim, valid_for)

            yield hooked_send

    vars(runtime).update(store=lambda: store, sender=hooked_sender)
    vars(sys.modules["sms_retry.twilio"]).update(HTTPConnection=HookedConnection)
