"""A clock that only `set` moves, used by Postgres and the Twilio stand-in.

SQL functions, handlers and policy are unchanged. Each SQL function finds another `now()` first on its search path,
and each column default calls it. So the tables hold simulated instants, claims bring these to Python, and Python
returns waits, which SQL counts from the same clock.
Two parts still use the real clock. The worker checks the age of its claim, which is milliseconds here as in reality.
The webhook computes midnight for T-Mobile after a receipt with 30023; here only the answer to a POST has this code.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from unittest.mock import patch

import psycopg
from psycopg import sql

from local.twilio import account as twilio_account

CLOCK = """
create schema virtual_time;
create table virtual_time.clock (at timestamptz not null);
insert into virtual_time.clock values ('-infinity');
create function virtual_time.now() returns timestamptz language plpgsql stable as
$$ begin return (select at from virtual_time.clock); end $$;
"""
FUNCTIONS = r"""
select oid::regprocedure::text from pg_proc
where pronamespace = 'sms_retry'::regnamespace and prosrc ~ '\mnow\(\)'
"""
DEFAULTS = """
select table_name, column_name, replace(column_default, 'now()', 'virtual_time.now()')
from information_schema.columns
where table_schema = 'sms_retry' and column_default like '%now()%'
"""
PATH = "virtual_time, pg_catalog, sms_retry, pg_temp"


def replace_now(db: psycopg.Connection, clock: str) -> None:
    """Make a migrated database without rows read `virtual_time.now()`, which the SQL of `clock` creates."""
    db.execute(clock)
    for (function,) in db.execute(FUNCTIONS).fetchall():
        db.execute(sql.SQL("alter function {} set search_path = {}").format(sql.SQL(function), sql.SQL(PATH)))
    for table, column, default in db.execute(DEFAULTS).fetchall():
        named = sql.Identifier("sms_retry", table), sql.Identifier(column), sql.SQL(default)
        db.execute(sql.SQL("alter table {} alter column {} set default {}").format(*named))


class VirtualClock:
    """Replaces the module `time` in the stand-in; only `set` moves it."""

    strftime, gmtime = staticmethod(time.strftime), staticmethod(time.gmtime)

    def __init__(self, now: datetime) -> None:
        self.now = now
        self._db: psycopg.Connection | None = None

    @contextmanager
    def in_use(self, db: psycopg.Connection) -> Iterator[None]:
        """Make `db`, which is migrated and has no row, and every stand-in use this clock."""
        replace_now(db, CLOCK)
        self._db = db
        self.set(self.now)
        with patch.object(twilio_account, "time", self):
            yield

    def set(self, now: datetime) -> None:
        assert self._db is not None
        self.now = now
        self._db.execute("update virtual_time.clock set at = %s", [now])

    def time(self) -> float:
        return self.now.timestamp()

    monotonic = time
