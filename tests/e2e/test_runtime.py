"""The output of `sam build` on Lambda's own runtime: processes die, containers freeze, time runs out."""

from __future__ import annotations

import json
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from io import StringIO
from itertools import cycle, pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urldefrag, urlencode, urlsplit

import psycopg
import pytest
from twilio.request_validator import RequestValidator

from local.aws import build, rie
from local.aws.container import ROOT
from local.aws.rie import ExecutionEnvironment, Exited, Outcome, Raised, Returned, TimedOut
from local.aws.triggers import http_api_event, routes
from local.postgres.server import Server
from local.stack import ENVIRONMENT, FUNCTIONS, TEMPLATE, Stack
from local.twilio.plan import StepFor
from local.twilio.stand_in import Accept, Hang, Refuse, Step, TwilioStandIn, always
from local.waiting import let_time_pass, wait_until
from sms_retry import attempt
from tests.e2e.messages import message, number, posts_to, private_lines, queue, statuses

# All tests of the build run on one worker of pytest-xdist, which builds once.
pytestmark = pytest.mark.xdist_group("sam build")

CONCURRENCY = 4
# Modules that come from Lambda and not from the layers: the runtime, and botocore, where Powertools registers itself.
LAMBDAS_OWN = {"awslambdaric", "runtime_client", "simplejson", "botocore"}
TABLES = ("sms_messages", "sms_retry_queue", "sms_attempts", "sms_recipients", "sms_holds")

Start = Callable[..., AbstractContextManager[Any]]


@pytest.fixture(scope="session")
def runtime() -> None:
    """Lambda's runtime, on the Python version of the Lambdas."""
    if sys.platform != "linux":
        pytest.skip("Lambda's emulator runs on Linux only")
    if build.runtime() is None:
        pytest.skip(f"python{build.VERSION}, the version of the Lambdas, is not on the PATH")


@pytest.fixture(scope="module")
def start(runtime: None, built: Path, log: StringIO) -> Start:
    """Starts an execution environment of a function (default: a worker) that reaches a stack."""

    def start(stack: Stack, function: str = "process_retries", **options: Any) -> AbstractContextManager[Any]:
        return rie.execution_environment(built, function, variables(stack), log, **options)

    return start


@dataclass(frozen=True)
class OutOfTime:
    """A worker in mid-batch that runs into its timeout; `lock` keeps it waiting."""

    stack: Stack
    worker: ExecutionEnvironment
    lock: psycopg.Connection
    outcome: Future[Outcome]


@pytest.fixture(scope="module", autouse=True)
def out_of_time(
    start: Start, server: Server, worker_id: str, stack_of_the_session: Stack, log: StringIO
) -> Iterator[OutOfTime]:
    """This worker runs beside the other tests, since a timeout takes long: it has a separate database and Twilio.

    A worker starts no send that it has no time to finish, so only a Postgres that keeps it waiting causes a timeout.
    """
    already = len(log.getvalue())
    url = server.create_database(f"sms_retry_out_of_time_{worker_id}")
    with ExitStack() as parts:
        pool = parts.enter_context(ThreadPoolExecutor(1))
        account = {"account_sid": ENVIRONMENT["TWILIO_ACCOUNT_SID"], "auth_token": ENVIRONMENT["TWILIO_AUTH_TOKEN"]}
        twilio = parts.enter_context(TwilioStandIn(callbacks="manual", **account))
        db = parts.enter_context(psycopg.connect(url, autocommit=True))
        urls = {"DATABASE_URL": url, "TWILIO_API_URL": twilio.url}
        stack = replace(stack_of_the_session, database_url=url, db=db, twilio=twilio, urls=urls)
        with start(stack, "migrate") as migrator:
            answer(migrator.invoke())
        worker = parts.enter_context(start(stack, timeout=int(attempt.SLOWEST_SEND) + 2))
        answer(worker.invoke())
        queue_all(stack, 10)
        twilio.behave(default=seldom_answered())
        lock = parts.enter_context(psycopg.connect(url))
        lock.execute("lock table sms_retry.sms_attempts in share mode")
        yield OutOfTime(stack, worker, lock, pool.submit(invoke_until_it_claims, worker))
    assert not private_lines(log.getvalue()[already:])


