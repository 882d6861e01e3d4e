"""Fifty workers at once, the statements of a worker, and a vacuum of tables that have many rows."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import psycopg

from local.postgres.server import postgres
from sms_retry import worker
from sms_retry.migrate import migrate
from sms_retry.store import Store
from sms_retry.values import Accepted, Answer, Claim, Report
from tests.benchmarks.stage import LATENCY, fill, sid
from tests.scale.life import OTHERS
from tests.scale.life import fill as fill_with_ended
from tests.scale.reading import cpu_seconds, private_bytes, sessions, spent

WORKERS, IN_FLIGHT, MESSAGES = 50, 20, 2_000
# The dead rows at which autovacuum comes: the setting of the table, in parts of its rows.
VACUUMED = {"sms_retry_queue": 0.01, "sms_messages": 0.2, "sms_attempts": 0.2, "sms_delivery_events": 0.2}
DELETE = "delete from sms_retry.{table} where {oldest}"
# No row of this table is deleted while its queue row is there.
UPDATE = "update sms_retry.{table} set message_key = message_key || '-' where {oldest}"
OLDEST = "ctid = any (array(select ctid from sms_retry.{table} order by ctid limit {rows}))"


@dataclass(frozen=True)
class Load:
    """`connections` of fifty workers, and the `memory` (bytes) of each in the server; the `statements` of a message.

    `vacuum` is the CPU seconds for a million rows of each table, with as many dead rows as bring autovacuum.
    """

    connections: int
    memory: float
    statements: float
    vacuum: dict[str, float]


def load() -> Load:
    with postgres() as server:
        url = server.create_database("sms_retry_load")
        migrate(url)
        with psycopg.connect(url, autocommit=True) as db:
            statements = _statements(db, url)
            connections, memory = _crowd(db, url)
        url = server.create_database("sms_retry_vacuum")
        migrate(url)
        with psycopg.connect(url, autocommit=True) as db:
            fill_with_ended(db)
            return Load(connections, memory, statements, {table: _vacuum(db, table) for table in VACUUMED})


def _statements(db: psycopg.Connection, url: str) -> float:
    """Of a message in a worker with IN_FLIGHT messages in flight."""
    fill(url, MESSAGES)

    def send(claim: Claim, _valid_for: timedelta) -> Answer:
        time.sleep(LATENCY)
        return Accepted(sid(claim.id), 201)

    before = spent(db)
    with closing(Store(lambda: url)) as store:
        tally = worker.drain(store, send, lambda: 300.0, IN_FLIGHT)
        ours = sessions(db)
    assert tally.success == MESSAGES, tally
    return spent(db, ours).per(before, MESSAGES).transactions


def _crowd(db: psycopg.Connection, url: str) -> tuple[int, float]:
    """The most connections of WORKERS workers, and the median memory of one that has claimed and finished."""
    fill(url, WORKERS * IN_FLIGHT * 4)
    with ExitStack() as opened:
        stores = [opened.enter_context(closing(Store(lambda: url))) for _ in range(WORKERS)]
        threads = [threading.Thread(target=_work, args=(store,)) for store in stores]
        for thread in threads:
            thread.start()
        most = 0
        while any(thread.is_alive() for thread in threads):
            most = max(most, len(sessions(db)))
            time.sleep(0.05)
        memory = statistics.median(map(private_bytes, sessions(db)))
        return max(most, len(sessions(db))), memory


def _work(store: Store) -> None:
    for _ in range(4):
        claims: Sequence[Any] = store.claim_due(IN_FLIGHT)
        time.sleep(LATENCY)
        store.finish([Report(claim.ticket, "accepted", sid(claim.id)) for claim in claims])


def _vacuum(db: psycopg.Connection, table: str) -> float:
    row = db.execute(f"select count(*) from sms_retry.{table}").fetchone()  # type: ignore[call-overload]
    assert row
    rows = row[0]
    oldest = OLDEST.format(table=table, rows=int(rows * VACUUMED[table]))
    statement = UPDATE if table == "sms_messages" else DELETE
    db.execute(statement.format(table=table, oldest=oldest))  # type: ignore[call-overload]
    before = cpu_seconds(db)
    db.execute(f"vacuum (index_cleanup on) sms_retry.{table}")  # type: ignore[call-overload]
    assert rows >= OTHERS
    return (cpu_seconds(db) - before) / rows * 1_000_000
