"""One connection to Postgres: opened for the first statement, and opened again once it is found dead."""

from __future__ import annotations

import os
import random
import re
import select
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import psycopg
from psycopg import errors
from psycopg.abc import AdaptContext, Buffer
from psycopg.adapt import Loader
from psycopg.pq import Format, TransactionStatus
from psycopg.rows import tuple_row

# For how long a repeatable statement is repeated while the database is away: a failover takes this long.
PATIENCE = timedelta(seconds=30)

# A connection that was idle for longer must answer a query within ANSWER before it is used (seconds).
IDLE = 60.0
ANSWER = 2.0

# Parameters of the session's start: settings of server, database and role do not outweigh them. RDS Proxy and PgBouncer
# pass them on, while they refuse `options`, and a SET pins RDS Proxy. libpq reads these two from the environment only.
# https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/rds-proxy-connecting.html#rds-proxy-connecting-postgresql
SESSION = {"PGTZ": "UTC", "PGDATESTYLE": "ISO"}

CONNECTION: dict[str, Any] = {
    "autocommit": True,
    "connect_timeout": 5,
    # After a failover the name may lead to the old primary for a while.
    "target_session_attrs": "read-write",
    # Without these a flow that was dropped while the Lambda was frozen hangs for minutes.
    "tcp_user_timeout": 5000,
    "keepalives_idle": 30,
    "application_name": "sms_retry",
}

# Postgres has instants that Python has not: infinity, and the years after 9999 and before 1.
FIRST, LAST = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)

# In these words Postgres refuses a login for another reason than the password, after it asked for the password.
CROWDED = re.compile("too many|connection slots|no more connections|max client", re.IGNORECASE)


class NotConnected(psycopg.OperationalError):
    """No session was opened, so no statement ran."""


class LoginFailed(psycopg.OperationalError):
    """Postgres asked for the password and ended the connection; the message names the place to correct the password."""


# Another transaction was in the way: this one was undone, and its connection still works.
CONFLICT = (errors.SerializationFailure, errors.DeadlockDetected, errors.LockNotAvailable)
# After a failover a pooler may still lead to a standby, which changes nothing. A server ends a session as idle only
# while it has no statement to run.
NOTHING_HAPPENED = (*CONFLICT, NotConnected, errors.ReadOnlySqlTransaction, errors.IdleSessionTimeout)
AWAY = (psycopg.OperationalError, errors.ReadOnlySqlTransaction)


class Unreadable(NamedTuple):
    """A row with a value that Python cannot read: its values as Postgres sent them."""

    values: tuple[bytes | None, ...]
    error: Exception


class Connection:
    """Runs statements. `newer_conninfo` is called after a failed login: a rotated connection string, or None."""

    def __init__(
        self, conninfo: Callable[[], str], patience: timedelta, newer_conninfo: Callable[[], str | None]
    ) -> None:
        self._conninfo = conninfo
        self._newer_conninfo = newer_conninfo
        self._patience = patience
        self._open: psycopg.Connection | None = None
        # By the wall clock: the monotonic clock may stand still while the container is frozen.
        self._used_at = 0.0

    def once(self, statement: str, given: Sequence[Any], row: Any = tuple_row, one_by_one: bool = False) -> list[Any]:
        """Run a statement that must not run twice: it is repeated only after errors that prove that it changed nothing.

        With `one_by_one` a row that cannot be read is returned as Unreadable, beside the others.
        """
        if self._open and time.time() - self._used_at > IDLE and not _answers(self._open):
            self.close()
        return self._repeated(statement, given, row, NOTHING_HAPPENED, one_by_one)

    def again(self, statement: str, given: Sequence[Any], row: Any = tuple_row) -> list[Any]:
        """Run a statement that may run twice: it is repeated while the database is away."""
        return self._repeated(statement, given, row, AWAY)

    def close(self) -> None:
        if self._open:
            self._open.close()
            self._open = None

    def _repeated(
        self,
        statement: str,
        given: Sequence[Any],
        row: Any,
        after: tuple[type[psycopg.Error], ...],
        one_by_one: bool = False,
    ) -> list[Any]:
        """Run the statement, and repeat it after one of these errors, for `patience` at most."""
        give_up = time.monotonic() + self._patience.total_seconds()
        pause = 0.05
        while True:
            try:
                return self._execute(statement, given, row, one_by_one)
            except after as error:
                if not isinstance(error, CONFLICT):
                    self.close()
                if time.monotonic() + pause > give_up:
                    raise
                # Workers that were in each other's way must not meet again.
                time.sleep(pause * random.uniform(0.5, 1))  # noqa: S311
                pause = min(2 * pause, 2.0)

    def _execute(self, statement: str, given: Sequence[Any], row: Any, one_by_one: bool) -> list[Any]:
        if self._open and _was_ended(self._open):
            self.close()
        if self._open is None:
            self._open = self._connect()
        self._used_at = time.time()
        cursor = self._open.cursor(row_factory=row).execute(statement, given)
        return _rows(cursor) if one_by_one else cursor.fetchall()

    def _connect(self) -> psycopg.Connection:
        try:
            return _connect(self._conninfo())
        except LoginFailed:
            if (newer := self._newer_conninfo()) is None:
                raise
        return _connect(newer)


