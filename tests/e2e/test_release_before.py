"""This release and the release before on one database: no message is lost, and no message is sent twice.

During a deployment and after a rollback both run on it. Either one may have migrated last. The migrator of release 0.1
removes each function that its release does not define.
"""

from __future__ import annotations

import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import count, cycle, islice
from pathlib import Path
from typing import Any

import psycopg
import pytest

from local.aws.triggers import Clock, Front, Handler, http_front, load, routes, schedules
from local.postgres.server import Server
from local.stack import ENVIRONMENT, TEMPLATE, Stack
from local.stack import stack as local_stack
from local.twilio.stand_in import Accept, Callbacks, Refuse, Reset, mix
from sms_retry.migrate import migrate, role_of
from tests import released
from tests.e2e.messages import BODY, call_back, message, number, queue
from tests.runtime_role import runtime_login

BEFORE = "0.1.0"
LOST = Callbacks(lost=1)
# The messages of one life, by number.
SENT, QUEUED, REFUSED, UNDELIVERED, FOUND, ABSENT, STOPPED, FAILED_BEFORE, BY_HAND, SILENT, DEAD = range(11)
# By turns: the last one is by this release.
MIGRATIONS = 10
# Between two messages of one application (seconds).
PAUSE = 0.03
# The first POST to a person under load; each later one is accepted.
FIRST_POST = mix(
    16,
    (80, Accept()),
    (5, Refuse(429, 20429)),
    (4, Refuse(400, 30001)),
    (4, Accept(("sent", ("undelivered", 30003)))),
    (4, Reset(Accept(callbacks=LOST))),
    (3, Reset(accepted=None)),
)


@dataclass(frozen=True)
class Release:
    """The containers of one release."""

    handlers: Mapping[str, Handler]
    front: Front


@dataclass(frozen=True)
class Both:
    """A stack, and the two releases that may run on its database."""

    parts: Stack
    before: Release
    now: Release

    def running(self, *releases: Release) -> Stack:
        """The stack with these releases in traffic, in turn. The last one takes the callbacks."""
        turn = cycle(releases)

        def invoke(function: str, event: object) -> Any:
            handlers = next(turn).handlers
            return handlers[function](event) if function in handlers else None

        self.parts.twilio.route = {ENVIRONMENT["PUBLIC_WEBHOOK_URL"]: releases[-1].front.url}
        clock = Clock(schedules(TEMPLATE), invoke)
        return replace(self.parts, handlers=releases[0].handlers, front=releases[-1].front, clock=clock)


@pytest.fixture
def both(server: Server, tmp_path: Path) -> Iterator[Both]:
    url = server.create_database(f"sms_retry_both_{uuid.uuid4().hex[:8]}")
    root = released.files_of(BEFORE, tmp_path)
    with (
        local_stack(url) as parts,
        http_front(routes(TEMPLATE), root=root) as front,
        containers(root) as handlers,
    ):
        yield Both(parts, Release(handlers, front), Release(parts.handlers, parts.front))


@contextmanager
def containers(root: Path) -> Iterator[Mapping[str, Handler]]:
    names = sorted(app.parent.name for app in (root / "functions").glob("*/app.py") if app.parent.name != "console")
    handlers = {name: load(name, root) for name in names}
    try:
        yield handlers
    finally:
        for handler in handlers.values():
            handler.close()


