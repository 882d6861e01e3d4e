"""Waiting without waiting: every instant in the tables moves back, which is the same as time going by."""

from __future__ import annotations

from datetime import timedelta

import psycopg
from psycopg import sql

INSTANTS = """
select table_name, array_agg(column_name::text)
from information_schema.columns
where table_schema = 'sms_retry' and data_type = 'timestamp with time zone' and table_name like 'sms\\_%%'
group by table_name
"""


def let_time_pass(connection: psycopg.Connection, **time: float) -> None:
    """Let `time` go by, given as timedelta's arguments: `let_time_pass(db, minutes=5)`."""
    by = timedelta(**time)
    with connection.transaction():
        for table, columns in connection.execute(INSTANTS).fetchall():
            moved = sql.SQL(", ").join(
                sql.SQL("{0} = {0} - {1}").format(sql.Identifier(column), by) for column in columns
            )
            connection.execute(sql.SQL("update sms_retry.{} set {}").format(sql.Identifier(table), moved))
