from __future__ import annotations

import base64
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from aws_lambda_powertools import Logger

from local.aws.triggers import Clock, Schedule, http_api_event, http_front, load, routes, schedules, timeout
from local.postgres.server import Server, postgres

POSTGRESQL_15 = Path("/usr/lib/postgresql/15/bin")
STATUS = {"POST /twilio/status": "webhook"}
TEMPLATE = """
Globals:
  Function: {Runtime: python3.13, MemorySize: 256, Timeout: 7}
Resources:
  WorkerFunction:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: functions/worker/
      Timeout: 300
      Environment:
        Variables: {SENDER: !Ref Sender, POWERTOOLS_SERVICE_NAME: sms-retry}
      Events:
        EveryMinute:
          Type: ScheduleV2
          Properties:
            ScheduleExpression: rate(1 minute)
            Input: '{"at": "<aws.scheduler.scheduled-time>"}'
  CleanupFunction:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: functions/cleanup/
      Role: !GetAtt [Role, Arn]
      Events:
        EveryNight: {Type: ScheduleV2, Properties: {ScheduleExpression: "cron(0 3 * * ? *)"}}
  WebhookFunction:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: functions/webhook/
      Events:
        Status: {Type: HttpApi, Properties: {ApiId: !Ref Callbacks, Method: post, Path: /twilio/status}}
        EveryOther: {Type: HttpApi, Properties: {ApiId: !Ref Pages}}
  Queue:
    Type: AWS::SQS::Queue
"""
WORKER = """
from sms_retry import count

def lambda_handler(event, context):
    if event == "late import":
        from sms_retry import late
        from sms_retry.late import Late
        return [late.count is count, isinstance(late.new(), Late)]
    if event == "break":
        raise KeyError("broken")
    if event == "context":
        left = context.get_remaining_time_in_millis()
        return [context.function_name, context.memory_limit_in_mb, context.invoked_function_arn, left]
    return count.up()
"""
WEBHOOK = """
import base64
from sms_retry import count

def lambda_handler(event, context):
    if event["rawQueryString"] == "break":
        raise KeyError("broken")
    if event["rawQueryString"] == "session":
        return [event["routeKey"], event["cookies"], event["stageVariables"]]
    if event["rawQueryString"] == "bare":
        return {"seen": count.up()}
    body = base64.b64decode(event["body"]).decode() if event["isBase64Encoded"] else event.get("body", "")
    text = event["rawQueryString"] + " " + body
    return {"statusCode": 202, "headers": {"X-Seen": event["headers"]["x-twilio-signature"]}, "body": text}
"""
RUN_POSTGRES = """
from local.postgres.server import postgres

with postgres(durable=False) as server:
    print(server.url, flush=True)
    input()
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with two functions and a package that is also called `sms_retry`; `count.up` counts its calls."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(os, "environ", os.environ.copy())
    package = tmp_path / "layers/sms_retry/python/sms_retry"
    files = {
        tmp_path / "template.yaml": TEMPLATE,
        tmp_path / "functions/worker/app.py": WORKER,
        tmp_path / "functions/webhook/app.py": WEBHOOK,
        package / "__init__.py": "",
        package / "count.py": "calls = []\n\ndef up():\n    calls.append(None)\n    return len(calls)\n",
        package / "late.py": "from sms_retry import count\n\nclass Late: pass\n\ndef new():\n    return Late()\n",
    }
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def ask(url: str, method: str, target: str, body: str = "", **headers: str) -> tuple[int, str, Any]:
    with closing(http.client.HTTPConnection(urlsplit(url).netloc)) as connection:
        connection.request(method, target, body, headers)
        response = connection.getresponse()
        return response.status, response.read().decode(), response.headers


class TestAContainer:
    def test_keeps_its_modules_between_events_and_shares_none(self, root: Path) -> None:
        first, second = load("worker", root), load("worker", root)
        assert [first({}), first({}), second({})] == [1, 2, 1]
        assert not [name for name in sys.modules if name == "app"]

    def test_does_not_change_the_modules_of_the_process(self, root: Path) -> None:
        before = {name: module for name, module in sys.modules.items() if name.startswith("sms_retry")}
        load("worker", root)({})
        assert {name: module for name, module in sys.modules.items() if name.startswith("sms_retry")} == before

    def test_imports_its_own_copy_also_during_an_event(self, root: Path) -> None:
        containers = [load("worker", root) for _ in range(4)]
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(lambda container: container("late import"), containers)) == [[True, True]] * 4

    def test_gives_the_context_the_remaining_time_of_the_template(self, root: Path) -> None:
        name, memory, arn, left = load("worker", root)("context")
        assert (name, memory, arn.rsplit(":", 2)[1:]) == ("worker", "256", ["worker", "live"])
        assert 290_000 < left <= 300_000
        assert load("worker", root)("context", timeout_seconds=2)[-1] <= 2000

    def test_raises_timeout_error_after_the_timeout(self, root: Path) -> None:
        with pytest.raises(TimeoutError, match="worker took longer than its timeout of 0 seconds"):
            load("worker", root)({}, timeout_seconds=0)

    def test_passes_an_exception_on_and_handles_the_next_event(self, root: Path) -> None:
        worker = load("worker", root)
        with pytest.raises(KeyError, match="broken"):
            worker("break")
        assert worker({}) == 1

    def test_passes_events_and_answers_as_json(self, root: Path) -> None:
        (root / "functions/worker/app.py").write_text("def lambda_handler(event, context):\n    return event or {1}")
        worker = load("worker", root)
        assert worker({"to": ("a", 1)}) == {"to": ["a", 1]}
        with pytest.raises(TypeError, match="set is not JSON serializable"):
            worker({})

    def test_handles_one_event_at_a_time(self, root: Path) -> None:
        (root / "functions/worker/app.py").write_text(
            "import time\nbusy = []\n\ndef lambda_handler(event, context):\n    busy.append(1)\n"
            "    time.sleep(0.005)\n    together = len(busy)\n    busy.pop()\n    return together\n"
        )
        worker = load("worker", root)
        with ThreadPoolExecutor(4) as pool:
            assert set(pool.map(worker, range(8))) == {1}

    def test_sets_the_environment_of_lambda(self, root: Path) -> None:
        load("worker", root)
        assert os.environ["AWS_LAMBDA_FUNCTION_NAME"] == "worker"
        assert os.environ["AWS_EXECUTION_ENV"] == "AWS_Lambda_python3.13"
        assert os.environ["POWERTOOLS_SERVICE_NAME"] == "sms-retry"
        assert "SENDER" not in os.environ

    def test_has_its_own_loggers(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (root / "functions/worker/app.py").write_text(
            "from aws_lambda_powertools import Logger\nlogger = Logger()\n\n"
            "def lambda_handler(event, context):\n    if event:\n        logger.append_keys(event=event)\n"
            "    logger.info('hello')\n"
        )
        Logger("sms-retry").append_keys(event="of this process")
        first, second = load("worker", root), load("worker", root)
        first(None)
        first("first")
        second(None)
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [line.get("event") for line in lines] == [None, "first", None]

    def test_restores_the_sigterm_handler_of_the_process(self, root: Path) -> None:
        (root / "functions/worker/app.py").write_text(
            "import signal\n\ndef lambda_handler(event, context):\n    signal.signal(signal.SIGTERM, lambda *_: None)\n"
        )
        before = signal.getsignal(signal.SIGTERM)
        load("worker", root)({})
        assert signal.getsignal(signal.SIGTERM) == before

    def test_cannot_be_loaded_for_a_function_that_the_template_lacks(self, root: Path) -> None:
        with pytest.raises(LookupError, match=r"template\.yaml has no function with the CodeUri functions/lost/"):
            load("lost", root)


class TestTheTemplate:
    def test_gives_schedules_routes_and_timeouts(self, root: Path) -> None:
        template = root / "template.yaml"
        assert schedules(template) == {
            "worker": Schedule("rate(1 minute)", '{"at": "<aws.scheduler.scheduled-time>"}'),
            "cleanup": Schedule("cron(0 3 * * ? *)"),
        }
        assert routes(template, "Callbacks") == STATUS
        assert routes(template, "Pages") == {"$default": "webhook"}
        assert (timeout(template, "worker"), timeout(template, "webhook")) == (300, 7)


class TestTheHttpApi:
    def test_makes_the_same_event_from_a_form_as_aws(self) -> None:
        headers = [
            ("Content-Type", "application/x-www-form-urlencoded"),
            ("X-Twilio-Signature", "abc="),
            ("Cookie", "a=1; b=2"),
            ("Accept", "text/html"),
            ("accept", "*/*"),
            ("User-Agent", "TwilioProxy/1.1"),
        ]
        event = http_api_event("POST", "/twilio/status", "t=17-2&x=&t=3", headers, b"MessageStatus=sent")
        assert event["version"] == "2.0"
        assert event["routeKey"] == event["requestContext"]["routeKey"] == "POST /twilio/status"
        assert (event["rawPath"], event["rawQueryString"]) == ("/twilio/status", "t=17-2&x=&t=3")
        assert event["queryStringParameters"] == {"t": "17-2,3", "x": ""}
        assert event["headers"]["accept"] == "text/html,*/*"
        assert event["headers"]["x-twilio-signature"] == "abc="
        assert event["headers"]["host"] == event["requestContext"]["domainName"]
        assert "cookie" not in event["headers"]
        assert event["cookies"] == ["a=1", "b=2"]
        assert event["requestContext"]["http"] == {
            "method": "POST",
            "path": "/twilio/status",
            "protocol": "HTTP/1.1",
            "sourceIp": "54.172.60.1",
            "userAgent": "TwilioProxy/1.1",
        }
        assert event["isBase64Encoded"] is True
        assert base64.b64decode(event["body"]) == b"MessageStatus=sent"

    def test_does_not_encode_text_and_omits_empty_fields(self) -> None:
        event = http_api_event("POST", "/", "", {"content-type": "application/json; charset=utf-8"}, b"{}")
        assert (event["isBase64Encoded"], event["body"]) == (False, "{}")
        empty = http_api_event("GET", "/", "", {}, b"")
        assert empty["isBase64Encoded"] is False
        assert not {"body", "cookies", "queryStringParameters"} & empty.keys()

    def test_answers_with_the_response_of_the_function(self, root: Path) -> None:
        with http_front(STATUS, root=root) as front:
            form = {"Content-Type": "application/x-www-form-urlencoded", "X-Twilio-Signature": "abc="}
            status, body, headers = ask(front.url, "POST", "/twilio/status?t=17-2", "To=%2B1", **form)
            assert (status, body, headers["x-seen"]) == (202, "t=17-2 To=%2B1", "abc=")
            assert headers["content-type"] == "text/plain; charset=utf-8"
            status, body, headers = ask(front.url, "POST", "/twilio/status?bare")
            assert (status, json.loads(body), headers["content-type"]) == (
                200,
                {"seen": 1},
                "application/json",
            )

    def test_answers_404_without_a_route(self, root: Path) -> None:
        with http_front(STATUS, root=root) as front:
            assert ask(front.url, "GET", "/twilio/status")[:2] == (404, '{"message":"Not Found"}')
            assert ask(front.url, "POST", "/")[:2] == (404, '{"message":"Not Found"}')

    def test_gives_the_console_a_session_and_its_address(self, root: Path) -> None:
        with http_front({"$default": "webhook"}, root=root, is_console=True, session=lambda: "anna") as front:
            status, body, _ = ask(front.url, "GET", "/any/where?session")
        assert (status, json.loads(body)) == (200, ["$default", ["session=anna"], {"CONSOLE_URL": front.url}])

    def test_answers_for_the_console_only_to_the_names_of_loopback(self, root: Path) -> None:
        with http_front({"$default": "webhook"}, root=root, is_console=True) as front:
            for host, status in (("evil.example.com", 421), ("localhost.evil.example.com:80", 421), ("localhost", 200)):
                assert ask(front.url, "GET", "/?bare", host=host)[0] == status

    def test_answers_500_if_the_function_raises(self, root: Path, caplog: pytest.LogCaptureFixture) -> None:
        with http_front(STATUS, root=root) as front:
            assert ask(front.url, "POST", "/twilio/status?break")[:2] == (
                500,
                '{"message":"Internal Server Error"}',
            )
        assert "webhook raised" in caplog.text
        assert "KeyError" in caplog.text

    def test_serves_fifty_callers_at_once_with_four_containers(self, root: Path) -> None:
        def call_ten_times(_: int) -> list[int]:
            with closing(http.client.HTTPConnection(urlsplit(front.url).netloc)) as connection:
                seen = []
                for _ in range(10):
                    connection.request("POST", "/twilio/status?bare")
                    seen.append(json.loads(connection.getresponse().read())["seen"])
                return seen

        with http_front(STATUS, root=root, containers=4) as front, ThreadPoolExecutor(50) as callers:
            seen = [each for ten in callers.map(call_ten_times, range(50)) for each in ten]
        # Each container counts its own calls, so `seen` is 1, 2, 3 ... from each of the four.
        assert len(seen) == 500
        assert seen.count(1) <= 4
        assert sorted(seen)[0] == 1


class TestTheEmulator:
    @pytest.mark.parametrize(
        ("timeout", "message", "is_timeout"),
        [
            (0, "ErrGateCanceled", True),
            (60, "ErrGateCanceled", False),
            (0, "exit status 1", False),
        ],
    )
    def test_a_cancelled_event_is_a_timeout_once_the_time_is_up(
        self, timeout: int, message: str, is_timeout: bool
    ) -> None:
        from local.aws.rie import ExecutionEnvironment, Exited, TimedOut

        class Emulator(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.dumps({"errorType": "Sandbox.Failure", "errorMessage": message}).encode()
                self.send_response(502)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None: ...

        with subprocess.Popen([sys.executable, "-c", ""]) as ended, HTTPServer(("127.0.0.1", 0), Emulator) as emulator:
            answering = threading.Thread(target=emulator.handle_request)
            answering.start()
            environment = ExecutionEnvironment("worker", timeout, ended, emulator.server_port, Path(os.devnull))
            outcome = environment.invoke()
            answering.join()
        assert outcome == (TimedOut() if is_timeout else Exited("Sandbox.Failure", message))


class TestTheClock:
    def test_invokes_each_function_at_its_rate(self) -> None:
        rates = {name: Schedule(f"rate({name})") for name in ("1 minute", "5 minutes", "15 minutes")}
        invoked: list[str] = []
        clock = Clock(rates, lambda function, event: invoked.append(function))
        clock.advance(4)
        assert invoked == ["1 minute"] * 4
        clock.advance(11)
        assert invoked[-3:] == ["1 minute", "5 minutes", "15 minutes"]
        assert [invoked.count(name) for name in rates] == [15, 3, 1]

    def test_invokes_a_daily_function_at_its_time(self) -> None:
        daily = {"cleanup": Schedule("cron(0 3 * * ? *)")}
        clock = Clock(daily, lambda *_: None, now=datetime(2026, 6, 1, 2, 58, tzinfo=UTC))
        assert clock.advance(1) == []
        assert clock.advance(1) == [("cleanup", None)]
        assert clock.advance(24 * 60 - 1) == []
        assert clock.advance(1) == [("cleanup", None)]

    def test_sends_the_input_of_the_template_with_the_scheduled_time(self) -> None:
        worker = {"worker": Schedule("rate(1 minute)", '{"at": "<aws.scheduler.scheduled-time>"}')}
        clock = Clock(worker, lambda _, event: event, now=datetime(2026, 6, 1, 12, tzinfo=UTC))
        assert clock.advance(2) == [
            ("worker", {"at": "2026-06-01T12:01:00Z"}),
            ("worker", {"at": "2026-06-01T12:02:00Z"}),
        ]

    def test_calls_before_each_minute_before_the_functions(self) -> None:
        calls: list[str] = []
        clock = Clock({"worker": Schedule("rate(1 minute)")}, lambda function, _: calls.append(function))
        clock.before_each_minute = lambda: calls.append("a minute")
        clock.advance(2)
        assert calls == ["a minute", "worker", "a minute", "worker"]

    def test_runs_in_real_time_and_continues_after_a_function_that_raises(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        third_time = threading.Event()
        count: list[None] = []

        def invoke(function: str, event: dict[str, Any]) -> None:
            count.append(None)
            if len(count) == 3:
                third_time.set()
            raise KeyError("broken")

        with Clock({"worker": Schedule("rate(1 minute)")}, invoke).running(seconds_a_minute=0.001):
            assert third_time.wait(10)
        assert "worker raised" in caplog.text

    def test_refuses_an_unsupported_schedule(self) -> None:
        with pytest.raises(ValueError, match=r"does not support cron\(0/5 \* \* \* \? \*\)"):
            Clock({"worker": Schedule("cron(0/5 * * * ? *)")}, lambda *_: None)


@pytest.fixture(scope="module")
def embedded() -> Iterator[Server]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("LOCAL_DATABASE_URL", raising=False)
        with postgres() as server:
            yield server


def select(url: str, expression: str) -> str:
    with psycopg.connect(url) as connection:
        row = connection.execute(f"select {expression}").fetchone()
    assert row is not None
    return str(row[0])


class TestPostgres:
    def test_is_the_embedded_postgresql_18_in_utc_on_loopback(self, embedded: Server) -> None:
        assert select(embedded.url, "version()").startswith("PostgreSQL 18")
        assert select(embedded.url, "current_setting('timezone')") == "UTC"
        assert select(embedded.url, "current_setting('fsync')") == "on"
        assert select(embedded.url, "inet_server_addr()") == "127.0.0.1"

    @pytest.mark.skipif(not POSTGRESQL_15.exists(), reason="PostgreSQL 15 is not installed on this machine")
    def test_is_the_installed_postgresql_15_if_asked_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("LOCAL_DATABASE_URL", raising=False)
        with postgres(POSTGRESQL_15) as server:
            assert select(server.url, "version()").startswith("PostgreSQL 15")

    def test_has_the_same_address_and_all_commits_after_a_crash(self, embedded: Server) -> None:
        url = embedded.create_database("a crash")
        with psycopg.connect(url) as connection:
            connection.execute("create table kept ()")
        with psycopg.connect(url) as connection:
            embedded.restart()
            with pytest.raises(psycopg.OperationalError):
                connection.execute("select 1")
        assert select(url, "to_regclass('kept')") == "kept"

    def test_ends_and_removes_its_folder_if_the_starter_is_killed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("LOCAL_DATABASE_URL", raising=False)
        monkeypatch.setenv("HOME", "")
        command = [sys.executable, "-c", RUN_POSTGRES]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as killed:
            assert killed.stdout is not None
            url = killed.stdout.readline().strip()
            assert select(url, "current_setting('fsync')") == "off"
            folder = Path(select(url, "current_setting('data_directory')")).parent
            killed.send_signal(signal.SIGKILL)
        deadline = time.monotonic() + 10
        while folder.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not folder.exists()
        with pytest.raises(psycopg.OperationalError):
            select(url, "1")

    def test_raises_with_the_reason_if_it_cannot_start(self, embedded: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("LOCAL_DATABASE_URL", raising=False)
        with (
            pytest.raises(RuntimeError, match=r"PostgreSQL did not start: (?s:.*)could not bind"),
            postgres(port=urlsplit(embedded.url).port),
        ):
            pass


class TestALocalDatabaseUrl:
    def test_is_used_instead_of_a_new_server_and_the_created_databases_are_dropped(
        self, embedded: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("LOCAL_DATABASE_URL", embedded.url)
        with postgres() as server:
            assert server.url == embedded.url
            assert select(server.create_database("guest"), "current_database()") == "guest"
            with pytest.raises(RuntimeError, match="cannot be restarted from here: unset LOCAL_DATABASE_URL"):
                server.restart()
        with pytest.raises(psycopg.OperationalError, match="guest"):
            select(server.url.replace("/postgres", "/guest"), "1")


class TestADatabaseUrl:
    def test_names_the_database_of_the_service_and_starts_no_local_stack(
        self, embedded: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("LOCAL_DATABASE_URL", raising=False)
        monkeypatch.setenv("DATABASE_URL", embedded.url)
        with postgres(durable=False) as server:
            assert server.url != embedded.url


class TestAContainersConnection:
    def test_stays_open_between_events_and_closes_with_the_container(
        self, embedded: Server, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("DATABASE_URL", embedded.url)
        (root / "functions/worker/app.py").write_text(
            "import functools, os, psycopg\n\n@functools.cache\ndef database():\n"
            "    return psycopg.connect(os.environ['DATABASE_URL'], autocommit=True)\n\n"
            "def lambda_handler(event, context):\n"
            "    return database().execute('select pg_backend_pid()').fetchone()[0]\n"
        )
        worker = load("worker", root)
        pid = worker({})
        assert worker({}) == pid
        worker.close()
        with pytest.raises(psycopg.OperationalError, match="the connection is closed"):
            worker({})
