"""Batches: queue_sms_retries beside single calls and beside COPY, and the claim while a batch is cancelled."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial

import psycopg

from sms_retry import operate
from sms_retry.store import Store
from tests.benchmarks.measure import Row, median_ms, rate, side_by_side
from tests.benchmarks.stage import Stage, fill
from tests.tables import truncate_all

COUNT, CANCELLED, CLAIMS = 10_000, 100_000, 20
BODY = "Your table is ready."
ONE = "select sms_retry.queue_sms_retry(%s, %s, message_key => %s, batch => 'bench')"
# The columns that queue_sms_retries writes.
MESSAGES = """copy sms_retry.sms_messages
    (id, message_key, business_id, to_number, body, kind, on_unknown, expires_at, status, batch, segments) from stdin"""
QUEUE = "copy sms_retry.sms_retry_queue (message_id, lane, status, scheduled_for) from stdin"


def rows(stage: Stage) -> Iterator[Row]:
    yield from _queued(stage.url)
    yield from _cancelled(stage.url)


def _queued(url: str) -> Iterator[Row]:
    with psycopg.connect(url, autocommit=True) as db:
        messages = [(_number(n), BODY, f"order {n}") for n in range(1, COUNT + 1)]
        batch = json.dumps([{"to": to, "body": body, "message_key": key} for to, body, key in messages])
        copied = _copied(db)
        ways = {
            "at once": lambda: db.execute("select count(*) from sms_retry.queue_sms_retries(%s, 'bench')", [batch]),
            "calls, a transaction each": lambda: _one_by_one(db, messages),
            "calls in one transaction": lambda: _in_one_transaction(db, messages),
            "COPY into the same tables": lambda: _copy(db, *copied),
        }
        found = side_by_side({name: partial(_rate, db, work) for name, work in ways.items()})
    goals = {"calls, a transaction each": 10.0, "calls in one transaction": None, "COPY into the same tables": 0.5}
    for beside, goal in goals.items():
        name = "queue_sms_retries, 10,000 messages with keys"
        wanted = goal and ("at least", goal)
        yield Row("batches", name, "messages/s", found["at once"], beside, found[beside], wanted or None)


def _rate(db: psycopg.Connection, work: Callable[[], object]) -> float:
    truncate_all(db)
    found = rate(work, COUNT)
    assert db.execute("select count(*) from sms_retry.sms_retry_queue").fetchone() == (COUNT,)
    return found


def _one_by_one(db: psycopg.Connection, messages: list[tuple[str, str, str]]) -> None:
    for message in messages:
        db.execute(ONE, message)


def _in_one_transaction(db: psycopg.Connection, messages: list[tuple[str, str, str]]) -> None:
    with db.transaction():
        _one_by_one(db, messages)


def _copied(db: psycopg.Connection) -> tuple[bytes, bytes]:
    """The same rows, ready for COPY: without a check, a key that exists or a consent."""
    lane = (db.execute("select sms_retry.sms_lane('transactional', 'default', null, false)").fetchone() or ("",))[0]
    messages = "".join(
        f"{n}\torder {n}\tdefault\t{_number(n)}\t{BODY}\ttransactional\tresend\t2099-01-01\tqueued\tbench\t1\n"
        for n in range(1, COUNT + 1)
    )
    queue = "".join(f"{n}\t{lane}\tpending\t2026-01-01\n" for n in range(1, COUNT + 1))
    return messages.encode(), queue.encode()


def _copy(db: psycopg.Connection, messages: bytes, queue: bytes) -> None:
    with db.transaction(), db.cursor() as cursor:
        for statement, lines in ((MESSAGES, messages), (QUEUE, queue)):
            with cursor.copy(statement) as copy:
                copy.write(lines)


def _number(n: int) -> str:
    return f"+49176{n:08}"


def _cancelled(url: str) -> Iterator[Row]:
    """The time of cancel_sms_batch, and that of a claim meanwhile, beside a claim from the same rows in silence."""
    alone, during, seconds = [], [], []
    for _ in range(3):
        _fill_with_batch(url)
        with closing(Store(lambda: url)) as store, ThreadPoolExecutor(1) as background:
            store.claim_due(10)
            alone.append(median_ms(lambda: store.claim_due(10), CLAIMS))
            cancelling = background.submit(_cancel, url)
            taken = []
            while not cancelling.done():
                started = time.perf_counter()
                assert store.claim_due(10)
                taken.append((time.perf_counter() - started) * 1000)
                time.sleep(0.05)
            during.append(max(taken))
            seconds.append(cancelling.result())
    name = "cancelling a batch of 100,000 waiting messages"
    yield Row("batches", name, "s", seconds, "ten seconds", [10.0] * 3, ("at most", 1.0))
    name = "the longest claim of ten messages while the batch is cancelled"
    yield Row("batches", name, "ms", during, "the median claim before", alone)


def _fill_with_batch(url: str) -> None:
    """The messages of a batch, and as many others that are due after them."""
    fill(url, 2 * CANCELLED)
    with psycopg.connect(url, autocommit=True) as db:
        db.execute("update sms_retry.sms_messages set batch = 'bench' where id <= %s", [CANCELLED])
        db.execute("vacuum analyze")


def _cancel(url: str) -> float:
    with closing(Store(lambda: url)) as store:
        started = time.perf_counter()
        assert operate.cancel_batch(store, "bench", "bench") > CANCELLED / 2
        return time.perf_counter() - started
