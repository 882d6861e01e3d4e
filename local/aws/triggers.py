"""The AWS services that invoke our handlers: the HTTP API in front of the webhook, and the scheduler's clock.

`load` is defined in `container`; `routes`, `schedules` and `timeout` are defined in `template`.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import re
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from aiohttp import web
from multidict import CIMultiDict

from local.aws.container import ACCOUNT, REGION, ROOT, Handler, load
from local.aws.template import Schedule, routes, schedules, timeout

__all__ = [
    "Clock",
    "Front",
    "Handler",
    "Schedule",
    "http_api_event",
    "http_front",
    "load",
    "routes",
    "schedules",
    "timeout",
]

API_ID = "a1b2c3d4e5"
API_HOST = f"{API_ID}.execute-api.{REGION}.amazonaws.com"
# A function URL: https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html
URL_ID = "b2c3d4e5f6a7b8c9d0e1f2a3b4c5d6e7"
URL_HOST = f"{URL_ID}.lambda-url.{REGION}.on.aws"
CALLER = "54.172.60.1"
TEXT = re.compile(r"text/.*|application/(json|javascript|xml)")
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
MINUTES = {"minute": 1, "hour": 60, "day": 24 * 60}
T = TypeVar("T")
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Front:
    """A running HTTP API. `url` has no path and no trailing slash."""

    url: str


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = (("content-type", "application/json"),)


NOT_FOUND = Answer(404, b'{"message":"Not Found"}')
OTHER_HOST = Answer(421, b'{"message":"The console answers to localhost and 127.0.0.1 only."}')
LOOPBACK = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:\d+)?")
FAILED = Answer(500, b'{"message":"Internal Server Error"}')


@contextmanager
def http_front(
    routes: Mapping[str, str],
    port: int = 0,
    containers: int = 4,
    root: Path = ROOT,
    stage: Mapping[str, str] | None = None,
    session: Callable[[], str] | None = None,
    is_console: bool = False,
    is_function_url: bool = False,
) -> Iterator[Front]:
    """The HTTP API on loopback; `routes` are `{"POST /twilio/status": "twilio_webhook"}`.

    `containers` is the maximum for each function: a request starts one if none is free, and waits at the maximum.
    If a function raises, the answer is 500 as on AWS, and its exception is logged. `stage` are the variables of the
    API's stage. The console answers to the names of loopback only: with another name, a page of another site could read
    it (DNS rebinding). With `session` a browser without the console's session gets this one. A function URL is an API
    with the one route `$default` and without a stage: its host and its id are in each event.
    """
    with ExitStack() as stack:
        functions = {name: stack.enter_context(_containers(name, containers, root)) for name in set(routes.values())}

        async def answer(request: web.BaseRequest) -> web.Response:
            path, _, query = request.raw_path.partition("?")
            route = f"{request.method} {path}"
            route = route if route in routes else "$default"
            if route not in routes:
                return _response(NOT_FOUND)
            headers = [(name.decode(), value.decode("latin-1")) for name, value in request.raw_headers]
            event = http_api_event(request.method, path, query, headers, await request.read())
            event["routeKey"] = event["requestContext"]["routeKey"] = route
            if is_function_url:
                event["requestContext"] |= {"apiId": URL_ID, "domainName": URL_HOST, "domainPrefix": URL_ID}
                event["headers"]["host"] = URL_HOST
            if stage:
                event["stageVariables"] = dict(stage)
            if is_console:
                if not LOOPBACK.fullmatch(request.host):
                    return _response(OTHER_HOST)
                event["stageVariables"] = {"CONSOLE_URL": f"http://{request.host}"}
                # Some browsers do not store a Secure cookie that loopback sets.
                event["headers"]["x-forwarded-proto"] = "http"
                if session and not any(each.startswith("session=") for each in event.get("cookies", ())):
                    event["cookies"] = [*event.get("cookies", ()), f"session={session()}"]
            return _response(await asyncio.wrap_future(functions[routes[route]](event)))

        yield Front(stack.enter_context(_serving(answer, port)))


def http_api_event(
    method: str,
    path: str,
    query: str,
    headers: Mapping[str, str] | Iterable[tuple[str, str]],
    body: bytes,
) -> dict[str, Any]:
    """The event of API Gateway's HTTP API, payload 2.0; `query` is raw, without its question mark.

    The host is the API's own, as behind a custom domain: the handlers must not rely on it.
    """
    pairs = list(headers.items() if isinstance(headers, Mapping) else headers)
    cookies = [each for name, value in pairs if name.lower() == "cookie" for each in value.split("; ")]
    sent = _joined((name.lower(), value) for name, value in pairs if name.lower() != "cookie")
    sent |= {
        "host": API_HOST,
        "x-forwarded-for": CALLER,
        "x-forwarded-port": "443",
        "x-forwarded-proto": "https",
    }
    is_text = TEXT.fullmatch(sent.get("content-type", "").partition(";")[0].strip().lower()) is not None
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": f"{method} {path}",
        "rawPath": path,
        "rawQueryString": query,
        "headers": dict(sorted(sent.items())),
        "requestContext": _request_context(method, path, sent.get("user-agent", "")),
        "isBase64Encoded": bool(body) and not is_text,
    }
    if cookies:
        event["cookies"] = cookies
    if query:
        event["queryStringParameters"] = _joined(parse_qsl(query, keep_blank_values=True))
    if body:
        event["body"] = body.decode(errors="replace") if is_text else base64.b64encode(body).decode()
    return event


@dataclass
class Clock:
    """Invokes each function at the times of its schedule: at once with `advance`, in real time within `running`.

    `invoke` takes a function and the scheduler's event. `before_each_minute` makes the rows a minute older.
    """

    schedules: Mapping[str, Schedule]
    invoke: Callable[[str, dict[str, Any]], object]
    before_each_minute: Callable[[], object] = lambda: None
    now: datetime = NOON
    _minutes: int = 0

    def __post_init__(self) -> None:
        for schedule in self.schedules.values():
            _is_due(schedule.expression, 0, self.now)

    def advance(self, minutes: int = 1) -> list[tuple[str, object]]:
        """Let so many minutes pass; returns each invoked function with its answer, in order."""
        return [(function, self.invoke(function, event)) for _ in range(minutes) for function, event in self._tick()]

    @contextmanager
    def running(self, seconds_a_minute: float = 60) -> Iterator[None]:
        """Run at the speed of the wall clock until the `with` ends, and then wait for running invocations."""
        self.now = datetime.now(UTC).replace(second=0, microsecond=0)
        stop = threading.Event()
        with ThreadPoolExecutor(len(self.schedules), "clock") as pool:
            thread = threading.Thread(target=self._run, args=(stop, seconds_a_minute, pool))
            thread.start()
            try:
                yield
            finally:
                stop.set()
                thread.join()

    def _run(self, stop: threading.Event, seconds_a_minute: float, pool: ThreadPoolExecutor) -> None:
        next_minute = time.monotonic() + seconds_a_minute
        while not stop.wait(max(0.0, next_minute - time.monotonic())):
            next_minute += seconds_a_minute
            for function, event in self._tick():
                pool.submit(_logged, function, self.invoke, function, event)

    def _tick(self) -> Iterator[tuple[str, dict[str, Any]]]:
        self.before_each_minute()
        self.now += timedelta(minutes=1)
        self._minutes += 1
        for function, schedule in self.schedules.items():
            if _is_due(schedule.expression, self._minutes, self.now):
                yield function, _scheduler_event(schedule, function, self.now)


@contextmanager
def _serving(answer: Callable[[web.BaseRequest], Awaitable[web.Response]], port: int) -> Iterator[str]:
    started: Future[tuple[str, Callable[[], object]]] = Future()

    async def serve() -> None:
        runner = web.ServerRunner(web.Server(answer, access_log=None), shutdown_timeout=1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", port).start()
            stop, loop = asyncio.Event(), asyncio.get_running_loop()
            url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            started.set_result((url, lambda: loop.call_soon_threadsafe(stop.set)))
            await stop.wait()
        except OSError as error:
            started.set_exception(error)
        finally:
            await runner.cleanup()

    thread = threading.Thread(target=asyncio.run, args=(serve(),), name="http-api")
    thread.start()
    try:
        url, stop = started.result()
        try:
            yield url
        finally:
            stop()
    finally:
        thread.join()


@contextmanager
def _containers(function: str, most: int, root: Path) -> Iterator[Callable[[object], Future[Answer]]]:
    """One thread for each container; the pool starts a thread if none is free."""
    own, handlers = threading.local(), []

    def handle(event: object) -> Answer:
        if not hasattr(own, "handler"):
            own.handler = load(function, root)
            handlers.append(own.handler)
        return _answer(own.handler(event))

    def call(event: object) -> Answer:
        return _logged(function, handle, event) or FAILED

    try:
        with ThreadPoolExecutor(most, function) as pool:
            yield lambda event: pool.submit(call, event)
    finally:
        for handler in handlers:
            handler.close()


def _logged(function: str, call: Callable[..., T], *arguments: object) -> T | None:
    """The result of the call; if it raises, None and a line in the log, because AWS continues after an exception."""
    try:
        return call(*arguments)
    except Exception:
        logger.exception("%s raised", function)
        return None


def _answer(returned: Any) -> Answer:
    """The response that API Gateway makes from a function's answer. Raises an exception if it would answer 500."""
    if not isinstance(returned, dict) or "statusCode" not in returned:
        return Answer(200, json.dumps(returned).encode())
    body = returned.get("body") or ""
    if not isinstance(body, str):
        raise TypeError(f"The body of a response must be a string, not {type(body).__name__}.")
    headers = [(name.lower(), str(value)) for name, value in (returned.get("headers") or {}).items()]
    if body and "content-type" not in dict(headers):
        headers.append(("content-type", "text/plain; charset=utf-8"))
    headers += [("set-cookie", cookie) for cookie in returned.get("cookies", ())]
    content = base64.b64decode(body) if returned.get("isBase64Encoded") else body.encode()
    return Answer(int(returned["statusCode"]), content, tuple(headers))


