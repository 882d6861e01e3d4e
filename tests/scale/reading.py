"""The bytes, dead rows, transactions and CPU of a PostgreSQL, as its own statistics and the system count them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import psutil
import psycopg

from local.waiting import wait_until

SPENT = """
with tables as (
    select c.oid, c.relname from pg_class c
    where c.relnamespace = 'sms_retry'::regnamespace and c.relkind = 'r' and c.relname like 'sms\\_%'
)
select sum(pg_table_size(oid)), sum(pg_indexes_size(oid)), pg_current_wal_insert_lsn() - '0/0',
    sum(s.n_dead_tup), sum(s.n_live_tup), (select xact_commit from pg_stat_database where datname = current_database()),
    pg_snapshot_xmax(pg_current_snapshot())::text::bigint
from tables join pg_stat_user_tables s on s.relid = tables.oid
"""
# In pg_stat_activity a session of ours has this name.
SESSIONS = "select pid from pg_stat_activity where application_name = 'sms_retry'"


@dataclass(frozen=True)
class Spent:
    """Bytes of tables, indexes and write-ahead log; rows, dead or live; transactions, all or writing; CPU seconds."""

    heap: float
    index: float
    wal: float
    dead: float
    live: float
    transactions: float
    writing: float
    cpu: float

    def per(self, before: Spent, messages: int) -> Spent:
        return Spent(*((now - then) / messages for now, then in zip(self.values(), before.values(), strict=True)))

    def values(self) -> list[float]:
        return [getattr(self, each.name) for each in fields(Spent)]


def sessions(db: psycopg.Connection) -> list[int]:
    """The processes of the service's sessions."""
    return [pid for (pid,) in db.execute(SESSIONS).fetchall()]


def spent(db: psycopg.Connection, ended: Sequence[int] = ()) -> Spent:
    """Until now. A session reports its rows when it ends, and the server has its CPU when its process is gone."""
    wait_until(lambda: not any(map(psutil.pid_exists, ended)))
    db.execute("select pg_stat_force_next_flush()")
    db.execute("select pg_stat_clear_snapshot()")
    row = db.execute(SPENT).fetchone()
    assert row
    return Spent(*map(float, row), cpu_seconds(db))


def cpu_seconds(db: psycopg.Connection) -> float:
    """Of all processes of the server, also of those that have ended."""
    server = psutil.Process(db.info.backend_pid).parent()
    assert server
    of_server = server.cpu_times()
    running = [each.cpu_times() for each in (server, *server.children())]
    ended = of_server.children_user + of_server.children_system
    return float(ended + sum(each.user + each.system for each in running))


def private_bytes(pid: int) -> int:
    """The memory that a process shares with no other."""
    return int(psutil.Process(pid).memory_full_info().uss)
