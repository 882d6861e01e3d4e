"""Our tables split by time, over foreign servers, behind PL/Proxy, and by the rules of Citus: what fails, by trying it.

Debian's packages `postgresql-15` and `postgresql-15-plproxy` are needed for the second and the third. Citus is in none
of PyPI, npm and Debian, so that its documented rules are held against the catalogue:
https://docs.citusdata.com/en/stable/develop/reference_ddl.html
https://docs.citusdata.com/en/stable/develop/reference_workarounds.html
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import psycopg

from local.postgres.server import Server, postgres
from sms_retry.migrate import migrate

DEBIAN = Path("/usr/lib/postgresql/15/bin")
CONTROL = Path("/usr/share/postgresql/15/extension")

# Each large table, with the columns by which it could be split: its time, its id, and a key.
TABLES = {
    "sms_messages": ("created_at", "id", "business_id"),
    "sms_retry_queue": ("scheduled_for", "id", "message_id"),
    "sms_attempts": ("at", "queue_id", "queue_id"),
    "sms_delivery_events": ("received_at", None, "message_sid"),
    "sms_usage": ("day", None, "business_id"),
    "sms_outbox": ("at", "id", "business_id"),
}
UNIQUE = """
select i.relname, array_agg(a.attname::text order by a.attnum)
from pg_index x join pg_class t on t.oid = x.indrelid join pg_class i on i.oid = x.indexrelid
join pg_attribute a on a.attrelid = t.oid and a.attnum = any (x.indkey)
where t.relnamespace = 'sms_retry'::regnamespace and x.indisunique and t.relname = any (%s)
group by 1 order by 1
"""
FUNCTIONS = """
select count(*), count(*) filter (where prosrc ~* 'for update' and prosrc !~* 'business_id = ')
from pg_proc where pronamespace = 'sms_retry'::regnamespace
"""
QUEUE = "select sms_retry.queue_sms_retry('+14155550123', 'Hello', message_key => %s, business_id => %s)"


POSSIBLE = "possible"


class Tried(NamedTuple):
    """An attempt to split, and its result: PostgreSQL's own message where it refuses."""

    split: str
    what: str
    result: str


def tried() -> Iterator[Tried]:
    with postgres(durable=False) as server:
        url = server.create_database("sms_retry_split")
        migrate(url)
        with psycopg.connect(url, autocommit=True, options="-c search_path=sms_retry") as db:
            yield from _by_time(db)
            yield from _by_rules_of_citus(db)
    if not (CONTROL / "postgres_fdw.control").exists() or not (CONTROL / "plproxy.control").exists():
        return
    with postgres(DEBIAN, durable=False) as server:
        shards = [server.create_database(f"shard{n}") for n in range(2)]
        for url in shards:
            migrate(url)
        yield from _behind_plproxy(server, shards)
        yield from _over_foreign_servers(server, shards)


def _by_time(db: psycopg.Connection) -> Iterator[Tried]:
    for table, (time, id_, key) in TABLES.items():
        ways = [("range", time), ("range", id_)] if id_ else [("range", time), ("hash", key)]
        found = [f"{column}: {_in_the_way(db, table, way, column)}" for way, column in ways]
        yield Tried("partitions", f"{table} by {ways[0][1]}, or by {ways[1][0]} of {ways[1][1]}", "; ".join(found))
    links = []
    for columns in ("id, created_at", "id"):
        column = columns.split(", ")[-1]
        db.execute(f"create table parts (like sms_messages including defaults) partition by range ({column})")
        db.execute(f"alter table parts add primary key ({columns})")
        links.append(f"{column}: {_result(db, 'create table linked (message_id bigint references parts (id))')}")
        db.execute("drop table if exists linked, parts")
    yield Tried("partitions", "the foreign key to sms_messages by created_at, or by range of id", "; ".join(links))


def _in_the_way(db: psycopg.Connection, table: str, way: str, column: str) -> str:
    """The unique indexes without the column: PostgreSQL refuses the table with them."""
    lacking = [name for name, columns in _unique(db, [table]) if column not in columns]
    result = _result(db, f"create table parts (like {table} including all) partition by {way} ({column})")
    db.execute("drop table if exists parts")
    assert (result == POSSIBLE) == (not lacking), (result, lacking)
    return f"in the way {', '.join(lacking)}" if lacking else POSSIBLE


def _by_rules_of_citus(db: psycopg.Connection) -> Iterator[Tried]:
    """Citus places a row by its distribution column: business_id is the one by which the service can be split."""
    lacking = [each for each in TABLES if not _has_column(db, each, "business_id")]
    yield Tried("Citus", f"tables of {len(TABLES)} without business_id", ", ".join(lacking))
    unique = _unique(db, list(TABLES))
    without = [name for name, columns in unique if "business_id" not in columns]
    yield Tried("Citus", f"unique indexes of {len(unique)} without business_id", ", ".join(without))
    row = db.execute(FUNCTIONS).fetchone()
    assert row
    functions, locking = row
    what = f"functions of {functions} with FOR UPDATE and without a condition on business_id"
    yield Tried("Citus", what, str(locking))


