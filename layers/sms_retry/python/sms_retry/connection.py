"""One connection to Postgres: made when it is first needed, and again when it is found dead."""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

# How long a write that may be repeated is tried while the database is away: a failover takes this long.
PATIENCE = timedelta(seconds=30)

# A connection that was idle for longer is asked before it is trusted, and has so long to answer (seconds).
IDLE = 60.0
ANSWER = 2.0

# At most so often does a refused password have the secret read again: some outages look like one (seconds).
REREAD = 60.0

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


# After a failover a pooler may lead to what is a standby still.
AWAY = (psycopg.OperationalError, psycopg.errors.ReadOnlySqlTransaction)


class NotLetIn(psycopg.OperationalError):
    """Postgres asked for a password and then did not let us in; the message says what to do."""


class Connection:
    """What statements go through. `conninfo_again` gives what `conninfo` gives, but read anew from where it is kept."""

    def __init__(
        self, conninfo: Callable[[], str], patience: timedelta, conninfo_again: Callable[[], str] | None
    ) -> None:
        self._conninfo = conninfo
        self._conninfo_again = conninfo_again
        self._patience = patience
        self._open: psycopg.Connection | None = None
        # Of the wall clock: the monotonic one may stand still while the container is frozen.
        self._used_at = self._reread_at = 0.0

    def once(self, statement: str, given: Sequence[Any], row: Any = tuple_row) -> list[tuple[Any, ...]]:
        """For what must not be done twice: a connection that is found dead beforehand is replaced, nothing more."""
        if self._open and time.time() - self._used_at > IDLE and not _answers(self._open):
            self.close()
        return self._execute(statement, given, row)

    def again(self, statement: str, given: Sequence[Any], row: Any = tuple_row) -> list[tuple[Any, ...]]:
        """For what may be done twice: repeated while the database is away, but not for longer than its patience."""
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
        """A new connection; a password that is refused may have been rotated, and is read again."""
        try:
            return _connect(self._conninfo())
        except NotLetIn:
            if self._conninfo_again is None or time.time() - self._reread_at < REREAD:
                raise
        self._reread_at = time.time()
        return _connect(self._conninfo_again())


def _connect(conninfo: str) -> psycopg.Connection:
    try:
        return psycopg.connect(conninfo, **CONNECTION)
    except psycopg.OperationalError as error:
        # libpq keeps the SQLSTATE of a refusal to itself, and its words are in the server's language.
        if error.pgconn is None or not error.pgconn.used_password:
            raise
        what_to_do = "if its password is wrong, correct it in the secret of DATABASE_SECRET_ARN, or in DATABASE_URL"
        raise NotLetIn(f"{error}; {what_to_do}") from error


def _was_ended(connection: psycopg.Connection) -> bool:
    """Whether it is closed, or has something to read unasked, as one that the server ended has."""
    return connection.closed or bool(select.select([connection.fileno()], [], [], 0)[0])


def _answers(connection: psycopg.Connection) -> bool:
    """Whether a question is answered in time: a flow that was dropped in silence cannot be told otherwise."""
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
