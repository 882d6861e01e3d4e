"""A backlog that one worker cannot send in its time: it calls more, beside itself, through Lambda's own API."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from sms_retry import resend
from tests.e2e.messages import statuses
from tests.integration.examples import fill
from tests.local.aws import Handler, load
from tests.local.stack import Stack


class LambdaApi(ThreadingHTTPServer):
    """Lambda's Invoke, asynchronous: 202 at once, and the function runs in a container of its own."""

    def __init__(self, status: int = 202) -> None:
        self.status = status
        self.invocations: list[tuple[str, str, dict[str, object]]] = []
        self.containers: list[threading.Thread] = []
        super().__init__(("127.0.0.1", 0), _Invoke)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def start(self, event: dict[str, object]) -> None:
        container = load("process_retries")
        self.containers.append(threading.Thread(target=_run, args=(container, event)))
        self.containers[-1].start()


class _Invoke(BaseHTTPRequestHandler):
    server: LambdaApi

    def do_POST(self) -> None:
        event = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.invocations.append((self.path, self.headers["X-Amz-Invocation-Type"], event))
        if self.server.status == 202:
            self.server.start(event)
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


def _run(container: Handler, event: dict[str, object]) -> None:
    container(event)
    container.close()


@contextmanager
def lambda_api(status: int = 202) -> Iterator[LambdaApi]:
    with LambdaApi(status) as api:
        thread = threading.Thread(target=api.serve_forever)
        thread.start()
        yield api
        for container in api.containers:
            container.join()
        api.shutdown()
        thread.join()


# What one worker with one message in flight sends in its time.
A_WORKER = int(resend.CLAIMING / resend.USUAL_SEND)


@pytest.fixture
def crowd(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Callable[[int, LambdaApi], dict[str, int]]:
    """So many messages are due, and a tick finds them: it has one in flight, and may have three workers in all."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("MAX_WORKERS", "3")
    monkeypatch.setenv("SEND_CONCURRENCY", "1")

    def tick(due: int, api: LambdaApi) -> dict[str, int]:
        fill(stack.db, due)
        monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", api.url)
        container = load("process_retries")
        try:
            answer: dict[str, int] = container({"scheduled_time": "2026-06-01T12:00:00Z"})
        finally:
            container.close()
        return answer

    return tick


def test_a_backlog_calls_as_many_workers_as_it_needs_and_each_message_goes_once(
    stack: Stack, crowd: Callable[[int, LambdaApi], dict[str, int]]
) -> None:
    due = 2 * A_WORKER + 1
    with lambda_api() as api:
        crowd(due, api)

    called = {"scheduled_time": "2026-06-01T12:00:00Z", "called": True}
    assert [(how, event) for _, how, event in api.invocations] == [("Event", called)] * 2
    assert {path.rpartition("%3A")[2] for path, *_ in api.invocations} == {"live/invocations"}
    assert statuses(stack) == {"sent": due}
    assert set(stack.twilio.times_accepted().values()) == {1}


@pytest.mark.parametrize(("due", "called"), [(A_WORKER, 0), (A_WORKER + 1, 1), (4 * A_WORKER, 2)])
def test_no_more_are_called_than_the_work_needs_and_the_parameter_allows(
    crowd: Callable[[int, LambdaApi], dict[str, int]], due: int, called: int
) -> None:
    with lambda_api() as api:
        crowd(due, api)
    assert len(api.invocations) == called


def test_workers_that_cannot_be_called_leave_the_work_to_the_one_that_is_there(
    stack: Stack, crowd: Callable[[int, LambdaApi], dict[str, int]]
) -> None:
    with lambda_api(status=500) as api:
        assert crowd(A_WORKER + 1, api)["success"] == A_WORKER + 1
    assert len(api.invocations) == 1
