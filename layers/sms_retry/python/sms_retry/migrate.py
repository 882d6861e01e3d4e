"""Brings the database up to this release: each migration once, every function each time, in one transaction."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import psycopg
import sqlparse

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

# What this transaction has not written is defined by no file any more.
LEFT_BEHIND = """
select oid::regprocedure::text from pg_proc
where pronamespace = 'sms_retry'::regnamespace and xmin <> pg_current_xact_id()::xid
"""

# What may stand before a statement's first word.
COMMENTS = re.compile(r"\A(?:\s|--[^\n]*|/\*.*?\*/)*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Migrated:
    """The migrations that were new, by name; how many functions are defined; those that were dropped."""

    migrations: tuple[str, ...]
    functions: int
    dropped: tuple[str, ...]


class MigrationError(Exception):
    """A file that Postgres refused; the message names the file, the line and the reason. Nothing was changed."""


def sql_folder() -> Path:
    """The release's SQL, beside the package's folder in the layer as in a checkout."""
    folder = Path(__file__).resolve().parents[2] / "sql"
    if not (folder / "functions").is_dir():
        raise MigrationError(f"no sql folder at {folder}: build the layer again")
    return folder


def migrate(database_url: str, sql: Path | None = None) -> Migrated:
    """Apply `sql` (default: this release's) to the database; two runs at once are one after the other."""
    folder = sql or sql_folder()
    migrations = sorted((folder / "migrations").glob("*.sql"))
    functions = sorted((folder / "functions").rglob("*.sql"), key=lambda path: path.name)
    with psycopg.connect(database_url, prepare_threshold=None, connect_timeout=CONNECT_TIMEOUT) as connection:
        connection.execute("select pg_advisory_xact_lock(%s)", [LOCK])
        # A migration that waits for a lock makes everybody behind it wait too: rather fail, and be deployed again.
        connection.execute("set local lock_timeout = '5s'")
        connection.execute(LEDGER)
        applied = {name for (name,) in connection.execute("select name from sms_retry.schema_migrations")}
        new = [path for path in migrations if path.stem not in applied]
        for path in new:
            _run(connection, path, folder)
            connection.execute("insert into sms_retry.schema_migrations (name) values (%s)", [path.stem])
        # A function may call one that a later file defines, so their bodies are checked only when all are there.
        for checked in ("off", "on"):
            connection.execute(f"set local check_function_bodies = {checked}")
            for path in functions:
                _run(connection, path, folder)
        dropped = [name for (name,) in connection.execute(LEFT_BEHIND)]
        for name in dropped:
            connection.execute(f"drop function {name}")
    return Migrated(tuple(path.stem for path in new), len(functions), tuple(dropped))


def _run(connection: psycopg.Connection, path: Path, folder: Path) -> None:
    """Run a file statement by statement, so that a refusal can be placed even where Postgres gives no position."""
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
