"""One run of the crash matrix: workers die, the clock goes on, and both sides say what became of every message."""

from __future__ import annotations

import time
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing.process import BaseProcess
from random import Random
from threading import Event, Thread
from typing import Any

import psycopg
from psycopg.rows import namedtuple_row

from local.stack import Stack
from local.twilio.plan import StepFor
from local.twilio.stand_in import Accept, BadAnswer, Callbacks, Hang, Refuse, Reset, mix
from local.waiting import let_time_pass
from tests.chaos.worker import DATABASE_AWAY, DURING, KILLED, STEPS, Death, start

AT_ANY_MOMENT, WITH_A_RESTART = "at any moment", "while Postgres restarts"
# Minutes of the clock: between two rounds of its functions, and within which all is settled, or never is.
EVERY, LEAST, MOST = 5, 45, 180
# Longer than a worker waits for its database (seconds).
LONGEST_DRAIN = 60.0

FIRST_POST = (
    (70, Accept()),
    (6, Reset(Accept())),
    (6, Reset(accepted=None)),
    (6, BadAnswer(500, accepted=Accept())),
    (6, BadAnswer(502, accepted=None)),
    (6, Refuse(429, 20429)),
)
MESSAGES = """
select m.to_number, m.body, m.status, m.provider_sid, q.status as queue_status,
    sent.at is not null and sent.http_status is null as not_by_its_worker,
    exists (select from sms_retry.sms_attempts a
        where a.queue_id = q.id and a.attempt = sent.attempt and a.outcome = 'unknown') as was_unknown,
    exists (select from sms_retry.sms_attempts a
        where a.queue_id = q.id and a.attempt < q.attempt and a.outcome = 'unknown') as was_resent,
    exists (select from sms_retry.sms_delivery_events e
        where e.message_sid = m.provider_sid) as is_heard_of,
    exists (select from sms_retry.sms_delivery_events e
        where e.message_sid = m.provider_sid and e.status = 'delivered') as heard_delivered
from sms_retry.sms_messages m
join sms_retry.sms_retry_queue q on q.message_id = m.id
left join sms_retry.sms_attempts sent on sent.queue_id = q.id and sent.outcome = 'accepted'
order by m.id
"""
OPEN = """
select exists (select from sms_retry.sms_retry_queue
    where status in ('pending', 'processing') or status = 'unknown' and finished_at is null)
"""


@dataclass(frozen=True)
class Plan:
    """One run: where its workers die (STEPS, AT_ANY_MOMENT or WITH_A_RESTART), how many there are, and its dice."""

    step: str
    workers: int
    seed: int
    messages: int = 16


@dataclass
class Found:
    """What one run, or several, came to; `violations` are sentences, and everything else is a count."""

    runs: int = 0
    messages: int = 0
    kills: int = 0
    recovered: int = 0
    by_callback: int = 0
    by_list: int = 0
    resent: int = 0
    exactly_once: int = 0
    violations: list[str] = field(default_factory=list)

    def __iadd__(self, other: Found) -> Found:
        for name, number in vars(other).items():
            setattr(self, name, getattr(self, name) + number)
        return self


def crash(stack: Stack, plan: Plan, restart: Callable[[], None] | None = None) -> Found:
    """Let workers die as planned, then time pass until all is settled.

    `restart` ends Postgres as a crash would and starts it again: WITH_A_RESTART needs it.
    """
    dice = Random(plan.seed)
    _begin(stack, plan, dice)
    found = Found(runs=1, messages=plan.messages)
    early = dice.random() < 0.5
    with _post_office(stack, open_now=early):
        if plan.step in STEPS:
            ended = _die_at_a_step(stack, plan, dice)
        else:
            ended = _die_at_any_moment(stack, plan, dice, restart)
    found.kills = sum(worker.exitcode == KILLED for worker in ended)
    expected = {0, KILLED, DATABASE_AWAY} if plan.step == WITH_A_RESTART else {0, KILLED}
    found.violations += [
        f"a worker ended with {worker.exitcode}" for worker in ended if worker.exitcode not in expected
    ]
    # An answer to this means that Twilio has read whatever the dead had written before.
    urllib.request.urlopen(f"{stack.twilio.url}/stand-in/accepted", timeout=10).close()
    with psycopg.connect(stack.database_url, autocommit=True) as db:
        stack = replace(stack, db=db)
        found.recovered = _let_all_settle(stack, dice)
        _compare(stack, found)
    found.violations = [f"{plan}: {violation}" for violation in found.violations]
    return found


def _begin(stack: Stack, plan: Plan, dice: Random) -> None:
    stack.twilio.reset()
    stack.twilio.behave(
        default=_step_for(plan),
        callbacks=Callbacks(dice.choice((0, 20)), dice.choice((0, 0.3)), 1200, 0.6, repeated=0.1, out_of_order=0.1),
        latency=2 * DURING if plan.step == "during the POST" else dice.uniform(0, 0.02),
        hang=2 * DURING,
        list_lag=dice.choice((0, 120, 1200)),
        seed=plan.seed,
    )
    with psycopg.connect(stack.database_url, autocommit=True) as db:
        db.execute(
            "truncate sms_retry.sms_messages, sms_retry.sms_retry_queue, sms_retry.sms_attempts,"
            " sms_retry.sms_recipients, sms_retry.sms_delivery_events, sms_retry.sms_holds"
        )
        db.execute(
            """select sms_retry.queue_sms_retry('+49176' || lpad(n::text, 8, '0'), 'Your code is ' || n, kind => 'otp')
            from generate_series(1, %s) n""",
            [plan.messages],
        )