def variables(stack: Stack) -> dict[str, str]:
    return ENVIRONMENT | stack.urls | {"SEND_CONCURRENCY": str(CONCURRENCY)}


def answer(outcome: Outcome) -> Any:
    assert isinstance(outcome, Returned), outcome
    return outcome.answer


def invoke_until_it_claims(worker: ExecutionEnvironment) -> Outcome:
    """On a slow machine too little time may be left to claim; then the worker is invoked again."""
    for _ in range(10):
        outcome = worker.invoke()
        if not isinstance(outcome, Returned) or outcome.answer["processed"]:
            break
    return outcome


def queue_all(stack: Stack, messages: int) -> None:
    for n in range(messages):
        queue(stack, n)


def queued(stack: Stack) -> Counter[str]:
    """The number of queue rows by status."""
    return Counter(status for (status,) in stack.db.execute("select status from sms_retry.sms_retry_queue"))


def seldom_answered() -> StepFor:
    """Of three POSTs, Twilio accepts two and answers one."""
    steps = cycle((Accept(), Hang(Accept()), Hang(accepted=None)))
    return lambda to, nth: next(steps)


def end_connections(db: psycopg.Connection) -> int:
    """End all connections of sms-retry, as a failover does; gives their number once they have ended."""
    ended = db.execute(
        "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
        " where application_name = 'sms_retry' and datname = current_database()"
    )
    return sum(gone for (gone,) in ended)


def waiting_for(stack: Stack, lock: psycopg.Connection) -> int:
    """The number of connections that wait for a lock of `lock`."""
    waiting = "select count(*) from pg_stat_activity where %s = any (pg_blocking_pids(pid))"
    (count,) = stack.db.execute(waiting, [lock.info.backend_pid]).fetchone() or (0,)
    return int(count)


def settle_all(stack: Stack, worker: ExecutionEnvironment, start: Start) -> Counter[str]:
    """Run worker and reconcile for 50 minutes, so that every message is settled; gives the sums of their counts."""
    counts: Counter[str] = Counter()
    with start(stack, "reconcile") as asking:
        for _ in range(10):
            let_time_pass(stack.db, minutes=5)
            stack.twilio.let_time_pass(5 * 60)
            counts.update(answer(worker.invoke()))
            counts.update(answer(asking.invoke()))
    return counts


def assert_each_was_sent_once(stack: Stack, messages: int) -> None:
    accepted = Counter(post.to for post in stack.twilio.accepted())
    assert accepted == Counter({number(n): 1 for n in range(messages)})
    assert statuses(stack) == {"sent": messages}


def everything(stack: Stack) -> list[Any]:
    return [stack.db.execute(f"select * from sms_retry.{table} order by 1, 2").fetchall() for table in TABLES]


def event(function: str) -> Any:
    """The event in tests/events; without one, an unsigned request to the route of the function."""
    written = ROOT / "tests" / "events" / f"{function}.json"
    if written.exists():
        return json.loads(written.read_text())
    route = next(route for route, name in routes(TEMPLATE).items() if name == function)
    return http_api_event(*route.split(" "), "", {}, b"")


def imported(environment: ExecutionEnvironment) -> set[str]:
    """The modules that a Python with `-v` has imported."""
    return set(re.findall(r"^import '(.+?)' #", environment.log(), re.MULTILINE))


