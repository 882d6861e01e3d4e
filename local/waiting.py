"""Time in tests and demos: every instant in the tables moves into the past; and waiting for a condition."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta

import psycopg
from psycopg import sql

# Of the tables that are in use: most are empty in most tests.
INSTANTS = """
select table_name, array_agg(column_name::text)
from information_schema.columns
where table_schema = 'sms_retry' and data_type = 'timestamp with time zone' and table_name like 'sms\\_%%'
    and pg_relation_size(format('sms_retry.%I', table_name)::regclass) > 0
group by table_name
"""


def let_time_pass(connection: psycopg.Connection, **time: float) -> None:
    """Let `time` pass, given as timedelta's arguments: `let_time_pass(db, minutes=5)`."""
    by = timedelta(**time)
    with connection.transaction():
        for table, columns in connection.execute(INSTANTS).fetchall():
            moved = sql.SQL(", ").join(
                sql.SQL("{0} = {0} - {1}").format(sql.Identifier(column), by) for column in columns
            )
            connection.execute(sql.SQL("update sms_retry.{} set {}").format(sql.Identifier(table), moved))


def wait_until(condition: Callable[[], bool], timeout: float = 60) -> None:
    """Return when the condition is true. AssertionError after `timeout` seconds, enough for a slow machine."""
    give_up = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < give_up, f"the condition was not true within {timeout} seconds"
        time.sleep(0.005)
