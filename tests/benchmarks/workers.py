"""1, 2, 4 and 8 workers on one queue: the rate, the shares, waits for locks, and the waits of small businesses."""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import psycopg

from sms_retry.connection import CONNECTION
from sms_retry.store import Store
from sms_retry.values import Report
from tests.benchmarks.measure import RUNS, Row
from tests.benchmarks.stage import LATENCY, Stage, fill, sid

COUNT = 12_000
# Nine of ten messages are of one business. The others are of a hundred small businesses, and are queued last.
ONE_LARGE = f"case when n <= {COUNT * 9 // 10} then 'large' else 'small-' || n % 100 end"

# The interval between two samples of the active and the waiting sessions (seconds).
SAMPLE_EVERY = 0.005
WAITING = """select count(*) filter (where wait_event in ('transactionid', 'tuple')), count(*)
from pg_stat_activity where application_name = %s and state = 'active'"""


@dataclass(frozen=True)
class Run:
    """`whole`, and `last` for the end of each small business, are seconds. `waiting` is the percentage of sampled
    active sessions that waited for a lock.
    """

    whole: float
    shares: list[int]
    last: list[float]
    waiting: float
    deadlocks: int

    @property
    def rate(self) -> float:
        return COUNT / self.whole


def rows(stage: Stage) -> Iterator[Row]:
    at_once = {workers: [_run(stage.url, workers, 0) for _ in range(RUNS)] for workers in (1, 2, 4, 8)}
    as_sent = {workers: [_run(stage.url, workers, LATENCY) for _ in range(RUNS)] for workers in (2, 4, 8)}
    assert not any(run.deadlocks for found in (at_once, as_sent) for runs in found.values() for run in runs), "deadlock"
    alone = [run.rate for run in at_once.pop(1)]
    for workers, runs in at_once.items():
        name = f"claim and finish, {workers} processes (2 cores are shared with Postgres)"
        yield Row("workers", name, "messages/s", [run.rate for run in runs], "1 process", alone)
        name = f"the largest share of {workers} processes, in messages"
        shares = [max(run.shares) / min(run.shares) for run in runs]
        yield Row("workers", name, "times", shares, "the smallest share", [1.0] * RUNS)
    for workers in as_sent:
        for runs, when, goal in (
            (as_sent[workers], "finished 100 ms after the claim", ("at most", 0.01)),
            (at_once[workers], "at once", None),
        ):
            name = f"waiting for the lock of a row, {workers} processes, {when}"
            yield Row("workers", name, "%", [run.waiting for run in runs], "active sessions", [100.0] * RUNS, goal)
    last = [statistics.median(run.last) for run in at_once[8]]
    name = "8 processes: when the last message of the hundred small businesses was claimed (median business)"
    yield Row("workers", name, "s", last, "the whole queue's end", [run.whole for run in at_once[8]], ("at most", 1.0))


def _run(url: str, workers: int, sending: float) -> Run:
    """Each worker claims a hundred messages, sleeps `sending` seconds, and finishes them."""
    fill(url, COUNT, business_id=ONE_LARGE)
    context = multiprocessing.get_context("spawn")
    ready, done = context.Barrier(workers + 1), context.SimpleQueue()
    processes = [context.Process(target=_work, args=(url, sending, ready, done)) for _ in range(workers)]
    with psycopg.connect(url, autocommit=True) as db:
        before = _deadlocks(db)
        for process in processes:
            process.start()
        ready.wait(60)
        started = time.time()
        waiting = _waiting(db, processes)
        assert not any(process.exitcode for process in processes), "a worker failed"
        reports = [done.get() for _ in processes]
        deadlocks = _deadlocks(db) - before
    shares = [count for count, _, _ in reports]
    assert sum(shares) == COUNT, shares
    whole = max(ended for _, ended, _ in reports) - started
    last = [max(seen.get(f"small-{n}", 0) for _, _, seen in reports) - started for n in range(100)]
    return Run(whole, shares, last, waiting, deadlocks)


def _work(
    url: str,
    sending: float,
    ready: multiprocessing.Barrier,  # type: ignore[valid-type]
    done: multiprocessing.SimpleQueue,  # type: ignore[type-arg]
) -> None:
    count, seen = 0, {}
    with closing(Store(lambda: url)) as store:
        store.overrides()
        ready.wait(60)
        while claims := store.claim_due(100):
            now = time.time()
            seen.update({claim.business_id: now for claim in claims})
            time.sleep(sending)
            store.finish([Report(claim.ticket, "accepted", sid(claim.id)) for claim in claims])
            count += len(claims)
    done.put((count, time.time(), seen))


def _waiting(db: psycopg.Connection, processes: list[multiprocessing.Process]) -> float:
    """Sample the sessions until all processes have ended. Returns the percentage that waited for a lock."""
    waited = active = 0
    while any(process.is_alive() for process in processes):
        row = db.execute(WAITING, [CONNECTION["application_name"]]).fetchone()
        waited, active = waited + row[0], active + row[1]
        time.sleep(SAMPLE_EVERY)
    return 100 * waited / max(active, 1)


def _deadlocks(db: psycopg.Connection) -> int:
    row = db.execute("select deadlocks from pg_stat_database where datname = current_database()").fetchone()
    return int(row[0]) if row else 0
