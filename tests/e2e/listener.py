"""A server on loopback that records the requests of a handler to AWS."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Heard:
    """One request with its whole body."""

    method: str
    path: str
    headers: Message
    body: bytes


@dataclass(frozen=True)
class Listener:
    url: str
    heard: list[Heard] = field(default_factory=list)


@contextmanager
def listener(answer: Callable[[Heard], int] = lambda _: 200) -> Iterator[Listener]:
    """A server that answers each request with the status from `answer` and an empty body."""

    class Handler(BaseHTTPRequestHandler):
        def _hear(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            heard = Heard(self.command, self.path, self.headers, body)
            found.heard.append(heard)
            self.send_response(answer(heard))
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_POST = do_PUT = _hear

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found = Listener(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield found
        finally:
            server.shutdown()
            thread.join()