def read(environment: ExecutionEnvironment) -> set[Path]:
    """The files of the imported modules: bytecode, compiled source, libraries."""
    lines = re.findall(r"^# .*(?:code object|loaded) from '?(/.+?)'?$", environment.log(), re.MULTILINE)
    return {Path(line) for line in lines}


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_cold_start_imports_only_used_modules_and_compiles_only_the_handler(
    stack: Stack, start: Start, built: Path, function: str
) -> None:
    queue(stack)
    its = rie.functions(built)[function]
    with start(stack, function, options=["-v"]) as environment:
        returned = answer(environment.invoke(event(function)))
        modules, files = imported(environment), read(environment)

    assert returned.get("statusCode", 200) < 500
    assert {"app", "sms_retry.runtime", "aws_lambda_powertools"} <= modules
    assert "boto3" not in modules
    assert "TWILIO_API_URL" in its.environment["Variables"] or "twilio.rest" not in modules
    assert {path for path in files if built in path.parents and path.suffix == ".py"} == {Path(its.codeuri) / "app.py"}
    from_lambda = {part for path in files for beside, part in pairwise(path.parts) if beside == "site-packages"}
    assert {name.partition(".")[0] for name in from_lambda} == LAMBDAS_OWN


def test_a_cold_webhook_applies_a_signed_callback(stack: Stack, start: Start) -> None:
    sid = stack.invoke("send_sms", message())["provider_sid"]
    url = urldefrag(stack.twilio.posts()[0].form["StatusCallback"]).url
    form = {"MessageSid": sid, "MessageStatus": "delivered", "To": number(0), "ErrorCode": ""}
    headers = {
        "Content-Type": "application/x-www-form-urlencoded; charset=UTF-8",
        "X-Twilio-Signature": RequestValidator(stack.twilio.auth_token).compute_signature(url, form),
    }
    path, query = urlsplit(url).path, urlsplit(url).query

    with start(stack, "twilio_webhook", options=["-v"]) as webhook:
        returned = answer(webhook.invoke(http_api_event("POST", path, query, headers, urlencode(form).encode())))
        modules = imported(webhook)

    assert returned == {"statusCode": 204}
    assert statuses(stack) == {"delivered": 1}
    assert "psycopg" in modules
    assert not {"boto3", "twilio.rest"} & modules


def test_every_module_in_the_layers_has_bytecode(runtime: None, built: Path) -> None:
    """Unchecked bytecode (PEP 552): on Lambda, files have other times than at compilation."""
    modules = [path for path in built.glob("*Layer/python/**/*.py") if "geodata" not in path.parts]
    cached = [path.parent / "__pycache__" / f"{path.stem}.cpython-313.pyc" for path in modules]

    assert {"twilio", "psycopg", "sms_retry"} <= {path.parent.name for path in modules}
    assert [path for path in cached if not path.exists() or path.read_bytes()[4:8] != b"\1\0\0\0"] == []


def test_the_error_for_an_invalid_event_has_no_private_data(stack: Stack, start: Start) -> None:
    with start(stack, "send_sms") as environment:
        outcome = environment.invoke(message(color="red"))

    assert isinstance(outcome, Raised)
    assert "color" in outcome.message
    assert not private_lines(f"{outcome}")


def test_a_process_killed_in_mid_batch_loses_nothing_and_sends_nothing_twice(stack: Stack, start: Start) -> None:
    queue_all(stack, 10)
    usual = seldom_answered()
    with start(stack) as worker:

        def dies_at_the_fourth(to: str, nth: int) -> Step:
            if len(stack.twilio.posts()) == 3:
                worker.kill()
            return usual(to, nth)

        stack.twilio.behave(default=dies_at_the_fourth)
        outcome = worker.invoke()
        assert isinstance(outcome, Exited), outcome
        stack.twilio.behave(default=always(Accept()))
        claimed, waiting = queued(stack)["processing"], queued(stack)["pending"]
        assert claimed
        assert waiting
        tick = answer(worker.invoke())
        assert (tick["processed"], tick["success"]) == (waiting, waiting)
        counts = settle_all(stack, worker, start)

    assert counts["recovered"] == counts["found"] + counts["released"] == claimed
    assert counts["found"]
    assert counts["released"]
    assert_each_was_sent_once(stack, 10)


def test_a_thawed_worker_replaces_its_dead_connection_before_it_claims(stack: Stack, start: Start) -> None:
    with start(stack) as worker:
        answer(worker.invoke())
        process = worker.pid
        worker.freeze()
        assert end_connections(stack.db) >= 1
        queue_all(stack, 10)
        worker.thaw()
        tick = answer(worker.invoke())
        assert worker.pid == process

    assert (tick["processed"], tick["success"]) == (10, 10)
    assert_each_was_sent_once(stack, 10)
    assert stack.db.execute("select distinct attempt from sms_retry.sms_retry_queue").fetchall() == [(1,)]


