"""A backlog too large for one worker: it calls more workers through Lambda's API."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from local.aws.triggers import load
from local.stack import Stack
from sms_retry import worker
from tests.e2e.listener import Heard, listener
from tests.e2e.messages import statuses
from tests.integration.examples import fill


@dataclass
class LambdaApi:
    """Lambda's asynchronous Invoke: it answers 202 at once, and the function runs in a new container."""

    status: int = 202
    url: str = ""
    calls: list[Heard] = field(default_factory=list)
    containers: list[threading.Thread] = field(default_factory=list)

    def __call__(self, call: Heard) -> int:
        self.calls.append(call)
        if self.status == 202:
            self.containers.append(threading.Thread(target=_run, args=(json.loads(call.body),)))
            self.containers[-1].start()
        return self.status


def _run(event: dict[str, object]) -> None:
    container = load("process_retries")
    container(event)
    container.close()


@contextmanager
def lambda_api(status: int = 202) -> Iterator[LambdaApi]:
    api = LambdaApi(status)
    with listener(api) as heard:
        api.url = heard.url
        yield api
        for container in api.containers:
            container.join()


# The number of messages that one worker with one POST in flight sends.
ONE_WORKER = int(worker.CLAIMING / worker.USUAL_SEND)


@pytest.fixture
def backlog(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Callable[[int, LambdaApi], dict[str, int]]:
    """Runs a tick with `due` messages, one POST in flight per worker, and at most three workers."""
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


def test_a_backlog_calls_the_workers_that_it_needs_and_each_message_is_sent_once(
    stack: Stack, backlog: Callable[[int, LambdaApi], dict[str, int]]
) -> None:
    due = 2 * ONE_WORKER + 1
    with lambda_api() as api:
        backlog(due, api)

    called = {"scheduled_time": "2026-06-01T12:00:00Z", "called": True}
    assert [json.loads(call.body) for call in api.calls] == [called] * 2
    assert {call.headers["X-Amz-Invocation-Type"] for call in api.calls} == {"Event"}
    assert {call.path.rpartition("%3A")[2] for call in api.calls} == {"live/invocations"}
    assert statuses(stack) == {"sent": due}
    assert set(stack.twilio.times_accepted().values()) == {1}


@pytest.mark.parametrize(("due", "called"), [(ONE_WORKER, 0), (ONE_WORKER + 1, 1), (4 * ONE_WORKER, 2)])
def test_no_more_workers_are_called_than_needed_or_allowed(
    backlog: Callable[[int, LambdaApi], dict[str, int]], due: int, called: int
) -> None:
    with lambda_api() as api:
        backlog(due, api)
    assert len(api.calls) == called


def test_a_worker_that_cannot_call_others_sends_the_backlog_itself(
    stack: Stack, backlog: Callable[[int, LambdaApi], dict[str, int]]
) -> None:
    with lambda_api(status=500) as api:
        assert backlog(ONE_WORKER + 1, api)["success"] == ONE_WORKER + 1
    assert len(api.calls) == 1
