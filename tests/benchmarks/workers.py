"""1, 2, 4 and 8 workers on one queue: the rate, how even their shares are, and what a small business waits."""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Iterator
from contextlib import closing

import psycopg

from sms_retry.retry import Report
from sms_retry.store import Store
from tests.benchmarks.measure import RUNS, Row
from tests.benchmarks.stage import Stage, fill, sid

COUNT = 12_000
# Nine of ten messages are of one business, and the tenth of a hundred others, queued behind them all.
ONE_LARGE = f"case when n <= {COUNT * 9 // 10} then 'large' else 'small-' || n % 100 end"


def rows(stage: Stage) -> Iterator[Row]:
    found = {workers: [_run(stage.url, workers) for _ in range(RUNS)] for workers in (1, 2, 4, 8)}
    alone = [run[0] for run in found[1]]
    for workers, runs in found.items():
        shares = [max(run[1]) / min(run[1]) for run in runs]
        if workers > 1:
            what = f"claim and finish, {workers} processes (2 cores are shared with Postgres)"
            yield Row("workers", what, "messages/s", [run[0] for run in runs], "1 process", alone)
            even = f"the busiest of {workers} processes, in messages"
            yield Row("workers", even, "times", shares, "the idlest", [1.0] * RUNS)
    last = [statistics.median(run[2]) for run in found[8]]
    whole = [run[3] for run in found[8]]
    what = "8 processes: when the last message of the hundred small businesses was claimed (median business)"
    yield Row("workers", what, "s", last, "the whole queue's end", whole, ("at most", 1.0))
    deadlocks = [float(run[4]) for runs in found.values() for run in runs]
    assert not any(deadlocks), f"deadlocks: {deadlocks}"


def _run(url: str, workers: int) -> tuple[float, list[int], list[float], float, int]:
    """Messages a second; how many each worker did; when each small business was done; the whole time; deadlocks."""
    fill(url, COUNT, business_id=ONE_LARGE)
    before = _deadlocks(url)
    context = multiprocessing.get_context("spawn")
    ready, done = context.Barrier(workers + 1), context.SimpleQueue()
    at_work = [context.Process(target=_work, args=(url, ready, done)) for _ in range(workers)]
    for each in at_work:
        each.start()
    ready.wait(60)
    started = time.time()
    reports = [done.get() for _ in at_work]
    for each in at_work:
        each.join()
    whole = max(ended for _, ended, _ in reports) - started
    shares = [count for count, _, _ in reports]
    assert sum(shares) == COUNT, shares
    last = [max(seen.get(f"small-{n}", 0) for _, _, seen in reports) - started for n in range(100)]
    return COUNT / whole, shares, last, whole, _deadlocks(url) - before


def _work(url: str, ready: multiprocessing.Barrier, done: multiprocessing.SimpleQueue) -> None:  # type: ignore[valid-type]
    count, seen = 0, {}
    with closing(Store(lambda: url)) as store:
        store.overrides()
        ready.wait(60)
        while claims := store.claim_due(100):
            now = time.time()
            seen.update({claim.business_id: now for claim in claims})
            store.finish([Report(claim.ticket, "accepted", sid(claim.id)) for claim in claims])
            count += len(claims)
    done.put((count, time.time(), seen))


def _deadlocks(url: str) -> int:
    with psycopg.connect(url) as db:
        row = db.execute("select deadlocks from pg_stat_database where datname = current_database()").fetchone()
    return int(row[0]) if row else 0
