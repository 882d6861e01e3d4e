"""A real PgBouncer in transaction mode on loopback, for the duration of a `with`.

A shell, the supervisor, owns PgBouncer and its folder. When the shell's standard input closes, it ends PgBouncer and
removes the folder. The system closes it even if this process is killed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

import psycopg

from local.postgres.server import free_port, temporary_folder_for, unprivileged_user

# Debian installs it into /usr/sbin, which is on root's PATH only.
PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin")

# Fewer than clients, so that the clients share them.
SERVER_CONNECTIONS = 2

SUPERVISE = """
cd "$2"
while "$1" --quiet pgbouncer.ini & echo started; read -r _; do kill -s KILL $!; wait $!; done
kill -s KILL $!; wait $!
rm -rf "$2"
"""


@contextmanager
def pgbouncer(database_url: str, **settings: str) -> Iterator[PgBouncer]:
    """A temporary PgBouncer in front of the server of `database_url`; `settings` are added to pgbouncer.ini.

    Raises RuntimeError, with the end of its log, if it does not start, or is not installed.
    """
    if PROGRAM is None:
        raise RuntimeError("PgBouncer is not installed: install Debian's package `pgbouncer`.")
    server, owner, port = urlsplit(database_url), unprivileged_user(), free_port()
    folder = Path(tempfile.mkdtemp(prefix="sms-retry-pgbouncer-", dir=temporary_folder_for(owner)))
    (folder / "users.txt").write_text(f'"{_user(server)}" "{unquote(server.password or "")}"\n')
    (folder / "pgbouncer.ini").write_text(_ini(server, port, settings))
    if owner:
        os.chown(folder, owner["user"], owner["group"])
    command: list[str | Path] = ["sh", "-c", SUPERVISE, "supervise", PROGRAM, folder]
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    # A new session: a Ctrl-C must not end PgBouncer before this process has finished with it.
    with subprocess.Popen(command, **streams, text=True, start_new_session=True, **owner) as supervisor:
        own_url = server._replace(netloc=f"{_user(server)}@127.0.0.1:{port}")
        bouncer = PgBouncer(own_url, folder / "log", supervisor)
        bouncer._wait_until_ready()
        yield bouncer


@dataclass(frozen=True)
class PgBouncer:
    """A running PgBouncer."""

    _url: SplitResult
    _log: Path
    _supervisor: subprocess.Popen[str]

    @property
    def url(self) -> str:
        """The URL, through PgBouncer, of the database that it was started with."""
        return self._url.geturl()

    def to(self, database: str) -> str:
        """The URL of another database of the same server, through PgBouncer."""
        return self._url._replace(path="/" + database).geturl()

    def restart(self) -> None:
        """Kill it, which ends every connection, and return when it is up again on the same port."""
        assert self._supervisor.stdin
        self._supervisor.stdin.write("again\n")
        self._supervisor.stdin.flush()
        self._wait_until_ready()

    def command(self, command: str) -> list[dict[str, Any]]:
        """The answer of PgBouncer's console to a command such as `show pools`."""
        with psycopg.connect(self.to("pgbouncer"), autocommit=True, row_factory=psycopg.rows.dict_row) as console:
            cursor = console.execute(command)  # type: ignore[call-overload]
            return list(cursor) if cursor.description else []

    def _wait_until_ready(self) -> None:
        assert self._supervisor.stdout
        self._supervisor.stdout.readline()
        give_up = time.monotonic() + 10
        while True:
            try:
                self.command("show version")
            except psycopg.OperationalError as error:
                if time.monotonic() > give_up:
                    log = self._log.read_text() if self._log.exists() else ""
                    raise RuntimeError(f"PgBouncer did not start: {log[-500:] or error}") from error
                time.sleep(0.01)
            else:
                return


def _user(server: SplitResult) -> str:
    return server.username or "postgres"


def _ini(server: SplitResult, port: int, settings: dict[str, str]) -> str:
    all_settings = {
        "listen_addr": "127.0.0.1",
        "listen_port": str(port),
        # No socket file: its path in a temporary folder may be too long.
        "unix_socket_dir": "",
        "pool_mode": "transaction",
        "default_pool_size": str(SERVER_CONNECTIONS),
        "max_client_conn": "200",
        "auth_type": "trust",
        "auth_file": "users.txt",
        "admin_users": _user(server),
        "logfile": "log",
        **settings,
    }
    lines = [f"{name} = {value}" for name, value in all_settings.items()]
    target = f"* = host={server.hostname} port={server.port or 5432}"
    return "\n".join(["[databases]", target, "[pgbouncer]", *lines, ""])
