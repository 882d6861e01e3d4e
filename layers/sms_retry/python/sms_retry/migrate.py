"""Brings the database to this release, in one transaction: migrations, data, functions, repairs of rows.

Each migration runs once, data and functions run each time. A repair needs the functions. It runs once, and again after
the deploy of a release that does not know it, which may have written such rows again. Repairs of many rows run later:
the tables are locked until the transaction ends, and traffic waits.

The migrator is a guest. It creates only objects that are missing, and drops only functions of earlier releases.
"""

from __future__ import annotations

import contextlib
import functools
import random
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg
import sqlparse
from psycopg import errors, sql

from sms_retry import rights
from sms_retry.connection import CONFLICT, open_session

# Any number that no other program uses for a lock in this database.
LOCK = 7_236_417_001
# Seconds, for each address of the host. Without a limit three addresses that do not answer outlive the Lambda.
CONNECT_TIMEOUT = 10
# After a deadlock or a lock timeout the transaction is repeated, for so long (seconds).
PATIENCE = 120.0

# Traffic locks the tables in this order. A migration that needs several of them locks them first, in the same order.
TRAFFIC = ("sms_retry_queue", "sms_messages", "sms_attempts", "sms_recipients", "sms_holds", "sms_delivery_events")

# While a migration waits for a lock, all later statements on that table wait too: then it lets them pass, and begins
# again.
LOCK_TIMEOUT = "5s"

# Seconds for the later repairs, and the messages that one statement repairs. The next run repeats what is not done.
LATER, PART = 120.0, 50_000

# Until the end of the transaction. The files mean the same under all other settings of the role.
SETTINGS = """
select set_config(own.name, own.value, true)
from (values ('statement_timeout', '0'), ('transaction_timeout', '0'), ('idle_in_transaction_session_timeout', '0'),
    ('lock_timeout', '0'), ('standard_conforming_strings', 'on'), ('quote_all_identifiers', 'off'),
    ('search_path', 'pg_catalog')) own (name, value)
where exists (select from pg_settings where pg_settings.name = own.name)
"""

ABOUT = """
select current_user::text, current_database()::text, current_setting('server_encoding'),
    exists (select from pg_namespace where nspname = 'sms_retry'),
    (select tableowner::text from pg_tables where schemaname = 'sms_retry' and tablename = 'schema_migrations')
"""

LEDGER = """
create table sms_retry.schema_migrations (
    name       text primary key,
    applied_at timestamptz not null default now()
)
"""

# A function that this transaction has not written is defined by no file of the release.
LEFT_BEHIND = """
select oid::regprocedure::text, proname::text from pg_proc
where pronamespace = 'sms_retry'::regnamespace and prokind = 'f' and xmin <> pg_current_xact_id()::xid
order by 1
"""

RECORD = "insert into sms_retry.schema_migrations (name) values (%s) on conflict do nothing"

# Repairs of a later release, which was rolled back. Release 0.1 does not forget them, but drops their functions.
FORGET = "delete from sms_retry.schema_migrations where starts_with(name, 'repairs/') and name <> all (%s)"

DEFINED = "select proname from pg_proc where pronamespace = 'sms_retry'::regnamespace"

