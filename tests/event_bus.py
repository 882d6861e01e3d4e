"""A stand-in for EventBridge: the endpoint of boto3's client, over real HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any

ACCESS = {
    "AWS_DEFAULT_REGION": "eu-west-1",
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_MAX_ATTEMPTS": "1",
}


class Bus:
    """It refuses each entry whose number is a multiple of `refuses`, and every call while `is_throttled`."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._lock = Lock()
        self.reset()

    def reset(self, refuses: int = 0) -> None:
        self.refuses = refuses
        self.is_throttled = False
        self.seen = 0
        self.calls: list[int] = []
        self.details: list[dict[str, Any]] = []

    @property
    def environment(self) -> dict[str, str]:
        """The variables with which boto3 uses this bus."""
        return {**ACCESS, "AWS_ENDPOINT_URL_EVENTBRIDGE": self.url}

    def put(self, entries: list[dict[str, Any]]) -> list[dict[str, str]]:
        with self._lock:
            self.calls.append(len(entries))
            return [self._put(entry) for entry in entries]

    def _put(self, entry: dict[str, Any]) -> dict[str, str]:
        self.seen += 1
        if self.refuses and self.seen % self.refuses == 0:
            return {"ErrorCode": "ThrottlingException", "ErrorMessage": "Rate exceeded"}
        assert entry["Source"] == "sms-retry"
        detail = json.loads(entry["Detail"])
        self.details.append({**detail, "detail_type": entry["DetailType"], "bus": entry["EventBusName"]})
        return {"EventId": str(self.seen)}


@contextmanager
def event_bus() -> Iterator[Bus]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            if bus.is_throttled:
                self._answer(400, {"__type": "ThrottlingException"})
            else:
                results = bus.put(asked["Entries"])
                failed = sum("ErrorCode" in result for result in results)
                self._answer(200, {"FailedEntryCount": failed, "Entries": results})

        def _answer(self, status: int, answer: dict[str, Any]) -> None:
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-type", "application/x-amz-json-1.1")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            # The publisher may have been killed meanwhile.
            with suppress(ConnectionError):
                self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        bus = Bus(f"http://127.0.0.1:{server.server_port}")
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield bus
        finally:
            server.shutdown()
