"""Celery with its own Redis: a worker with threads, which starts on the queue when it is full."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from shutil import which


def is_installed() -> bool:
    return bool(find_spec("celery") and which("redis-server"))


@contextmanager
def celery(api_url: str, in_flight: int) -> Iterator[Celery]:
    """A worker with `in_flight` threads."""
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as found:
        port = str(found.getsockname()[1])
        found.close()
        os.environ.update(BENCH_REDIS_URL=f"redis://127.0.0.1:{port}/0", BENCH_TWILIO_URL=api_url)
        durable = ["--appendonly", "yes", "--appendfsync", "everysec", "--save", ""]
        server = ["redis-server", "--port", port, "--bind", "127.0.0.1", "--dir", folder, *durable]
        options = ["--pool", "threads", "--concurrency", str(in_flight), "--loglevel", "error", "--without-gossip"]
        worker = [sys.executable, "-m", "celery", "-A", "tests.benchmarks.celery_tasks", "worker", *options]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        with subprocess.Popen(server, **quiet) as redis:
            try:
                time.sleep(0.5)
                with subprocess.Popen([*worker, "-Q", "warm"], **quiet) as running:
                    try:
                        yield Celery(in_flight)
                    finally:
                        running.terminate()
            finally:
                redis.terminate()


class Celery:
    def __init__(self, in_flight: int) -> None:
        # Import again, with the URL of the present Redis.
        sys.modules.pop("tests.benchmarks.celery_tasks", None)
        tasks = import_module("tests.benchmarks.celery_tasks")
        self._app, self._send, self._counter = tasks.app, tasks.send, tasks._counter
        self._in_flight = in_flight
        self._turn = 0
        self._run(self._in_flight, "warm")

    def rate(self, count: int) -> float:
        """Messages a second, counted from the moment at which the worker is given a full queue."""
        self._turn += 1
        queue = f"turn-{self._turn}"
        for n in range(count):
            self._send.apply_async((n,), queue=queue)
        self._counter.delete("done")
        started = time.perf_counter()
        self._app.control.add_consumer(queue)
        self._wait(count)
        return count / (time.perf_counter() - started)

    def _run(self, count: int, queue: str) -> None:
        for n in range(count):
            self._send.apply_async((n,), queue=queue)
        self._wait(count)

    def _wait(self, count: int) -> None:
        give_up = time.monotonic() + 120
        while int(self._counter.get("done") or 0) < count:
            if time.monotonic() > give_up:
                raise TimeoutError("the Celery worker is stuck")
            time.sleep(0.002)