def _step_for(plan: Plan) -> StepFor:
    """What becomes of the first POST of a message; any other is accepted."""
    if plan.step == "during the POST":
        first = mix(plan.seed, (70, Accept()), (30, Hang(accepted=None)))
    elif plan.step in STEPS:
        first = mix(plan.seed, (1, Accept()))
    else:
        first = mix(plan.seed, *FIRST_POST)
    return lambda to, nth: first(to, nth) if nth == 1 else Accept()


@contextmanager
def _post_office(stack: Stack, *, open_now: bool) -> Iterator[None]:
    """Callbacks go out while the workers still run, and may come before the write of what they are about."""
    closing = Event()

    def post() -> None:
        while not closing.wait(0.005):
            stack.twilio.deliver_callbacks()

    thread = Thread(target=post, name="post office")
    if open_now:
        thread.start()
    try:
        yield
    finally:
        closing.set()
        if open_now:
            thread.join()


def _die_at_a_step(stack: Stack, plan: Plan, dice: Random) -> list[BaseProcess]:
    """All die there, some later than others; then as many go on."""
    mortals = [_start(stack, Death(plan.step, dice.choice((1, 1, 2)))) for _ in range(plan.workers)]
    _wait_for(mortals)
    others = [_start(stack) for _ in range(plan.workers)]
    _wait_for(others)
    return mortals + others


def _die_at_any_moment(stack: Stack, plan: Plan, dice: Random, restart: Callable[[], None] | None) -> list[BaseProcess]:
    """One after the other, each followed by a new one; Postgres goes away in between, and comes back."""
    workers = [_start(stack) for _ in range(plan.workers)]
    deaths = plan.workers + dice.randint(0, 2)
    away = dice.randrange(deaths) if plan.step == WITH_A_RESTART else None
    for n in range(deaths):
        time.sleep(dice.uniform(0, 0.06))
        if n == away and restart:
            restart()
        workers[n].kill()
        workers.append(_start(stack))
    _wait_for(workers)
    return workers


def _start(stack: Stack, death: Death | None = None) -> BaseProcess:
    return start(stack.database_url, stack.twilio.url, death)


def _wait_for(workers: list[BaseProcess]) -> None:
    """One that has not ended by then has no exit code, and that is a violation."""
    give_up = time.monotonic() + LONGEST_DRAIN
    for worker in workers:
        worker.join(max(0.0, give_up - time.monotonic()))


def _let_all_settle(stack: Stack, dice: Random) -> int:
    """The clock's functions and the callbacks take turns until nothing is open; gives how many were taken back."""
    recovered = 0

    def resend() -> None:
        nonlocal recovered
        recovered += stack.invoke("process_retries")["recovered"]

    turns = [stack.twilio.deliver_callbacks, resend, lambda: stack.invoke("reconcile")]
    for minutes in range(EVERY, MOST, EVERY):
        let_time_pass(stack.db, minutes=EVERY)
        stack.twilio.let_time_pass(60 * EVERY)
        for turn in turns if _is_punctual(stack) else dice.sample(turns, len(turns)):
            turn()
        (is_open,) = stack.db.execute(OPEN).fetchone() or (True,)
        if minutes >= LEAST and not is_open and not stack.twilio.outstanding():
            break
    return recovered


def _is_punctual(stack: Stack) -> bool:
    """Whether Twilio knows what became of a message by the time that it is asked."""
    return not stack.twilio.behaviour.callbacks.late


def _compare(stack: Stack, found: Found) -> None:
    """What the tables say of every message, and what Twilio remembers of it."""
    accepted: dict[tuple[str, str], list[str]] = defaultdict(list)
    for post in stack.twilio.accepted():
        accepted[post.to, post.form["Body"]].append(post.sid or "")
    called_back: dict[str, set[str]] = defaultdict(set)
    for callback in stack.twilio.callbacks():
        if 204 in callback.answers:
            called_back[callback.params["MessageSid"]].add(callback.params["MessageStatus"])
        else:
            found.violations.append(f"a callback was answered {callback.answers}")
    with stack.db.cursor(row_factory=namedtuple_row) as cursor:
        messages = cursor.execute(MESSAGES).fetchall()
    for m in messages:
        sids = accepted[m.to_number, m.body]
        delivered = any(stack.twilio.status(sid) == "delivered" for sid in sids)
        heard = called_back[m.provider_sid]
        found.exactly_once += len(sids) == 1
        found.resent += m.was_resent
        found.by_list += m.not_by_its_worker and m.was_unknown and not heard
        found.by_callback += m.not_by_its_worker and bool(heard)
        found.violations += [f"{m.body!r}: {fault}" for fault in _faults(m, sids, delivered, heard)]
        if m.not_by_its_worker and not heard and not (m.heard_delivered if _is_punctual(stack) else m.is_heard_of):
            found.violations.append(f"{m.body!r}: Twilio's list said how it stands, and it is {m.status}")
    if len(messages) != found.messages:
        found.violations.append(f"{found.messages} were taken in and {len(messages)} are there")


def _faults(m: Any, sids: list[str], delivered: bool, heard: set[str]) -> Iterator[str]:
    """`m` is a row of MESSAGES; `heard` are the statuses that got through by callback."""
    if len(sids) != 1:
        yield f"it was accepted {len(sids)} times"
    elif m.provider_sid != sids[0]:
        yield f"Twilio has it as {sids[0]}, and here it is {m.provider_sid}"
    if m.queue_status != "completed" or m.status not in ("sent", "delivered"):
        yield f"it is {m.status}, and {m.queue_status} in the queue"
    if (m.status == "delivered") != m.heard_delivered:
        yield f"it is {m.status}, and {'' if m.heard_delivered else 'nobody '}said that it was delivered"
    if m.heard_delivered and not delivered:
        yield "it is said to be delivered, and Twilio has not delivered it"
    if "delivered" in heard and not m.heard_delivered:
        yield "its callback got through and is lost"
