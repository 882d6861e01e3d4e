"""One run of the crash matrix: workers are killed, time passes, and our tables are compared with Twilio's record."""

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
from tests.chaos.worker import DATABASE_AWAY, DURING, KILLED, STEPS, Kill, start
from tests.tables import truncate_all

AT_ANY_MOMENT, WITH_A_RESTART = "at any moment", "while Postgres restarts"
# Minutes of the clock: between two runs of the functions; the minimum and the maximum until all messages are settled.
EVERY, LEAST, MOST = 5, 45, 180
# The sender of every message in a run with a pace.
PACED = "+15005550101"
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
# The lock waits for the claim of a killed worker, if it is not committed yet.
LEFT = """
with sender as materialized (select * from sms_retry.sms_senders where sender = %s for update)
select sms_retry.sms_tokens(s.segments_per_second, s.tokens, s.filled_at), (
    select count(*) from sms_retry.sms_retry_queue where status = 'pending' and scheduled_for <= now())
from sender s
"""
OPEN = """
select exists (select from sms_retry.sms_retry_queue
    where status in ('pending', 'processing') or status = 'unknown' and finished_at is null)
"""


@dataclass(frozen=True)
class Plan:
    """One run: the moment of the kills (STEPS, AT_ANY_MOMENT or WITH_A_RESTART), the number of workers, the seed.

    With a `pace` (segments a second) all messages have one sender with this pace.
    """

    step: str
    workers: int
    seed: int
    messages: int = 16
    pace: int | None = None


@dataclass
class Found:
    """The result of one run, or the sum of several: counts, and a sentence for each violation."""

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
    """Kill workers as planned, then let time pass until all messages are settled.

    `restart` ends Postgres as in a crash and starts it again; WITH_A_RESTART needs it.
    """
    rng = Random(plan.seed)
    _prepare(stack, plan, rng)
    found = Found(runs=1, messages=plan.messages)
    early = rng.random() < 0.5
    with callbacks_posted(stack, early=early):
        if plan.step in STEPS:
            ended = _kill_at_a_step(stack, plan, rng)
        else:
            ended = _kill_at_any_moment(stack, plan, rng, restart)
    found.kills = sum(worker.exitcode == KILLED for worker in ended)
    expected = {0, KILLED, DATABASE_AWAY} if plan.step == WITH_A_RESTART else {0, KILLED}
    found.violations += [
        f"a worker ended with {worker.exitcode}" for worker in ended if worker.exitcode not in expected
    ]
    # The stand-in's answer proves that it has read all that the killed workers had sent.
    urllib.request.urlopen(f"{stack.twilio.url}/stand-in/accepted", timeout=10).close()
    with psycopg.connect(stack.database_url, autocommit=True) as db:
        stack = replace(stack, db=db)
        if plan.pace:
            found.violations += _after_a_minute(stack, plan.pace)
        found.recovered = let_all_settle(stack, rng)
        _compare(stack, found)
    found.violations = [f"{plan}: {violation}" for violation in found.violations]
    return found


def _prepare(stack: Stack, plan: Plan, rng: Random) -> None:
    stack.twilio.reset()
    stack.twilio.behave(
        default=_step_for(plan),
        callbacks=Callbacks(rng.choice((0, 20)), rng.choice((0, 0.3)), 1200, 0.6, repeated=0.1, out_of_order=0.1),
        latency=2 * DURING if plan.step == "during the POST" else rng.uniform(0, 0.02),
        hang=2 * DURING,
        list_lag=rng.choice((0, 120, 1200)),
        seed=plan.seed,
    )
    with psycopg.connect(stack.database_url, autocommit=True) as db:
        truncate_all(db, restart_ids=False)
        if plan.pace:
            db.execute("select sms_retry.set_sms_sender(%s, segments_per_second => %s)", [PACED, plan.pace])
            let_time_pass(db, minutes=1)
        db.execute(
            """select sms_retry.queue_sms_retry('+49176' || lpad(n::text, 8, '0'), 'Your code is ' || n, kind => 'otp',
                sender => %s)
            from generate_series(1, %s) n""",
            [PACED if plan.pace else None, plan.messages],
        )


def _step_for(plan: Plan) -> StepFor:
    """The step of the first POST of a message; every other POST is accepted."""
    if plan.step == "during the POST":
        first = mix(plan.seed, (70, Accept()), (30, Hang(accepted=None)))
    elif plan.step in STEPS:
        first = mix(plan.seed, (1, Accept()))
    else:
        first = mix(plan.seed, *FIRST_POST)
    return lambda to, nth: first(to, nth) if nth == 1 else Accept()


@contextmanager
def callbacks_posted(stack: Stack, *, early: bool) -> Iterator[None]:
    """If `early`, post callbacks while the workers run: a callback may arrive before its worker has written."""
    closing = Event()

    def post() -> None:
        while not closing.wait(0.005):
            stack.twilio.deliver_callbacks()

    thread = Thread(target=post, name="callbacks")
    if early:
        thread.start()
    try:
        yield
    finally:
        closing.set()
        if early:
            thread.join()