def begin(stack: Stack) -> None:
    """Messages that will have every kind of outcome."""
    plans = {
        REFUSED: [Refuse(400, 30001)],
        UNDELIVERED: [Accept(("sent", ("undelivered", 30003)))],
        FOUND: [Reset(Accept(callbacks=LOST))],
        ABSENT: [Reset(accepted=None)],
        BY_HAND: [Refuse(400, 21211)],
        SILENT: [Accept(callbacks=LOST)],
    }
    for n, steps in plans.items():
        stack.twilio.plan(number(n), *steps)
    stack.invoke("send_sms", message(SENT))
    dead = queue(stack, DEAD)
    stack.db.execute("select from sms_retry.claim_sms_now(%s)", [dead])
    for n in (QUEUED, REFUSED, UNDELIVERED, FOUND, ABSENT, BY_HAND, SILENT):
        queue(stack, n)
    stack.invoke("send_sms", message(FAILED_BEFORE, failed={"error_code": 30001, "error_message": "Queue overflow"}))
    stopped = message(STOPPED, scheduled_for="2100-01-01T00:00:00+00:00", expires_at="2100-01-02T00:00:00+00:00")
    stack.invoke("send_sms", stopped)
    call_back(stack, "/twilio/inbound", {"From": number(STOPPED), "Body": "STOP", "MessageSid": "SM" + "5" * 32})
    stack.let_minutes_pass(1)


def go_on(stack: Stack) -> None:
    """The rest of their lives."""
    by_hand = stack.db.execute("select id from sms_retry.sms_messages where to_number = %s", [number(BY_HAND)])
    [(message_id,)] = by_hand.fetchall()
    stack.invoke("retry_sms", {"message_id": message_id})
    stack.let_minutes_pass(150)
    assert stack.invoke("health_check")["due"] == 0
    stack.invoke("cleanup_retries")


def arrived(stack: Stack) -> dict[str, int]:
    """How many messages reached each person."""
    reached = Counter(
        post.to for post in stack.twilio.accepted() if stack.twilio.status(post.sid or "") != "undelivered"
    )
    numbers = stack.db.execute("select distinct to_number from sms_retry.sms_messages").fetchall()
    return {to: reached[to] for (to,) in numbers}


def report(stack: Stack, capsys: pytest.CaptureFixture[str], name: str, **more: object) -> None:
    times = Counter(arrived(stack).values())
    figures = {"messages": times.total(), "once": times[1], "never": times[0], "twice": times[2], **more}
    with capsys.disabled():
        print(f"\n{name}: " + ", ".join(f"{value} {figure}" for figure, value in figures.items()))


@pytest.mark.parametrize(
    ("migrated_by", "in_traffic"),
    [("now", "before"), ("before", "now"), ("before", "before"), ("now", "before now"), ("before", "now before")],
)
def test_each_message_arrives_once_by_either_release_on_the_database_of_either(
    both: Both, capsys: pytest.CaptureFixture[str], migrated_by: str, in_traffic: str
) -> None:
    if migrated_by == "before":
        both.before.handlers["migrate"]({})
    stack = both.running(*[getattr(both, name) for name in in_traffic.split()])

    begin(stack)
    go_on(stack)

    once = {number(n): int(n != STOPPED) for n in range(DEAD + 1)}
    waiting = dict(once)
    if (migrated_by, in_traffic) == ("before", "now"):
        # Without the functions that compare Twilio's list with a control, this release sends no unknown message again.
        waiting |= {number(ABSENT): 0, number(DEAD): 0}
    report(stack, capsys, f"migrated by {migrated_by}, in traffic: {in_traffic}")
    assert arrived(stack) == waiting

    both.now.handlers["migrate"]({})
    both.running(both.now).let_minutes_pass(60)

    report(stack, capsys, "after this release migrated again")
    assert arrived(stack) == once
    ended = stack.db.execute("select to_number, status from sms_retry.sms_messages").fetchall()
    assert dict(ended) == {to: "delivered" if n else "failed" for to, n in once.items()}


@pytest.mark.parametrize(("first", "then"), [("before", "now"), ("now", "before")])
def test_messages_in_every_state_survive_an_upgrade_and_a_rollback(
    both: Both, capsys: pytest.CaptureFixture[str], first: str, then: str
) -> None:
    getattr(both, first).handlers["migrate"]({})
    begin(both.running(getattr(both, first)))

    getattr(both, then).handlers["migrate"]({})
    stack = both.running(getattr(both, then))
    go_on(stack)

    report(stack, capsys, f"from {first} to {then}")
    assert arrived(stack) == {number(n): int(n != STOPPED) for n in range(DEAD + 1)}


