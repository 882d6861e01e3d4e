"""Gathers the facts of the database. Nothing is changed."""

from __future__ import annotations

import select
import time
from contextlib import ExitStack, closing

import psycopg

from sms_retry import migrate
from sms_retry.connection import CONNECTION, open_session
from sms_retry.doctor.database import Database, Pooler, Schema
from sms_retry.doctor.finding import seen
from sms_retry.rights import RUNTIME_ENTRIES

ABOUT = """
select current_database()::text, current_setting('server_version_num')::int, current_setting('server_encoding'),
    current_user::text, rolsuper, has_database_privilege(current_database(), 'create'),
    current_setting('synchronous_commit'), current_setting('fsync')
from pg_roles where rolname = current_user
"""
OWNER = """
select tableowner::text, pg_has_role(tableowner, 'member') from pg_tables
where schemaname = 'sms_retry' and tablename = 'schema_migrations'
"""
# The runtime role needs no table: its functions have the rights of their owner. Where one has not, its caller needs
# them, and a right on a column is enough.
MISSING_RIGHTS = """
with entries as (
    select prosecdef, has_function_privilege(oid, 'execute') may_execute from pg_proc
    where pronamespace = 'sms_retry'::regnamespace and proname = any (%s))
select 'usage on schema sms_retry' where not has_schema_privilege('sms_retry', 'usage')
union all
select format('execute on %%s functions of sms_retry', count(*)) from entries where not may_execute having count(*) > 0
union all
select needed || ' on ' || tablename from pg_tables, unnest(array['select', 'insert', 'update']) needed
where schemaname = 'sms_retry' and tablename in ('sms_messages', 'sms_retry_queue', 'sms_recipients', 'sms_holds')
    and exists (select from entries where not prosecdef)
    and not has_any_column_privilege(format('%%I.%%I', schemaname, tablename), needed)
"""
DEFINED = "select proname::text from pg_proc where pronamespace = to_regnamespace('sms_retry')"
APPLIED = "select name from sms_retry.schema_migrations where name not like 'repairs/%'"
SENDERS = "select sender, account from sms_retry.sms_senders order by sender"

# A pooler that has no server connection left lets a statement wait, for two minutes by default.
ANSWER = 3.0
ROUNDS = ("first", "second", "second", "first") * 3


def look(conninfo: str, wanted: int) -> Database:
    """The facts; `wanted` is the number of connections that the service may hold at a time. psycopg.Error if none."""
    with closing(open_session(conninfo, **CONNECTION)) as session:
        [about] = session.execute(ABOUT)
        name, version, encoding, user, is_superuser, may_create, synchronous_commit, fsync = about
        return Database(
            name=name,
            version=version,
            encoding=encoding,
            user=user,
            is_superuser=is_superuser,
            may_create_schema=may_create,
            synchronous_commit=synchronous_commit,
            fsync=fsync,
            skew=_skew(session),
            schema=seen(lambda: _schema(session)),
            pooler=seen(lambda: _pooler(session, conninfo, wanted)),
        )


def senders(conninfo: str) -> list[tuple[str, str | None]]:
    """The senders of the table, each with the name of its account; `*` is TWILIO_SENDER."""
    with closing(open_session(conninfo, **CONNECTION)) as session:
        return [(sender, account) for sender, account in session.execute(SENDERS)]


def _skew(session: psycopg.Connection) -> float:
    """By the fastest of some answers: a slow one does not look like a wrong clock."""
    answers = []
    for _ in range(5):
        asked = time.time()
        [(at,)] = session.execute("select extract(epoch from clock_timestamp())::float8")
        answered = time.time()
        answers.append((answered - asked, at - (asked + answered) / 2))
    return float(min(answers)[1])


def _schema(session: psycopg.Connection) -> Schema | None:
    owner = session.execute(OWNER).fetchone()
    if owner is None:
        return None
    folder = migrate.sql_folder()
    migrations = {path.stem for path in (folder / "migrations").glob("*.sql")}
    functions = {path.stem for path in (folder / "functions").rglob("*.sql")}
    missing = tuple(right for (right,) in session.execute(MISSING_RIGHTS, [list(RUNTIME_ENTRIES)]))
    defined = {name for (name,) in session.execute(DEFINED)}
    applied = {name for (name,) in session.execute(APPLIED)}
    return Schema(
        owner=owner[0],
        is_owner=owner[1],
        missing_rights=missing,
        missing_migrations=tuple(sorted(migrations - applied)),
        later_migrations=tuple(sorted(applied - migrations)),
        missing_functions=tuple(f"{name}()" for name in sorted(functions - defined)),
    )


def _pooler(session: psycopg.Connection, conninfo: str, wanted: int) -> Pooler:
    """A pooler gives its clients a key of its own in place of the server's process id. In transaction mode it moves
    statements between server connections, and in session mode each client keeps one.
    """
    if _backend(session) == session.info.backend_pid:
        return Pooler("none")
    with ExitStack() as opened:

        def another() -> psycopg.Connection:
            return opened.enter_context(closing(open_session(conninfo, **CONNECTION)))

        clients = {"first": session, "second": another()}
        used: dict[str, set[int | None]] = {"first": set(), "second": set()}
        for client in ROUNDS:
            used[client].add(_backend(clients[client]))
            if None in used[client]:
                break
        if None not in used["second"] and (len(used["first"]) > 1 or used["first"] & used["second"]):
            return Pooler("transaction")
        served = 1 + (None not in used["second"])
        while served < wanted and None not in used["second"] and _backend(another()):
            served += 1
        return Pooler("session", served, wanted)


def _backend(session: psycopg.Connection) -> int | None:
    """The process id of the server that answers; None without an answer in time."""
    wire, give_up = session.pgconn, time.monotonic() + ANSWER
    wire.send_query(b"select pg_backend_pid()")
    while wire.is_busy():
        if not select.select([wire.socket], [], [], max(0.0, give_up - time.monotonic()))[0]:
            return None
        wire.consume_input()
    result = wire.get_result()
    while wire.get_result():
        pass
    value = result.get_value(0, 0) if result and result.ntuples else None
    return int(value) if value else None
