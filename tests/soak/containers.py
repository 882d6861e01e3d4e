"""Lambda containers in their own processes, so that each can be killed, and its memory read."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from local.aws.container import ROOT
from local.aws.triggers import http_front, load, routes
from local.stack import ENVIRONMENT, TEMPLATE
from tests.chaos.worker import preload, processes

preload(__name__)


class Failed(Exception):
    """The invocation raised an exception, of which this is the name, or its process ended."""


@dataclass
class Container:
    """A process with some functions, which handles one event at a time. `url` is that of a webhook."""

    process: BaseProcess
    pipe: Connection
    url: str = ""
    _busy: threading.Lock = field(default_factory=threading.Lock)

    def invoke(self, function: str, event: object = None) -> Any:
        """Invoke a function and return its answer; the default event is `{}`. Raises Failed."""
        with self._busy:
            try:
                self.pipe.send((function, {} if event is None else event))
                has_answered, answer = self.pipe.recv()
            except (EOFError, OSError):
                raise Failed("the process ended") from None
        if not has_answered:
            raise Failed(answer)
        return answer

    def memory(self) -> float:
        """The resident memory in MiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found, "the process has ended"
        return int(found[1]) / 1024

    def kill(self) -> None:
        self.process.kill()

    def close(self) -> None:
        self.pipe.close()
        with suppress(ValueError):
            self.process.join(10)
            self.process.kill()


def functions(environment: Mapping[str, str], *names: str, root: Path = ROOT) -> Container:
    """A container with these functions of the release in `root`."""
    return _start(_serve, environment, names, root)


def webhook(environment: Mapping[str, str]) -> Container:
    """The HTTP API in front of twilio_webhook."""
    container = _start(_serve_http, environment)
    container.url = container.pipe.recv()
    return container


def _start(target: Any, *arguments: object) -> Container:
    ours, theirs = processes.Pipe()
    process = processes.Process(target=target, args=(theirs, *arguments), daemon=True)
    process.start()
    theirs.close()
    return Container(process, ours)


def _prepare(environment: Mapping[str, str]) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.environ |= ENVIRONMENT | environment


def _serve(pipe: Connection, environment: Mapping[str, str], names: tuple[str, ...], root: Path) -> None:
    _prepare(environment)
    handlers = {name: load(name, root) for name in names}
    with suppress(EOFError, OSError):
        while True:
            function, event = pipe.recv()
            try:
                answer = True, handlers[function](event)
            except Exception as error:
                answer = False, type(error).__name__
            pipe.send(answer)


def _serve_http(pipe: Connection, environment: Mapping[str, str]) -> None:
    _prepare(environment)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    with http_front(routes(TEMPLATE)) as front:
        pipe.send(front.url)
        with suppress(EOFError, OSError):
            pipe.recv()
