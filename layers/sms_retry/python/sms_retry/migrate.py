"""Brings the database to this release, in one transaction: migrations, data, functions, repairs of rows.

Each migration runs once, data and functions run each time. A repair needs the functions. It runs once, and again when a
function of this release was missing: the release before may have written such rows again after a rollback.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg
import sqlparse
from psycopg.sql import SQL, Identifier

# Any number that no other program uses for a lock in this database.
LOCK = 7_236_417_001
# Seconds, for each address of the host. Without a limit three addresses that do not answer outlive the Lambda.
CONNECT_TIMEOUT = 10

LEDGER = """
create schema if not exists sms_retry;
create table if not exists sms_retry.schema_migrations (
    name       text primary key,
    applied_at timestamptz not null default now()
);
"""

# A function that this transaction has not written is defined by no file of the release.
LEFT_BEHIND = """
select oid::regprocedure::text from pg_proc
where pronamespace = 'sms_retry'::regnamespace and xmin <> pg_current_xact_id()::xid
"""

# Each runs with the rights of its owner (security definer), so its caller needs no other right.
APPLICATION_ENTRIES = (
    "queue_sms_retry",
    "queue_sms_retries",
    "cancel_sms_retry",
    "cancel_sms_batch",
    "sms_batch",
    "set_sms_consent",
    "sms_message_state",
    "take_sms_events",
    "done_sms_events",
)
SIGNATURES = """
select oid::regprocedure::text from pg_proc
where pronamespace = 'sms_retry'::regnamespace and proname = any (%s) and prosecdef
"""

RECORD_REPAIR = "insert into sms_retry.schema_migrations (name) values (%s) on conflict do nothing"

DEFINED = "select proname from pg_proc where pronamespace = 'sms_retry'::regnamespace"

# White space and comments before the first word of a statement.
COMMENTS = re.compile(r"\A(?:\s|--[^\n]*|/\*.*?\*/)*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Migrated:
    """The new migrations; the number of functions; the signatures of the dropped functions; the repairs."""

    migrations: tuple[str, ...]
    functions: int
    dropped: tuple[str, ...]
    repairs: tuple[str, ...]


class MigrationError(Exception):
    """An error in a file; the message names the file, the line and the reason. The database is unchanged."""


def sql_folder() -> Path:
    """The SQL of this release: beside the folder of the package, in the layer and in a checkout."""
    folder = Path(__file__).resolve().parents[2] / "sql"
    if not (folder / "functions").is_dir():
        raise MigrationError(f"no sql folder at {folder}: build the layer again")
    return folder


def migrate(
    database_url: str, sql: Path | None = None, roles: Sequence[str] = (), event_types: Sequence[str] = ()
) -> Migrated:
    """Apply `sql` (default: this release's) to the database; a second run at the same time waits for the first.

    `roles` are the applications' roles. `event_types`, if any, are the types of events that are written from now on.
    """
    folder = sql or sql_folder()
    migrations = sorted((folder / "migrations").glob("*.sql"))
    functions = sorted((folder / "functions").rglob("*.sql"), key=lambda path: path.name)
    with psycopg.connect(database_url, prepare_threshold=None, connect_timeout=CONNECT_TIMEOUT) as connection:
        connection.execute("select pg_advisory_xact_lock(%s)", [LOCK])
        # While a migration waits for a lock, all later statements on that table wait too: it fails instead.
        connection.execute("set local lock_timeout = '5s'")
        connection.execute(LEDGER)
        applied = {name for (name,) in connection.execute("select name from sms_retry.schema_migrations")}
        new = [path for path in migrations if path.stem not in applied]
        for path in new:
            _run(connection, path, folder)
            connection.execute("insert into sms_retry.schema_migrations (name) values (%s)", [path.stem])
        for path in sorted((folder / "data").glob("*.sql")):
            _run(connection, path, folder)
        defined = {name for (name,) in connection.execute(DEFINED)}
        # A function may call another that a later file defines, so the bodies are checked once all are defined.
        for checked in ("off", "on"):
            connection.execute(f"set local check_function_bodies = {checked}")
            for path in functions:
                _run(connection, path, folder)
        dropped = [name for (name,) in connection.execute(LEFT_BEHIND)]
        for name in dropped:
            connection.execute(f"drop function {name}")
        was_missing = not {path.stem for path in functions} <= defined
        repairs = {f"repairs/{path.stem}": path for path in sorted((folder / "repairs").glob("*.sql"))}
        repaired = [name for name in repairs if was_missing or name not in applied]
        for name in repaired:
            _run(connection, repairs[name], folder)
            connection.execute(RECORD_REPAIR, [name])
        if "take_sms_events" in {path.stem for path in functions}:
            _allow(connection, roles)
        if event_types:
            connection.execute("select sms_retry.subscribe_sms_events(%s)", [list(event_types)])
    return Migrated(tuple(path.stem for path in new), len(functions), tuple(dropped), tuple(repaired))


def _allow(connection: psycopg.Connection, roles: Sequence[str]) -> None:
    """Let each role call the entries of applications; PUBLIC may call nothing."""
    connection.execute("revoke execute on all functions in schema sms_retry from public")
    entries = [name for (name,) in connection.execute(SIGNATURES, [list(APPLICATION_ENTRIES)])]
    for role in map(Identifier, roles):
        try:
            connection.execute(SQL("grant usage on schema sms_retry to {}").format(role))
        except psycopg.errors.UndefinedObject:
            raise MigrationError(
                f"the role {role.as_string()} of APPLICATION_ROLES does not exist: create it"
            ) from None
        functions = SQL(", ").join(map(SQL, entries))
        connection.execute(SQL("grant execute on function {} to {}").format(functions, role))


def _run(connection: psycopg.Connection, path: Path, folder: Path) -> None:
    """Run a file statement by statement, so that an error has a line even where Postgres gives no position."""
    text = path.read_text()
    start = 0
    for statement in sqlparse.split(text):
        start = text.index(statement, start)
        try:
            connection.execute(statement)
        except psycopg.Error as error:
            first_word = len(statement) - len(COMMENTS.sub("", statement, count=1))
            position = int(error.diag.statement_position or first_word + 1) - 1
            line = text.count("\n", 0, start + position) + 1
            reason = error.diag.message_primary or str(error)
            raise MigrationError(f"{path.relative_to(folder)}, line {line}: {reason}") from error
        start += len(statement)
