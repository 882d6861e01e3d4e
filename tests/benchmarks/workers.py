"""1, 2, 4 and 8 workers on one queue: the rate, even shares, who waits for a lock, and what a small business waits."""

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
# Nine of ten messages are of one business, and the tenth of a hundred others, queued behind them all.
ONE_LARGE = f"case when n <= {COUNT * 9 // 10} then 'large' else 'small-' || n % 100 end"

# A look at who works and who waits, so many seconds apart.
LOOK_EVERY = 0.005
WAITING = """select count(*) filter (where wait_event in ('transactionid', 'tuple')), count(*)
from pg_stat_activity where application_name = %s and state = 'active'"""


@dataclass(frozen=True)
class Run:
    """`whole` and `last`, when each small business was done, are seconds; `waiting` is the percent of the working
    sessions that were seen to wait for a lock.
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
        what = f"claim and finish, {workers} processes (2 cores are shared with Postgres)"
        yield Row("workers", what, "messages/s", [run.rate for run in runs], "1 process", alone)
        even = f"the busiest of {workers} processes, in messages"
        shares = [max(run.shares) / min(run.shares) for run in runs]
        yield Row("workers", even, "times", shares, "the idlest", [1.0] * RUNS)
    for workers in as_sent:
        for runs, when, goal in (
            (as_sent[workers], "finished 100 ms after the claim", ("at most", 0.01)),
            (at_once[workers], "at once", None),
        ):
            what = f"seen to wait for a row's lock, {workers} processes, {when}"
            yield Row("workers", what, "%", [run.waiting for run in runs], "their statements", [100.0] * RUNS, goal)
    last = [statistics.median(run.last) for run in at_once[8]]
    what = "8 processes: when the last message of the hundred small businesses was claimed (median business)"
    yield Row("workers", what, "s", last, "the whole queue's end", [run.whole for run in at_once[8]], ("at most", 1.0))


def _run(url: str, workers: int, sending: float) -> Run:
    """Each worker claims a hundred, is `sending` for so many seconds, and finishes them."""
    fill(url, COUNT, business_id=ONE_LARGE)
    context = multiprocessing.get_context("spawn")
    ready, done = context.Barrier(workers + 1), context.SimpleQueue()
    at_work = [context.Process(target=_work, args=(url, sending, ready, done)) for _ in range(workers)]
    with psycopg.connect(url, autocommit=True) as db:
        before = _deadlocks(db)
        for each in at_work:
            each.start()
        ready.wait(60)
        started = time.time()
        waiting = _waiting(db, at_work)
        assert not any(each.exitcode for each in at_work), "a worker failed"
        reports = [done.get() for _ in at_work]
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


def _waiting(db: psycopg.Connection, at_work: list[multiprocessing.Process]) -> float:
    """Looks until all have ended: of the sessions that were at work, the percent that waited for another's lock."""
    waited = worked = 0
    while any(each.is_alive() for each in at_work):
        row = db.execute(WAITING, [CONNECTION["application_name"]]).fetchone()
        waited, worked = waited + row[0], worked + row[1]
        time.sleep(LOOK_EVERY)
    return 100 * waited / max(worked, 1)


def _deadlocks(db: psycopg.Connection) -> int:
    row = db.execute("select deadlocks from pg_stat_database where datname = current_database()").fetchone()
    return int(row[0]) if row else 0
