"""Empties every table of messages and people, as the catalogue lists them: a new table needs no change here.

It also resets the settings of a test's database.
"""

from __future__ import annotations

import psycopg

TABLES = """
select oid, relname from pg_class
where relnamespace = 'sms_retry'::regnamespace and relkind = 'r'
    and relname not in ('schema_migrations', 'sms_calling_codes', 'sms_area_codes')
"""
# Only the tables that a test has used: each table that is truncated costs a millisecond.
TRUNCATE = f"""
do $$ declare
    used text := (select string_agg('sms_retry.' || relname, ', ') from ({TABLES}) t where pg_relation_size(oid) > 0);
begin
    if used is not null then
        execute 'truncate ' || used || ' cascade';
    end if;
end $$
"""
RESTART = """
select setval(format('%I.%I', schemaname, sequencename)::regclass, 1, false)
from pg_sequences where schemaname = 'sms_retry' and last_value is not null
"""
# One statement for all tables: Postgres checks the foreign keys at its end, so the order of the tables does not matter.
DELETE = f"""
do $$ begin
    execute (select 'with ' || string_agg(format('%1$I as (delete from sms_retry.%1$I)', relname), ', ') || ' select'
        from ({TABLES}) t);
end $$
"""


def truncate_all(db: psycopg.Connection, restart_ids: bool = True) -> None:
    db.execute(TRUNCATE)
    if restart_ids:
        db.execute(RESTART)


def delete_all(db: psycopg.Connection) -> None:
    """Many times faster than truncate_all if there are few rows. Ids do not restart, and cached plans stay valid."""
    db.execute(DELETE)


def reset_settings(db: psycopg.Connection) -> None:
    """Only timeouts are set, so that a test that waits for a lock fails instead of hangs."""
    name = db.info.dbname
    db.execute(f'alter database "{name}" reset all')
    for setting in ("lock_timeout = '5s'", "statement_timeout = '20s'"):
        db.execute(f'alter database "{name}" set {setting}')