def _over_foreign_servers(server: Server, shards: list[str]) -> Iterator[Tried]:
    """The tables of one database, with their rows in two others: PostgreSQL's own postgres_fdw."""
    url = server.create_database("over_servers")
    migrate(url)
    with psycopg.connect(url, autocommit=True, options="-c search_path=sms_retry -c lock_timeout=500") as db:
        db.execute("create extension postgres_fdw")
        for n, shard in enumerate(shards):
            host, name = urlsplit(shard), urlsplit(shard).path[1:]
            options = f"host '{host.hostname}', port '{host.port}', dbname '{name}', options '-c lock_timeout=500'"
            db.execute(f"create server s{n} foreign data wrapper postgres_fdw options ({options})")
            db.execute(f"create user mapping for public server s{n} options (user 'postgres')")
        for table in ("sms_messages", "sms_retry_queue"):
            _move_to_servers(db, table, TABLES[table][2], len(shards))
        unique = "create unique index on sms_messages (business_id, message_key)"
        yield Tried("postgres_fdw", "the unique key of a message", _result(db, unique))
        queue = QUEUE.replace("%s", "'booking-7'", 1).replace("%s", "'a'", 1)
        yield Tried("postgres_fdw", "queue_sms_retry", _result(db, queue))
        with psycopg.connect(shards[0], autocommit=True) as shard, shard.transaction():
            shard.execute("select id from sms_retry.sms_retry_queue order by id limit 1 for update")
            lock = "select id from sms_retry_queue order by id limit 1 for update skip locked"
            yield Tried("postgres_fdw", "FOR UPDATE SKIP LOCKED beside a locked row", _result(db, lock))


def _move_to_servers(db: psycopg.Connection, table: str, key: str, servers: int) -> None:
    db.execute(f"create table parts (like {table} including defaults) partition by hash ({key})")
    for n in range(servers):
        db.execute(
            f"create foreign table {table}_{n} partition of parts for values with (modulus {servers}, remainder {n})"
            f" server s{n} options (schema_name 'sms_retry', table_name '{table}')"
        )
    db.execute(f"alter table {table} rename to {table}_before")
    db.execute(f"alter table parts rename to {table}")


def _behind_plproxy(server: Server, shards: list[str]) -> Iterator[Tried]:
    """An entry: a database whose queue_sms_retry calls that of the shard of the business."""
    url = server.create_database("entry")
    with psycopg.connect(url, autocommit=True) as entry, psycopg.connect(shards[0]) as first:
        row = first.execute(
            "select pg_get_function_arguments(oid), pg_get_function_result(oid) from pg_proc"
            " where proname = 'queue_sms_retry'"
        ).fetchone()
        assert row
        arguments, result = row
        parts = [
            f"p{n} 'host={host.hostname} port={host.port} user=postgres dbname={host.path[1:]}'"
            for n, host in enumerate(map(urlsplit, shards))
        ]
        entry.execute("create extension plproxy")
        entry.execute("create schema sms_retry")
        entry.execute(f"create server shards foreign data wrapper plproxy options ({', '.join(parts)})")
        entry.execute("create user mapping for public server shards")
        entry.execute(
            f"create function sms_retry.queue_sms_retry({arguments}) returns {result} language plproxy"
            " as $$ cluster 'shards'; run on hashtext(business_id); $$"
        )
        given = [(f"booking-{n}", f"business-{n % 20}") for n in range(100)]
        ids = [entry.execute(QUEUE, each).fetchone() for each in given]
        again = [entry.execute(QUEUE, each).fetchone() for each in given]
        held = [_column(shard, "select distinct business_id from sms_retry.sms_messages") for shard in shards]
        stored = sum(len(_column(shard, "select id from sms_retry.sms_messages")) for shard in shards)
        both = len(set(held[0]) & set(held[1]))
        result = f"{stored} messages stored, {len(held[0])} and {len(held[1])} businesses, {both} on both"
        yield Tried("PL/Proxy", "100 messages of 20 businesses, each queued twice", result)
        yield Tried("PL/Proxy", "the second call", "returns the id of the first" if ids == again else "makes a message")
        yield Tried("PL/Proxy", "the ids of the 100 messages", f"{len(set(ids))} different ids")
        with entry.transaction(force_rollback=True):
            entry.execute(QUEUE, ["rolled back", "business-1"])
        kept = sum(
            len(_column(shard, "select 1 from sms_retry.sms_messages where message_key = 'rolled back'"))
            for shard in shards
        )
        yield Tried("PL/Proxy", "a message queued in a transaction that is rolled back", "stays" if kept else "is gone")


def _column(url: str, statement: str) -> list[object]:
    with psycopg.connect(url, autocommit=True) as db:
        return [value for (value,) in db.execute(statement).fetchall()]  # type: ignore[call-overload]


def _result(db: psycopg.Connection, statement: str) -> str:
    try:
        db.execute(statement)  # type: ignore[call-overload]
    except psycopg.Error as error:
        return f"refused, {error.diag.message_primary}"
    return POSSIBLE


def _unique(db: psycopg.Connection, tables: list[str]) -> list[tuple[str, list[str]]]:
    """The unique indexes of tables, with their columns."""
    return db.execute(UNIQUE, [tables]).fetchall()


def _has_column(db: psycopg.Connection, table: str, column: str) -> bool:
    statement = "select from pg_attribute where attrelid = %s::regclass and attname = %s"
    return db.execute(statement, [table, column]).fetchone() is not None