# White space and comments before the first word of a statement.
COMMENTS = re.compile(r"\A(?:\s|--[^\n]*|/\*.*?\*/)*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Migrated:
    """The new migrations; the number of functions; the signatures of the dropped functions; the finished repairs."""

    migrations: tuple[str, ...]
    functions: int
    dropped: tuple[str, ...]
    repairs: tuple[str, ...]


class MigrationError(Exception):
    """The message names the file, the line and the reason, or the missing right. The database is unchanged."""


def sql_folder() -> Path:
    """The SQL of this release: beside the folder of the package, in the layer and in a checkout."""
    folder = Path(__file__).resolve().parents[2] / "sql"
    if not (folder / "functions").is_dir():
        raise MigrationError(f"no sql folder at {folder}: build the layer again")
    return folder


def migrate(
    database_url: str,
    release: Path | None = None,
    roles: Sequence[str] = (),
    event_types: Sequence[str] = (),
    runtime_role: str | None = None,
) -> Migrated:
    """Apply the SQL of a folder (default: this release's); a second run at the same time waits for the first.

    `roles` are the applications' roles. `runtime_role` is the role of all other functions, if they are not the owner.
    `event_types`, if any, are the types of events that are written from now on.
    """
    folder, give_up = release or sql_folder(), time.monotonic() + PATIENCE
    while True:
        try:
            with open_session(database_url, connect_timeout=CONNECT_TIMEOUT) as connection:
                # A snapshot of the whole transaction would not have the rows of the run that this one waited for.
                connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
                migrated, later = _migrate(connection, folder)
                # Release 0.1 has no room `events`, and no roles.
                if (folder / "functions" / "events").is_dir():
                    rights.grant(connection, roles, runtime_role)
                    if event_types:
                        connection.execute("select sms_retry.subscribe_sms_events(%s)", [list(event_types)])
            done = _repair_later(database_url, folder, later)
            return replace(migrated, repairs=migrated.repairs + done)
        except rights.WrongRole as error:
            raise MigrationError(str(error)) from error
        except (MigrationError, *CONFLICT) as error:
            in_the_way = isinstance(error, CONFLICT) or isinstance(error.__cause__, CONFLICT)
            if not in_the_way or time.monotonic() > give_up:
                raise
            # The statements that waited for this transaction go on in the pause.
            time.sleep(random.uniform(0.2, 1))  # noqa: S311


def role_of(database_url: str) -> str:
    """The role of a login. The name of a login at a pooler may be another one, so the database is asked."""
    with open_session(database_url, connect_timeout=CONNECT_TIMEOUT) as connection:
        [(role,)] = connection.execute("select current_user::text").fetchall()
    return str(role)


def _migrate(connection: psycopg.Connection, folder: Path) -> tuple[Migrated, list[str]]:
    """All that one transaction does, and the names of the repairs to run after it."""
    functions = sorted((folder / "functions").rglob("*.sql"), key=lambda path: path.name)
    connection.execute(SETTINGS)
    connection.execute("select pg_advisory_xact_lock(%s)", [LOCK])
    connection.execute("select set_config('lock_timeout', %s, true)", [LOCK_TIMEOUT])
    _enter(connection)
    applied = {name for (name,) in connection.execute("select name from sms_retry.schema_migrations")}
    new = [path for path in sorted((folder / "migrations").glob("*.sql")) if path.stem not in applied]
    _lock(connection, new)
    for path in new:
        _run(connection, path, folder)
        connection.execute(RECORD, [path.stem])
    for path in sorted((folder / "data").glob("*.sql")):
        _run(connection, path, folder)
    defined = {name for (name,) in connection.execute(DEFINED)}
    # A function may call another that a later file defines, so the bodies are checked once all are defined.
    for checked in ("off", "on"):
        connection.execute(f"set local check_function_bodies = {checked}")
        for path in functions:
            _run(connection, path, folder)
    names = {path.stem for path in functions}
    dropped = _drop(connection, names, folder)
    repairs, later = _repairs(folder / "repairs"), _repairs(folder / "repairs" / "later")
    due = [name for name in (*repairs, *later) if not names <= defined or name not in applied]
    connection.execute(FORGET, [[name for name in (*repairs, *later) if name not in due]])
    repaired = [name for name in due if name in repairs]
    for name in repaired:
        _run(connection, repairs[name], folder)
        connection.execute(RECORD, [name])
    migrated = Migrated(tuple(path.stem for path in new), len(functions), tuple(dropped), tuple(repaired))
    return migrated, [name for name in due if name in later]


def _repairs(folder: Path) -> dict[str, Path]:
    return {f"repairs/{path.stem}": path for path in sorted(folder.glob("*.sql"))}


def _repair_later(database_url: str, folder: Path, names: Sequence[str]) -> tuple[str, ...]:
    """Run these repairs beside the traffic, for the newest messages first; the names of those that are done."""
    if not names:
        return ()
    done, give_up = [], time.monotonic() + LATER
    later = _repairs(folder / "repairs" / "later")
    with open_session(database_url, connect_timeout=CONNECT_TIMEOUT) as connection:
        connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        with connection.transaction():
            _enter(connection)
            [(newest,)] = connection.execute("select coalesce(max(id), 0) from sms_retry.sms_messages").fetchall()
        for name in names:
            text = later[name].read_text()
            if all(_repair_part(connection, text, upto, give_up) for upto in range(newest, 0, -PART)):
                with connection.transaction():
                    _enter(connection)
                    connection.execute(RECORD, [name])
                done.append(name)
    return tuple(done)


def _repair_part(connection: psycopg.Connection, text: str, upto: int, give_up: float) -> bool:
    """Run a repair for the messages with ids up to `upto`; false if the time is over."""
    while time.monotonic() < give_up:
        with contextlib.suppress(*CONFLICT), connection.transaction():
            connection.execute(SETTINGS)
            connection.execute("select set_config('lock_timeout', %s, true)", [LOCK_TIMEOUT])
            _enter(connection)
            connection.execute(text, {"after": upto - PART, "upto": upto})
            return True
    return False


def _enter(connection: psycopg.Connection) -> None:
    """Make sure of the schema and its ledger, as the owner of the tables."""
    [(user, database, encoding, has_schema, owner)] = connection.execute(ABOUT).fetchall()
    if encoding != "UTF8":
        raise MigrationError(
            f"the database {database} has the encoding {encoding}, and texts need UTF8: create a database with"
            " `encoding 'UTF8' template template0`"
        )
    try:
        if not has_schema:
            connection.execute("create schema sms_retry")
        if owner is None:
            connection.execute(LEDGER)
        elif owner != user:
            # Every object keeps one owner, whichever of its logins migrates.
            connection.execute(sql.SQL("set local role {}").format(sql.Identifier(owner)))
    except errors.InsufficientPrivilege as error:
        wanted = f"`create schema sms_retry authorization {user}`, or `grant create on database {database} to {user}`"
        if owner is not None:
            wanted = f"its tables belong to {owner}: sign in as {owner}, or `grant {owner} to {user}`"
        elif has_schema:
            wanted = f"`grant create, usage on schema sms_retry to {user}`"
        raise MigrationError(f"{user} may not migrate the schema sms_retry: {wanted}") from error


def _lock(connection: psycopg.Connection, new: Sequence[Path]) -> None:
    """Lock the tables that traffic uses, if new migrations name several: one after the other they would deadlock."""
    text = " ".join(path.read_text() for path in new)
    exists = "select to_regclass('sms_retry.' || %s) is not null"
    named = [name for name in TRAFFIC if name in text and connection.execute(exists, [name]).fetchone() == (True,)]
    if len(named) > 1:
        connection.execute(f"lock table {', '.join(f'sms_retry.{name}' for name in named)} in access exclusive mode")


def _drop(connection: psycopg.Connection, names: set[str], folder: Path) -> list[str]:
    """Drop functions of earlier releases that the release before this one no longer had; the signatures.

    A function that this release defines with more arguments replaces its former self: both together are ambiguous.
    """
    releases = sorted((folder / "releases").glob("*.txt"), key=lambda path: [int(n) for n in path.stem.split(".")])
    known = [set(path.read_text().split("\n")) for path in releases]
    dropped = []
    for signature, name in connection.execute(LEFT_BEHIND).fetchall():
        replaced = name in names
        if not any(signature in release for release in known) or (signature in known[-1] and not replaced):
            continue
        try:
            with connection.transaction():
                connection.execute(f"drop function {signature}")
        except errors.DependentObjectsStillExist as error:
            if replaced:
                raise MigrationError(
                    f"{signature} has new arguments; drop first: {error.diag.message_detail}"
                ) from error
            continue
        dropped.append(signature)
    return dropped


def _run(connection: psycopg.Connection, path: Path, folder: Path) -> None:
    """Run a file statement by statement, so that an error has a line even where Postgres gives no position."""
    text = path.read_text()
    start = 0
    for statement in _statements(text):
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


@functools.cache
def _statements(text: str) -> tuple[str, ...]:
    """The statements of a file, which is split once and run twice."""
    return tuple(sqlparse.split(text))
