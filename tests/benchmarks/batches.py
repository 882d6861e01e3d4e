"""Batches: queue_sms_retries beside single calls and beside COPY, and the claim while a batch is cancelled."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from functools import partial

import psycopg

from sms_retry import operate
from sms_retry.store import Store
from tests.benchmarks.measure import Row, median_ms, rate, side_by_side
from tests.benchmarks.stage import Stage, fill
from tests.tables import truncate_all

COUNT, CALLS, CANCELLED, CLAIMS = 10_000, 1_000, 100_000, 20
# The ratio beside COPY differs by a third from one run to the next.
RUNS = 15
BODY = "Your table is ready."
ONE = "select sms_retry.queue_sms_retry(%s, %s, message_key => %s, batch => 'bench')"
MANY = "select count(*) from sms_retry.queue_sms_retries(%s, 'bench')"
# The columns that queue_sms_retries writes.
MESSAGES = """copy sms_retry.sms_messages
    (id, message_key, business_id, to_number, body, kind, on_unknown, expires_at, status, batch, segments) from stdin"""
QUEUE = "copy sms_retry.sms_retry_queue (message_id, lane, status, scheduled_for) from stdin"

# A number, a text and a key.
Text = tuple[str, str, str | None]


def rows(stage: Stage) -> Iterator[Row]:
    with psycopg.connect(stage.url, autocommit=True) as db:
        yield from _queued(db, "10,000 messages", None)
        yield from _queued(db, "10,000 messages with keys", "order {}")
    yield from _cancelled(stage.url)


def _queued(db: psycopg.Connection, name: str, key: str | None) -> Iterator[Row]:
    """Each way begins with the messages in Python, and ends with the commit."""
    texts = [(_number(n), BODY, key and key.format(n)) for n in range(1, COUNT + 1)]
    ways = {"at once": _at_once, "calls": _by_calls, "calls in one transaction": _in_one_transaction, "COPY": _copy}
    found = side_by_side({way: partial(_rate, db, work, texts) for way, work in ways.items()}, RUNS)
    goals = {"calls": 10.0, "calls in one transaction": None, "COPY": 0.5}
    for beside, goal in goals.items():
        wanted = ("at least", goal) if goal else None
        yield Row(
            "batches", f"queue_sms_retries, {name}", "messages/s", found["at once"], beside, found[beside], wanted
        )


def _rate(db: psycopg.Connection, work: Callable[[psycopg.Connection, list[Text]], None], texts: list[Text]) -> float:
    given = texts if work in (_at_once, _copy) else texts[:CALLS]
    truncate_all(db)
    found = rate(partial(work, db, given), len(given))
    assert db.execute("select count(*) from sms_retry.sms_retry_queue").fetchone() == (len(given),)
    return found


def _at_once(db: psycopg.Connection, texts: list[Text]) -> None:
    names = ("to", "body", "message_key")
    db.execute(MANY, [json.dumps([dict(zip(names, text, strict=True)) for text in texts])])


def _by_calls(db: psycopg.Connection, texts: list[Text]) -> None:
    for text in texts:
        db.execute(ONE, text)


def _in_one_transaction(db: psycopg.Connection, texts: list[Text]) -> None:
    with db.transaction():
        _by_calls(db, texts)


def _copy(db: psycopg.Connection, texts: list[Text]) -> None:
    """The same rows, without a check, a consent, a segment count or a key that may exist."""
    expires = due = datetime.now(UTC)
    with db.transaction(), db.cursor() as cursor:
        with cursor.copy(MESSAGES) as copy:
            for id, (to, body, key) in enumerate(texts, 1):
                row = (id, key, "default", to, body, "transactional", "resend", expires, "queued", "bench", 1)
                copy.write_row(row)
        with cursor.copy(QUEUE) as copy:
            for id in range(1, len(texts) + 1):
                copy.write_row((id, 1, "pending", due))


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
