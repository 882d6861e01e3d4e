"""The values of one day: memory, connections, sizes, the backlog, and the time of a claim beside a fixed statement."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import psycopg

from sms_retry.store import Store
from sms_retry.values import Report, Ticket
from tests.soak.containers import Container
from tests.soak.lines import Line
from tests.soak.traffic import FIRST

# sms_usage keeps the counts of each day, and sms_replies each reply's SID, so their rows for a day are the lines. The
# others here have no messages.
SIZES = """
select c.relname, pg_table_size(c.oid) / 1048576.0, pg_indexes_size(c.oid) / 1048576.0
from pg_class c
where c.relnamespace = 'sms_retry'::regnamespace and c.relkind = 'r'
    and c.relname not in ('sms_usage', 'sms_replies', 'schema_migrations', 'sms_calling_codes', 'sms_area_codes')
"""
COUNTS: Mapping[str, str] = {
    "messages": "select count(*) from sms_retry.sms_messages",
    "queue rows": "select count(*) from sms_retry.sms_retry_queue",
    "attempts": "select count(*) from sms_retry.sms_attempts",
    "receipts": "select count(*) from sms_retry.sms_delivery_events",
    "messages that have not ended": "select count(*) from sms_retry.sms_retry_queue where finished_at is null",
    "events that wait": "select count(*) from sms_retry.sms_outbox",
    "rows of usage for a day": """
        select count(*) / greatest(1.0, extract(day from virtual_time.now() - min(day)::timestamptz))
        from sms_retry.sms_usage
    """,
    "SIDs of replies for a day": """
        select count(*) / greatest(1.0, extract(epoch from virtual_time.now() - min(received_at)) / 86400)
        from sms_retry.sms_replies
    """,
}
CONNECTIONS = "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
# About as long as a claim, and independent of the tables.
FIXED = "select count(*) from generate_series(1, 10000)"
CLAIM = "select id, attempt from sms_retry.claim_sms(%s)"
CLAIMS = 20


def sizes(db: psycopg.Connection) -> dict[str, float]:
    found = {}
    for table, size, indexes in db.execute(SIZES).fetchall():
        found[f"table {table}"], found[f"indexes of {table}"] = float(size), float(indexes)
    return found


def counts(db: psycopg.Connection) -> dict[str, float]:
    return {name: float((db.execute(statement).fetchone() or (0,))[0]) for name, statement in COUNTS.items()}


def memory(containers: Mapping[str, Container]) -> dict[str, float]:
    return {f"memory of {name}": container.memory() for name, container in containers.items()}


def connections(db: psycopg.Connection) -> float:
    return float((db.execute(CONNECTIONS).fetchone() or (0,))[0])


def claim_time(url: str, db: psycopg.Connection) -> float:
    """The CPU time of a claim of FIRST due messages, which are given back, divided by that of a fixed statement.

    It is the time of the server's process, which other work on the machine does not make much longer.
    """
    claimed, fixed = 0, 0
    with closing(Store(lambda: url)) as store:
        _claim_and_return(db, store)
        for _ in range(CLAIMS):
            claimed += _claim_and_return(db, store)
            before = _cpu(db)
            db.execute(FIXED)
            fixed += _cpu(db) - before
    return claimed / fixed


def _claim_and_return(db: psycopg.Connection, store: Store) -> int:
    before = _cpu(db)
    rows = db.execute(CLAIM, [FIRST]).fetchall()
    taken = _cpu(db) - before
    store.finish([Report.given_back(Ticket(*row)) for row in rows])
    return taken


def _cpu(db: psycopg.Connection) -> int:
    """The nanoseconds that the server's process of this connection has run."""
    return int(Path(f"/proc/{db.info.backend_pid}/schedstat").read_text().split()[0])


def lines(days: list[dict[str, float]]) -> list[Line]:
    values: dict[str, list[float]] = defaultdict(list)
    for day in days:
        for name, value in day.items():
            values[name].append(value)
    return [_line(name, tuple(each)) for name, each in values.items()]


def _line(name: str, values: tuple[float, ...]) -> Line:
    """The factor by which a line may rise, and a floor of the steps in which it grows."""
    match name.split()[0]:
        case "memory":
            return Line(name, "MiB", values, 1.05)
        case "connections":
            return Line(name, "", values, 1.0, 1.0)
        case "table" | "indexes":
            return Line(name, "MiB", values, 1.3, 0.1)
        case "claim":
            return Line(name, "times a fixed statement", values, 1.2)
        case "SIDs":
            return Line(name, "", values, 1.1)
        case _:
            return Line(name, "", values, 1.1, 10.0)
