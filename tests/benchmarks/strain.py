"""A queue under strain: an open snapshot, millions of updates, one business with nearly all messages, and a hundred
thousand messages behind a hold."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta

import psycopg

from sms_retry.store import Store
from sms_retry.values import Report
from tests.benchmarks.measure import RUNS, Row, median_ms
from tests.benchmarks.stage import Stage, fill

WAITING = 200_000
# The time for which the snapshot stays open (seconds), and the number of updates of queue rows.
SNAPSHOT_SECONDS = 120.0
UPDATES = 10_000_000
BEHIND = 100_000

STATE = """select pg_relation_size('sms_retry.sms_retry_queue') / 8192.0, n_dead_tup,
    n_tup_upd, n_tup_hot_upd, autovacuum_count
from pg_stat_user_tables where relid = 'sms_retry.sms_retry_queue'::regclass"""


def rows(stage: Stage) -> Iterator[Row]:
    yield from one_large_business(stage.url)
    yield from behind_a_hold(stage.url)
    yield from under_a_snapshot(stage.url)
    yield from after_updates(stage.url)


def one_large_business(url: str) -> Iterator[Row]:
    fill(url, WAITING)
    one_business = _claims(url)
    fill(url, WAITING, business_id="case when n % 10 > 0 then 'large' else 'small-' || n % 5000 end")
    name = f"claim of 100, {WAITING:,} waiting, 90 % of one business, the rest of five hundred"
    yield Row("strain", name, "ms", _claims(url), "all of one", one_business)


def behind_a_hold(url: str) -> Iterator[Row]:
    """All due messages of one country are behind a hold; a hundred of another business, queued later, are not."""
    business = f"case when n <= {BEHIND} then 'held' else 'free' end"
    fill(url, BEHIND + 100, business_id=business)
    without_hold = _claims(url)
    fill(url, BEHIND + 100, business_id=business)
    with psycopg.connect(url, autocommit=True) as db, closing(Store(lambda: url)) as store:
        free = (
            "update sms_retry.sms_messages set to_number = '+1415' || lpad(id::text, 7, '0') where business_id = 'free'"
        )
        db.execute(free)
        db.execute("select sms_retry.open_sms_hold('country', '+49', '1 hour', 'error')")
        claimed, sent, until = [], 0, 0
        while sent < 100 or len(claimed) < 10 * RUNS:
            started = time.perf_counter()
            claims = store.claim_due(100)
            claimed.append((time.perf_counter() - started) * 1000)
            assert claims, "a message is lost"
            until += sent < 100
            sent += sum(claim.business_id == "free" for claim in claims)
            deferral = {"delays": (timedelta(hours=1),), "reason": "hold"}
            store.finish([Report(claim.ticket, "deferred", **deferral) for claim in claims])
    medians = [statistics.median(claimed[n::RUNS]) for n in range(RUNS)]
    yield Row("strain", f"claim of 100, {BEHIND:,} behind a country's hold", "ms", medians, "no hold", without_hold)
    name = f"until the last of 100 others that wait behind {BEHIND:,} held ones is claimed"
    yield Row("strain", name, "claims", [float(until)], "in order of time", [BEHIND / 100])


def under_a_snapshot(url: str) -> Iterator[Row]:
    """A snapshot as of a long report or a replica's query: vacuum removes no row version newer than it."""
    fill(url, WAITING)
    before = _claims(url)
    with psycopg.connect(url) as report, closing(Store(lambda: url)) as store:
        report.execute("set transaction isolation level repeatable read")
        report.execute("select count(*) from sms_retry.sms_retry_queue")
        end, done = time.monotonic() + SNAPSHOT_SECONDS, 0
        while time.monotonic() < end:
            done += _claim_and_return(store)
        during = _claims(url)
    with psycopg.connect(url, autocommit=True) as db:
        db.execute("vacuum sms_retry.sms_retry_queue")
    snapshot = f"after {SNAPSHOT_SECONDS:.0f} s and {done:,} messages under a snapshot"
    yield Row("strain", f"claim of 100 {snapshot}", "ms", during, "before", before)
    yield Row("strain", "claim of 100 after the snapshot and a vacuum", "ms", _claims(url), "before", before)


def after_updates(url: str) -> Iterator[Row]:
    """Claim the same rows and make them due again, many times, with the table's own autovacuum settings."""
    fill(url, 50_000)
    before, (pages, *_rest) = _claims(url), _state(url)
    with closing(Store(lambda: url)) as store, psycopg.connect(url, autocommit=True) as db:
        db.execute("select pg_stat_reset()")
        done = 0
        while 2 * done < UPDATES:
            done += _claim_and_return(store)
    after, (pages_now, dead, updated, hot, vacuums) = _claims(url), _state(url)
    updates = f"after {updated:,.0f} updates of the queue, {vacuums:.0f} autovacuums"
    yield Row("strain", f"claim of 100 {updates}", "ms", after, "before", before)
    yield Row("strain", f"size of the queue {updates}", "pages", [pages_now], "before", [pages])
    yield Row("strain", f"dead rows {updates}", "rows", [dead], "rows", [50_000.0])
    yield Row("strain", f"HOT updates {updates}", "rows", [hot], "updates", [updated])


def _claims(url: str) -> list[float]:
    """Milliseconds of a claim of 100 in one run of a worker, RUNS times; the claimed rows are given back."""
    with closing(Store(lambda: url)) as store:
        claims, since = [], store.take_stock(1).since
        taken = [median_ms(lambda: claims.extend(store.claim_due(100, since)), 4) for _ in range(RUNS)]
        store.finish([Report.given_back(claim.ticket) for claim in claims])
        return taken


def _claim_and_return(store: Store) -> int:
    """Claim a hundred messages and give them back, due at once. Returns their number."""
    claims = store.claim_due(100)
    store.finish([Report.given_back(claim.ticket) for claim in claims])
    return len(claims)


def _state(url: str) -> tuple[float, ...]:
    time.sleep(1.0)  # a backend reports its counts at most once a second
    with psycopg.connect(url) as db:
        row = db.execute(STATE).fetchone()
    assert row
    return tuple(float(value or 0) for value in row)