def _response(answer: Answer) -> web.Response:
    return web.Response(status=answer.status, body=answer.body, headers=CIMultiDict(answer.headers))


def _joined(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    joined: dict[str, str] = {}
    for name, value in pairs:
        joined[name] = f"{joined[name]},{value}" if name in joined else value
    return joined


def _request_context(method: str, path: str, user_agent: str) -> dict[str, Any]:
    now = datetime.now(UTC)
    http = {
        "method": method,
        "path": path,
        "protocol": "HTTP/1.1",
        "sourceIp": CALLER,
        "userAgent": user_agent,
    }
    return {
        "accountId": ACCOUNT,
        "apiId": API_ID,
        "domainName": API_HOST,
        "domainPrefix": API_ID,
        "http": http,
        "requestId": base64.b64encode(uuid.uuid4().bytes[:11]).decode(),
        "routeKey": f"{method} {path}",
        "stage": "$default",
        "time": now.strftime("%d/%b/%Y:%H:%M:%S +0000"),
        "timeEpoch": int(now.timestamp() * 1000),
    }


def _is_due(expression: str, minutes: int, at: datetime) -> bool:
    """`minutes` since the clock started, for rates; `at` in UTC, for the time of a day."""
    if rate := re.fullmatch(r"rate\((\d+) (minute|hour|day)s?\)", expression):
        return minutes % (int(rate[1]) * MINUTES[rate[2]]) == 0
    if daily := re.fullmatch(r"cron\((\d+) (\d+) \* \* \? \*\)", expression):
        return (at.hour, at.minute) == (int(daily[2]), int(daily[1]))
    raise ValueError(f"The clock does not support {expression}: it supports rate(...) and cron(MINUTE HOUR * * ? *).")


def _scheduler_event(schedule: Schedule, function: str, at: datetime) -> dict[str, Any]:
    text = schedule.input
    for name, value in {
        "scheduled-time": at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "execution-id": str(uuid.uuid4()),
        "attempt-number": "1",
        "schedule-arn": f"arn:aws:scheduler:{REGION}:{ACCOUNT}:schedule/default/{function}",
    }.items():
        text = text.replace(f"<aws.scheduler.{name}>", value)
    return dict(json.loads(text))
