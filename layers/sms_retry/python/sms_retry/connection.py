"""One connection to Postgres: opened for the first statement, and opened again once it is found dead."""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

# For how long a repeatable statement is repeated while the database is away: a failover takes this long.
PATIENCE = timedelta(seconds=30)

# A connection that was idle for longer must answer a query within ANSWER before it is used (seconds).
IDLE = 60.0
ANSWER = 2.0

CONNECTION: dict[str, Any] = {
    "autocommit": True,
    # A named statement pins RDS Proxy and is unknown to the next server behind PgBouncer.
    "prepare_threshold": None,
    "connect_timeout": 5,
    # After a failover the name may lead to the old primary for a while.
    "target_session_attrs": "read-write",
    # Without these a flow that was dropped while the Lambda was frozen hangs for minutes.
    "tcp_user_timeout": 5000,
    "keepalives_idle": 30,
    "application_name": "sms_retry",
}


# After a failover a pooler may still lead to a standby.
AWAY = (psycopg.OperationalError, psycopg.errors.ReadOnlySqlTransaction)


class LoginFailed(psycopg.OperationalError):
    """Postgres asked for the password and ended the connection; the message names the place to correct the password."""


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

    def once(self, statement: str, given: Sequence[Any], row: Any = tuple_row) -> list[tuple[Any, ...]]:
        """Run a statement that must not run twice: only a connection that is dead before it is replaced."""
        if self._open and time.time() - self._used_at > IDLE and not _answers(self._open):
            self.close()
        return self._execute(statement, given, row)

    def again(self, statement: str, given: Sequence[Any], row: Any = tuple_row) -> list[tuple[Any, ...]]:
        """Run a statement that may run twice: it is repeated while the database is away, for `patience` at most."""
        give_up = time.monotonic() + self._patience.total_seconds()
        pause = 0.05
        while True:
            try:
                return self._execute(statement, given, row)
            except AWAY:
                self.close()
                if time.monotonic() + pause > give_up:
                    raise
                time.sleep(pause)
                pause = min(2 * pause, 2.0)

    def close(self) -> None:
        if self._open:
            self._open.close()
            self._open = None

    def _execute(self, statement: str, given: Sequence[Any], row: Any) -> list[tuple[Any, ...]]:
        if self._open and _was_ended(self._open):
            self.close()
        if self._open is None:
            self._open = self._connect()
        self._used_at = time.time()
        return self._open.cursor(row_factory=row).execute(statement, given).fetchall()

    def _connect(self) -> psycopg.Connection:
        try:
            return _connect(self._conninfo())
        except LoginFailed:
            if (newer := self._newer_conninfo()) is None:
                raise
        return _connect(newer)


def _connect(conninfo: str) -> psycopg.Connection:
    try:
        return psycopg.connect(conninfo, **CONNECTION)
    except psycopg.OperationalError as error:
        # libpq does not pass on the SQLSTATE of a failed login, and its message is in the server's language.
        if error.pgconn is None or not error.pgconn.used_password:
            raise
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