def test_a_thawed_send_sms_replaces_its_dead_connection_before_it_claims(stack: Stack, start: Start) -> None:
    with start(stack, "send_sms") as sender:
        answer(sender.invoke(message(0)))
        sender.freeze()
        assert end_connections(stack.db) >= 1
        sender.thaw()
        answer(sender.invoke(message(1)))

    assert_each_was_sent_once(stack, 2)


def test_a_worker_frozen_during_a_post_that_others_repeated_changes_nothing(stack: Stack, start: Start) -> None:
    queue(stack)
    with (
        ThreadPoolExecutor(1) as pool,
        start(stack) as frozen,
        start(stack) as other,
        start(stack, "reconcile") as asks,
    ):

        def freezes_the_first_and_refuses(to: str, nth: int) -> Step:
            if nth > 1:
                return Accept()
            frozen.freeze()
            return Refuse(400, 21211)

        stack.twilio.behave(default=freezes_the_first_and_refuses, lists_refusals=False)
        tick = pool.submit(frozen.invoke)
        wait_until(lambda: posts_to(stack, 0) == 1)
        let_time_pass(stack.db, minutes=11)
        assert answer(other.invoke())["recovered"] == 1
        let_time_pass(stack.db, minutes=30)
        assert answer(asks.invoke())["released"] == 1
        assert answer(other.invoke())["success"] == 1
        assert_each_was_sent_once(stack, 1)
        before = everything(stack)

        frozen.thaw()
        assert answer(tick.result())["failed"] == 1
        assert '"StaleMessages":[1.0]' in frozen.log()

    assert everything(stack) == before


def test_two_concurrent_workers_send_each_message_once(stack: Stack, runtime: None, built: Path, log: StringIO) -> None:
    with ThreadPoolExecutor(2) as pool, rie.fleet(2, built, "process_retries", variables(stack), log) as workers:
        for worker in workers:
            answer(worker.invoke())
        queue_all(stack, 200)
        with psycopg.connect(stack.database_url) as lock:
            # Both workers wait for the lock, so that they claim from the same queue at the same time.
            lock.execute("lock table sms_retry.sms_retry_queue in access exclusive mode")
            ticks = [pool.submit(worker.invoke) for worker in workers]
            wait_until(lambda: waiting_for(stack, lock) == 2)
        processed = [answer(tick.result())["processed"] for tick in ticks]

    assert sum(processed) == 200
    assert all(processed)
    assert_each_was_sent_once(stack, 200)


def test_an_environment_that_ends_during_a_post_leaves_no_process(stack: Stack, start: Start) -> None:
    queue(stack)
    stack.twilio.plan(number(0), Hang())
    with ThreadPoolExecutor(1) as pool, start(stack) as worker:
        tick = pool.submit(worker.invoke)
        wait_until(lambda: posts_to(stack, 0) == 1)
        session = os.getsid(worker.pid)
        assert len(rie.processes(session)) == 2

    assert rie.processes(session) == []
    assert isinstance(tick.exception(), OSError)


def test_a_worker_that_times_out_in_mid_batch_loses_nothing_and_sends_nothing_twice(
    out_of_time: OutOfTime, start: Start
) -> None:
    stack, worker = out_of_time.stack, out_of_time.worker
    assert out_of_time.outcome.result() == TimedOut()
    end_connections(stack.db)
    out_of_time.lock.rollback()
    stack.twilio.behave(default=always(Accept()))
    claimed = queued(stack)["processing"]
    assert queued(stack) == {"processing": claimed, "pending": 10 - claimed}
    assert claimed >= CONCURRENCY

    counts = settle_all(stack, worker, start)

    assert counts["recovered"] == counts["found"] + counts["released"] == claimed
    assert counts["found"]
    assert counts["released"]
    assert_each_was_sent_once(stack, 10)
