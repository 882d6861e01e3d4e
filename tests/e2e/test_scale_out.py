"""A backlog that one worker cannot send in its time: it calls more, beside itself, through Lambda's own API."""

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
    """Lambda's Invoke, asynchronous: 202 at once, and the function runs in a container of its own."""

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


# What one worker with one message in flight sends in its time.
A_WORKER = int(worker.CLAIMING / worker.USUAL_SEND)


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
    assert [json.loads(call.body) for call in api.calls] == [called] * 2
    assert {call.headers["X-Amz-Invocation-Type"] for call in api.calls} == {"Event"}
    assert {call.path.rpartition("%3A")[2] for call in api.calls} == {"live/invocations"}
    assert statuses(stack) == {"sent": due}
    assert set(stack.twilio.times_accepted().values()) == {1}


@pytest.mark.parametrize(("due", "called"), [(A_WORKER, 0), (A_WORKER + 1, 1), (4 * A_WORKER, 2)])
def test_no_more_are_called_than_the_work_needs_and_the_parameter_allows(
    crowd: Callable[[int, LambdaApi], dict[str, int]], due: int, called: int
) -> None:
    with lambda_api() as api:
        crowd(due, api)
    assert len(api.calls) == called


def test_workers_that_cannot_be_called_leave_the_work_to_the_one_that_is_there(
    stack: Stack, crowd: Callable[[int, LambdaApi], dict[str, int]]
) -> None:
    with lambda_api(status=500) as api:
        assert crowd(A_WORKER + 1, api)["success"] == A_WORKER + 1
    assert len(api.calls) == 1