def open_session(conninfo: str, **settings: Any) -> psycopg.Connection:
    """A connection whose settings do not depend on the server, the database or the role. Instants are in UTC."""
    os.environ.update(SESSION)
    # A named statement pins RDS Proxy and is unknown to the next server behind PgBouncer.
    session = psycopg.connect(conninfo, prepare_threshold=None, client_encoding="utf8", **settings)
    style = session.info.parameter_status("DateStyle") or "ISO"
    if not style.startswith("ISO"):
        session.close()
        raise psycopg.OperationalError(
            f"the pooler before the database does not pass on DateStyle, which is {style}:"
            " `alter role … set datestyle = 'ISO'` for the user of the connection"
        )
    session.adapters.register_loader("timestamptz", Instant)
    return session


# psycopg's own, in C where that is installed.
TimestamptzLoader: Any = psycopg.adapters.get_loader(psycopg.adapters.types["timestamptz"].oid, Format.TEXT)


class Instant(Loader):
    """Reads every instant in UTC: a sum or a difference in a zone with daylight saving time can be an hour wrong."""

    def __init__(self, oid: int, context: AdaptContext | None = None) -> None:
        super().__init__(oid, context)
        self._read = TimestamptzLoader(oid, context).load

    def load(self, data: Buffer) -> datetime:
        try:
            at: datetime = self._read(data)
            return at if at.tzinfo is UTC else at.astimezone(UTC)
        except (psycopg.DataError, OverflowError):
            text = bytes(data)
            return FIRST if text.startswith(b"-") or text.endswith(b"BC") else LAST


def _rows(cursor: psycopg.Cursor[Any]) -> list[Any]:
    """All rows, those that cannot be read as Unreadable: the statement has committed."""
    try:
        return cursor.fetchall()
    except Exception:
        return [_row(cursor, n) for n in range(cursor.rowcount)]


def _row(cursor: psycopg.Cursor[Any], n: int) -> Any:
    cursor.scroll(n, mode="absolute")
    try:
        return cursor.fetchone()
    except Exception as error:
        row: Any = cursor.pgresult
        return Unreadable(tuple(row.get_value(n, at) for at in range(row.nfields)), error)


def _connect(conninfo: str) -> psycopg.Connection:
    try:
        return open_session(conninfo, **CONNECTION)
    except psycopg.OperationalError as error:
        # libpq does not pass on the SQLSTATE of a failed login, and its message is in the server's language.
        if error.pgconn is None or not error.pgconn.used_password or CROWDED.search(str(error)):
            raise NotConnected(str(error)) from error
        what_to_do = "if its password is wrong, correct it in the secret of DATABASE_SECRET_ARN, or in DATABASE_URL"
        raise LoginFailed(f"{error}; {what_to_do}") from error


def _was_ended(connection: psycopg.Connection) -> bool:
    """Whether it is closed, or has unexpected data to read, as a connection that the server ended has."""
    return connection.closed or bool(select.select([connection.fileno()], [], [], 0)[0])


def _answers(connection: psycopg.Connection) -> bool:
    """Whether a query is answered in time: only that tells a silently dropped flow from a live one."""
    server, give_up = connection.pgconn, time.monotonic() + ANSWER
    try:
        server.send_query(b"select 1")
        while server.transaction_status == TransactionStatus.ACTIVE:
            if not server.is_busy():
                server.get_result()
            elif select.select([server.socket], [], [], max(0.0, give_up - time.monotonic()))[0]:
                server.consume_input()
            else:
                return False
    except psycopg.OperationalError:
        return False
    return server.transaction_status == TransactionStatus.IDLE
