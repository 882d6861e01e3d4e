"""Empties every table of messages and people, as the catalogue lists them: a new table needs no change here.

It also resets the settings of a test's database.
"""

from __future__ import annotations

import psycopg

STATEMENT = """
do $$ begin
    execute (
        select {statement}
        from pg_tables
        where schemaname = 'sms_retry'
            and tablename not in ('schema_migrations', 'sms_calling_codes', 'sms_area_codes'));
end $$
"""
TRUNCATE = "'truncate ' || string_agg(format('%I.%I', schemaname, tablename), ', ') || ' {ids} identity'"
# One statement for all tables: Postgres checks the foreign keys at its end, so the order of the tables does not matter.
DELETE = """
    'with ' || string_agg(format('%1$I as (delete from %2$I.%1$I)', tablename, schemaname), ', ') || ' select'
"""


def truncate_all(db: psycopg.Connection, restart_ids: bool = True) -> None:
    ids = "restart" if restart_ids else "continue"
    db.execute(STATEMENT.format(statement=TRUNCATE.format(ids=ids)))


def delete_all(db: psycopg.Connection) -> None:
    """Many times faster than truncate_all if there are few rows. Ids do not restart, and cached plans stay valid."""
    db.execute(STATEMENT.format(statement=DELETE))


def reset_settings(db: psycopg.Connection) -> None:
    """Only timeouts are set, so that a test that waits for a lock fails instead of hangs."""
    name = db.info.dbname
    db.execute(f'alter database "{name}" reset all')
    for setting in ("lock_timeout = '5s'", "statement_timeout = '20s'"):
        db.execute(f'alter database "{name}" set {setting}')