def _kill_at_a_step(stack: Stack, plan: Plan, rng: Random) -> list[BaseProcess]:
    """Kill every worker when it reaches the step, then let the same number of workers run to the end."""
    # A worker of a paced sender may reach a step only once.
    turns = (1,) if plan.pace else (1, 1, 2)
    killed = [_start(stack, Kill(plan.step, rng.choice(turns))) for _ in range(plan.workers)]
    wait_for(killed)
    others = [_start(stack) for _ in range(plan.workers)]
    wait_for(others)
    return killed + others


def _kill_at_any_moment(stack: Stack, plan: Plan, rng: Random, restart: Callable[[], None] | None) -> list[BaseProcess]:
    """Kill one worker after the other and start a new one for each; Postgres may restart in between."""
    workers = [_start(stack) for _ in range(plan.workers)]
    kills = plan.workers + rng.randint(0, 2)
    restart_at = rng.randrange(kills) if plan.step == WITH_A_RESTART else None
    for n in range(kills):
        time.sleep(rng.uniform(0, 0.06))
        if n == restart_at and restart:
            restart()
        workers[n].kill()
        workers.append(_start(stack))
    wait_for(workers)
    return workers


def _start(stack: Stack, kill: Kill | None = None) -> BaseProcess:
    return start(stack.database_url, stack.twilio.url, kill)


def wait_for(workers: list[BaseProcess]) -> None:
    """A worker that has not ended within LONGEST_DRAIN has no exit code, and that is a violation."""
    give_up = time.monotonic() + LONGEST_DRAIN
    for worker in workers:
        worker.join(max(0.0, give_up - time.monotonic()))


def _after_a_minute(stack: Stack, pace: int) -> Iterator[str]:
    """A minute after the kills, the sender has all the segments of its pace, and sends them."""
    let_time_pass(stack.db, minutes=1)
    stack.twilio.let_time_pass(60)
    tokens, due = stack.db.execute(LEFT, [PACED]).fetchone() or (0, 0)
    if tokens != pace:
        yield f"a minute after the kills, a sender with a pace of {pace} has {tokens} segments"
    sent = stack.invoke("process_retries")["processed"]
    if sent < min(due, pace):
        yield f"a minute after the kills, {due} messages waited for a pace of {pace}, and {sent} were claimed"


def let_all_settle(stack: Stack, rng: Random) -> int:
    """Let the functions and the callbacks take turns until every message is settled. Returns the recovered claims."""
    recovered = 0

    def resend() -> None:
        nonlocal recovered
        recovered += stack.invoke("process_retries")["recovered"]

    turns = [stack.twilio.deliver_callbacks, resend, lambda: stack.invoke("reconcile")]
    for minutes in range(EVERY, MOST, EVERY):
        let_time_pass(stack.db, minutes=EVERY)
        stack.twilio.let_time_pass(60 * EVERY)
        for turn in turns if _is_punctual(stack) else rng.sample(turns, len(turns)):
            turn()
        (is_open,) = stack.db.execute(OPEN).fetchone() or (True,)
        if minutes >= LEAST and not is_open and not stack.twilio.outstanding():
            break
    return recovered


def _is_punctual(stack: Stack) -> bool:
    """Whether a message has its final status at Twilio before `reconcile` asks."""
    return not stack.twilio.behaviour.callbacks.late


def _compare(stack: Stack, found: Found) -> None:
    """Compare every message in the tables with Twilio's record; count, and add the violations."""
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
            found.violations.append(f"{m.body!r}: Twilio's list had its status, and here it is {m.status}")
    if len(messages) != found.messages:
        found.violations.append(f"{found.messages} messages were queued, and the tables have {len(messages)}")


def _faults(m: Any, sids: list[str], delivered: bool, heard: set[str]) -> Iterator[str]:
    """`m` is a row of MESSAGES; `heard` are the statuses that arrived by callback."""
    if len(sids) != 1:
        yield f"it was accepted {len(sids)} times"
    elif m.provider_sid != sids[0]:
        yield f"its SID is {sids[0]} at Twilio and {m.provider_sid} here"
    if m.queue_status != "completed" or m.status not in ("sent", "delivered"):
        yield f"it is {m.status}, and {m.queue_status} in the queue"
    if (m.status == "delivered") != m.heard_delivered:
        yield f"it is {m.status}, with {'a' if m.heard_delivered else 'no'} receipt of its delivery"
    if m.heard_delivered and not delivered:
        yield "it has a receipt of its delivery, and Twilio has not delivered it"
    if "delivered" in heard and not m.heard_delivered:
        yield "the webhook accepted the receipt of its delivery, and the receipt is lost"
