"""`make bench`: each rate beside its limit, measured in the same run; median of five, with the spread."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from urllib.request import Request, urlopen

import psycopg
from rich.console import Console
from rich.table import Table

from sms_retry import resend, twilio
from sms_retry.migrate import migrate
from sms_retry.retry import Claim, Report
from sms_retry.store import Store
from tests.benchmarks import webhook
from tests.local.postgres import postgres
from tests.local.twilio import ACCOUNT_SID, AUTH_TOKEN

RUNS = 5
LATENCY = 0.1
CREDENTIALS = twilio.Credentials(ACCOUNT_SID, AUTH_TOKEN)


def main() -> None:
    table = Table("what", "messages a second", "spread", "limit in the same run", "ratio")
    with postgres() as server, twilio_process() as api_url:
        url = server.create_database("bench")
        migrate(url)
        rate = measured(lambda: claim_and_finish(url, 5_000))
        table.add_row("claim and finish, no send, 100 a batch", *shown(rate), "", "")
        for in_flight in (10, 50, 100):
            count = in_flight * 30
            drained = measured(lambda n=in_flight, m=count: drain(url, api_url, n, m))
            alone = measured(lambda n=in_flight, m=count: sdk_alone(api_url, n, m))
            what = f"drain, {in_flight} in flight, {LATENCY * 1000:.0f} ms Twilio"
            table.add_row(what, *shown(drained), *beside(drained, alone, "the SDK alone"))
        for what, callbacks, callers, count in (
            ("callback recorded, 1 caller", webhook.recorded, 1, 500),
            ("callback recorded, 50 callers", webhook.recorded, 50, 3_000),
            ("callback through the HTTP API, 50 callers", webhook.through_the_front, 50, 3_000),
        ):
            settled = measured(lambda c=callbacks, n=callers, m=count: when_sent(c, url, m, n))
            alone = measured(lambda n=callers, m=count: webhook.inserted(url, m, n))
            table.add_row(what, *shown(settled), *beside(settled, alone, "a bare insert"))
    Console().print(table)


def measured(run: Callable[[], float]) -> list[float]:
    """Messages a second, RUNS times."""
    return [run() for _ in range(RUNS)]


def shown(rates: list[float]) -> tuple[str, str]:
    return f"{statistics.median(rates):,.0f}", f"{min(rates):,.0f} - {max(rates):,.0f}"


def beside(rates: list[float], limits: list[float], limit: str) -> tuple[str, str]:
    median = statistics.median(limits)
    return f"{median:,.0f} ({limit})", f"{statistics.median(rates) / median:.2f}"


def claim_and_finish(url: str, count: int) -> float:
    fill(url, count)
    store = Store(lambda: url)
    started = time.perf_counter()
    while claims := store.claim_due(100):
        store.finish([Report(claim.ticket, "accepted", sid=f"SM{claim.id:032x}") for claim in claims])
    elapsed = time.perf_counter() - started
    store.close()
    return count / elapsed


def drain(url: str, api_url: str, in_flight: int, count: int) -> float:
    fill(url, count)
    store = Store(lambda: url)
    with twilio.open_sender(CREDENTIALS, api_url, "+15005550006", "https://sms.example.com") as send:
        started = time.perf_counter()
        tally = resend.drain(store, send, lambda: 300.0, in_flight)
        elapsed = time.perf_counter() - started
    store.close()
    assert tally.success == count, tally
    return count / elapsed


def sdk_alone(api_url: str, in_flight: int, count: int) -> float:
    """As many threads, each POSTing on a connection of its own as fast as it is answered; no database."""
    now = datetime.now(UTC)
    claims = [
        Claim(n, 1, n, "default", f"+4917{n:08}", "Hello.", "otp", None, None, "unknown", now, None, None, now)
        for n in range(count)
    ]
    with (
        twilio.open_sender(CREDENTIALS, api_url, "+15005550006", "https://sms.example.com") as send,
        ThreadPoolExecutor(in_flight) as senders,
    ):
        started = time.perf_counter()
        list(senders.map(lambda claim: send(claim, timedelta(hours=1)), claims))
        return count / (time.perf_counter() - started)


def when_sent(callbacks: Callable[[str, int, int], float], url: str, count: int, callers: int) -> float:
    """The callbacks of so many messages, all of which Twilio has."""
    claim_and_finish(url, count)
    return callbacks(url, count, callers)


def fill(url: str, count: int) -> None:
    """An empty queue with `count` due messages in it, and statistics that know them."""
    with psycopg.connect(url, autocommit=True) as db:
        tables = ("sms_messages", "sms_retry_queue", "sms_attempts")
        db.execute(f"truncate {', '.join(f'sms_retry.{table}' for table in tables)} restart identity")
        db.execute(
            "select sms_retry.queue_sms_retry('+4917' || lpad(n::text, 8, '0'), 'Hello.', kind => 'otp')"
            " from generate_series(1, %s) n",
            [count],
        )
        db.execute("vacuum analyze")


@contextmanager
def twilio_process() -> Iterator[str]:
    """The stand-in in a process of its own, answering after LATENCY and calling nobody back."""
    command = [sys.executable, "-m", "tests.local.twilio", "--port", "0", "--latency", str(LATENCY)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1]
        plan = b'{"weather": {"step": "accept", "receipts": []}}'
        urlopen(Request(f"{url}/stand-in/plan", plan, {"Content-Type": "application/json"})).close()
        yield url
        process.terminate()


if __name__ == "__main__":
    main()