def test_the_release_before_serves_as_the_owner_where_this_release_has_a_runtime_role(
    both: Both, capsys: pytest.CaptureFixture[str]
) -> None:
    with runtime_login(both.parts.database_url) as login:
        migrate(both.parts.database_url, runtime_role=role_of(login))
        stack = both.running(both.before, both.now)
        begin(stack)
        go_on(stack)

    report(stack, capsys, "as the owner beside a runtime role")
    assert arrived(stack) == {number(n): int(n != STOPPED) for n in range(DEAD + 1)}


@dataclass
class Load:
    """Traffic of both releases until it `is_over`; `failures` are the exceptions of invocations and statements."""

    both: Both
    is_over: threading.Event
    failures: Counter[str]
    numbers: Iterator[int]

    def attempt(self, name: str, act: Callable[[], object]) -> bool:
        try:
            act()
        except Exception as error:
            self.failures[f"{type(error).__name__} of {name}"] += 1
            return False
        return True

    def work(self, release: Release) -> None:
        while not self.is_over.is_set():
            self.attempt("process_retries", lambda: release.handlers["process_retries"]({}))

    def send(self, release: Release) -> None:
        """As an application does, which repeats a failed invocation with the same key."""
        while not self.is_over.is_set():
            n = next(self.numbers)
            event = message(n, message_key=f"key-{n}")
            self.is_over.wait(PAUSE)
            while not self.attempt("send_sms", partial(release.handlers["send_sms"], event)):
                pass

    def queue(self) -> None:
        statement = "select sms_retry.queue_sms_retry(%s, %s, message_key => %s, kind => 'otp')"
        with psycopg.connect(self.both.parts.database_url, autocommit=True) as db:
            while not self.is_over.wait(PAUSE):
                n = next(self.numbers)
                while not self.attempt(
                    "queue_sms_retry", partial(db.execute, statement, [number(n), BODY, f"key-{n}"])
                ):
                    pass

    def post_receipts(self) -> None:
        for release in cycle((self.both.before, self.both.now)):
            if self.is_over.is_set():
                return
            self.both.parts.twilio.route = {ENVIRONMENT["PUBLIC_WEBHOOK_URL"]: release.front.url}
            self.both.parts.twilio.deliver_callbacks()

    def run(self, threads: ThreadPoolExecutor) -> list[Future[None]]:
        releases = (self.both.before, self.both.now)
        each = [threads.submit(act, release) for act in (self.work, self.send) for release in releases]
        return [*each, threads.submit(self.queue), threads.submit(self.post_receipts)]


def test_nothing_is_lost_or_doubled_while_both_releases_migrate_under_load(
    both: Both, capsys: pytest.CaptureFixture[str]
) -> None:
    stack = both.running(both.now)
    stack.twilio.behave(default=lambda to, nth: FIRST_POST(to, nth) if nth == 1 else Accept(), latency=0.01)
    load = Load(both, threading.Event(), Counter(), count())
    with ThreadPoolExecutor() as threads:
        traffic = load.run(threads)
        for release in islice(cycle((both.before, both.now)), MIGRATIONS):
            while not load.attempt("migrate", partial(release.handlers["migrate"], {})):
                pass
        load.is_over.set()
        for each in traffic:
            each.result()
    both.running(both.now).let_minutes_pass(150)

    report(stack, capsys, f"{MIGRATIONS} migrations under load", **load.failures)
    messages = next(load.numbers)
    assert messages > 100
    assert arrived(stack) == {number(n): 1 for n in range(messages)}
    ended = stack.db.execute("select status, count(*) from sms_retry.sms_messages group by 1").fetchall()
    assert ended == [("delivered", messages)]
