"""Workers and publishers are killed; then the events on the bus are compared with the endings in the tables.

A trigger records each ending in the transaction that writes it, so a state that was rolled back leaves no record.
"""

from __future__ import annotations

import os
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from random import Random
from unittest.mock import patch

import psycopg

from local.stack import Stack
from local.twilio.stand_in import Accept, BadAnswer, Callbacks, Refuse, Reset, mix
from local.waiting import let_time_pass
from tests.chaos import publisher, worker
from tests.chaos.crash import EVERY, callbacks_posted, let_all_settle, wait_for
from tests.chaos.worker import KILLED
from tests.event_bus import Bus
from tests.tables import truncate_all

TYPES = ("delivered", "undelivered", "failed", "expired", "cancelled", "unknown")
# Each round kills one worker and one publisher. The bus refuses each third entry, in one round every call.
ROUNDS = 4
FIRST_POST = (
    (30, Accept()),
    (10, Accept(("sent", ("undelivered", 30005)))),
    (10, Accept((("failed", 30005), "delivered"))),
    (10, Refuse(400, 21211)),
    (10, Reset(Accept())),
    (10, BadAnswer(502, accepted=None)),
    (5, Refuse(429, 20429)),
)
RECORD_ENDINGS = """
create table if not exists recorded_endings (
    id bigint generated always as identity primary key, message_id bigint, status text);
truncate recorded_endings;
create or replace function record_ending() returns trigger language plpgsql as $$
begin
    insert into public.recorded_endings (message_id, status) values (new.id, new.status);
    return null;
end $$;
create or replace trigger record_ending after insert or update of status on sms_retry.sms_messages for each row
when (new.status in ('delivered', 'undelivered', 'failed', 'expired', 'cancelled')) execute function record_ending()
"""
# A message that is unknown has ended only if it is parked.
STATUSES = """
select m.id, m.status, m.status in ('queued', 'sent') or m.status = 'unknown' and q.finished_at is null
from sms_retry.sms_messages m join sms_retry.sms_retry_queue q on q.message_id = m.id order by m.id
"""


@dataclass
class Published:
    """The counts of a run, and a sentence for each violation."""

    messages: int = 0
    kills: int = 0
    events: int = 0
    repeated: int = 0
    violations: list[str] = field(default_factory=list)

    def __iadd__(self, other: Published) -> Published:
        for name, number in vars(other).items():
            setattr(self, name, getattr(self, name) + number)
        return self


def published(stack: Stack, bus: Bus, seed: int, messages: int = 40) -> Published:
    """Kill workers and publishers at random, let all messages end, and compare the bus with the tables."""
    rng, found = Random(seed), Published(messages=messages)
    bus.reset(refuses=3)
    stack.twilio.reset()
    behaviour = Callbacks(rng.choice((0, 20)), late=0.2, late_by=1200, lost=0.2, repeated=0.1, out_of_order=0.1)
    stack.twilio.behave(default=mix(seed, *FIRST_POST), callbacks=behaviour, latency=rng.uniform(0, 0.02), seed=seed)
    with psycopg.connect(stack.database_url, autocommit=True) as db, patch.dict(os.environ, bus.environment):
        stack = replace(stack, db=db)
        ids = _prepare(db, messages)
        for number in range(ROUNDS):
            bus.is_throttled = number == seed % ROUNDS
            found.kills += _round(stack, bus, rng, ids)
            let_time_pass(db, minutes=EVERY)
            stack.twilio.let_time_pass(60 * EVERY)
        bus.is_throttled = False
        let_all_settle(stack, rng)
        for _ in range(messages):
            if not stack.invoke("publish_events")["waiting"]:
                break
            let_time_pass(db, minutes=EVERY)
        _compare(db, bus, found)
    found.violations = [f"seed {seed}: {violation}" for violation in found.violations]
    return found


def _prepare(db: psycopg.Connection, messages: int) -> list[int]:
    truncate_all(db, restart_ids=False)
    db.execute(RECORD_ENDINGS)
    db.execute("select sms_retry.subscribe_sms_events(%s)", [list(TYPES)])
    rows = db.execute(
        """select sms_retry.queue_sms_retry('+49176' || lpad(n::text, 8, '0'), 'Your code is ' || n, kind => 'otp',
            on_unknown => case when n %% 3 = 0 then 'hold' else 'resend' end)
        from generate_series(1, %s) n""",
        [messages],
    )
    return [id for (id,) in rows]


def _round(stack: Stack, bus: Bus, rng: Random, ids: Sequence[int]) -> int:
    """One worker and one publisher are killed, and two of each run to the end. Returns the number of kills."""
    with callbacks_posted(stack, early=True):
        workers = [worker.start(stack.database_url, stack.twilio.url) for _ in range(2)]
        publishers = [publisher.start(stack.database_url, bus.environment) for _ in range(2)]
        _cancel(stack.db, rng, ids)
        for killed in (workers[0], publishers[0]):
            time.sleep(rng.uniform(0, 0.06))
            killed.kill()
        publishers.append(publisher.start(stack.database_url, bus.environment))
        wait_for([*workers, *publishers])
    return sum(process.exitcode == KILLED for process in (*workers, *publishers))


def _cancel(db: psycopg.Connection, rng: Random, ids: Sequence[int]) -> None:
    """An application cancels two messages, and cancels four more in a transaction that is rolled back."""
    for is_rolled_back, count in ((False, 2), (True, 4)):
        for id in rng.sample(ids, count):
            with db.transaction(force_rollback=is_rolled_back):
                db.execute("select sms_retry.cancel_sms_retry(%s)", [id])


def _compare(db: psycopg.Connection, bus: Bus, found: Published) -> None:
    times = Counter(event["id"] for event in bus.details)
    found.repeated = times.total() - len(times)
    told: dict[int, dict[int, str]] = defaultdict(dict)
    for event in bus.details:
        told[event["message_id"]].setdefault(event["id"], event["type"])
    endings: dict[int, list[str]] = defaultdict(list)
    for id, status in db.execute("select message_id, status from recorded_endings order by id").fetchall():
        endings[id].append(status)
    for id, status, is_open in db.execute(STATUSES).fetchall():
        found.events += len(told[id])
        found.violations += [f"message {id}: {fault}" for fault in _faults(told[id], endings[id], status, is_open)]
    if (
        unended := told.keys()
        - endings.keys()
        - {id for id, types in told.items() if set(types.values()) == {"unknown"}}
    ):
        found.violations.append(f"messages {sorted(unended)} have events and never ended")


def _faults(told: dict[int, str], endings: list[str], status: str, is_open: bool) -> Iterator[str]:
    """`told` are the types by the id of the event, in the order of the bus; `endings` are those of the tables."""
    if list(told) != sorted(told):
        yield f"its events came in the order {list(told)}"
    types = [type for type in told.values() if type != "unknown"]
    # A failure is told again, once Twilio names its code, and its status remains.
    if _without_repeats(types) != _without_repeats(endings):
        yield f"it ended as {endings}, and its events are {types}"
    last = list(told.values())[-1:]
    if not is_open and last != [status]:
        yield f"its status is {status}, and its last event is {last}"


def _without_repeats(words: list[str]) -> list[str]:
    return [word for word, _ in groupby(words)]
