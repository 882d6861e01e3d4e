"""The set-up of the benchmarks: a durable Postgres with this release, due messages, the stand-in in its own process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from urllib.request import Request, urlopen

import psycopg

from local.postgres.server import Server, postgres
from local.twilio.stand_in import ACCOUNT_SID, AUTH_TOKEN
from sms_retry import twilio
from sms_retry.migrate import migrate
from sms_retry.store import Store
from sms_retry.values import Report, Ticket
from tests.benchmarks.peers import Rate, peers
from tests.tables import truncate_all

# The stand-in's time for an answer (seconds).
LATENCY = 0.1
CREDENTIALS = twilio.Credentials(ACCOUNT_SID, AUTH_TOKEN)
SENDER, WEBHOOK_URL = "+15005550006", "https://sms.example.com"
HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Stage:
    """`url` is the database with this release; each of `peers` has its own database on the same server."""

    server: Server
    url: str
    twilio_url: str
    peers: dict[str, Rate]


@contextmanager
def stage() -> Iterator[Stage]:
    with postgres() as server, twilio_process(LATENCY) as twilio_url:
        url = server.create_database("bench")
        migrate(url)
        yield Stage(server, url, twilio_url, peers(server))


@contextmanager
def twilio_process(latency: float) -> Iterator[str]:
    """The URL of a stand-in that accepts every message after `latency` seconds and posts no callbacks."""
    command = [sys.executable, "-m", "local.twilio", "--port", "0", "--latency", str(latency)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            url = process.stdout.readline().split()[-1]
            plan = b'{"default": {"step": "accept", "receipts": []}}'
            urlopen(Request(f"{url}/stand-in/plan", plan, {"Content-Type": "application/json"})).close()
            yield url
        finally:
            process.terminate()


def fill(url: str, count: int, business_id: str = "'default'", due: str = "now()") -> None:
    """Replace all messages with `count` waiting ones, and update the statistics.

    `business_id` and `due` are SQL expressions; `n` in them is the number of the message, from 1.
    """
    with psycopg.connect(url, autocommit=True) as db:
        truncate_all(db)
        db.execute(
            f"""with messages as (
                insert into sms_retry.sms_messages
                    (business_id, to_number, body, kind, on_unknown, expires_at, status, error_message)
                select {business_id}, '+4917' || lpad(n::text, 9, '0'), 'Your table is ready.', 'otp', 'resend',
                    now() + interval '3 days', 'queued', n
                from generate_series(1, {count}) n
                returning id, kind, business_id, error_message::int as n)
            insert into sms_retry.sms_retry_queue (message_id, lane, status, scheduled_for)
            select id, sms_retry.sms_lane(kind, business_id, null, false), 'pending', {due} from messages order by id"""
        )
        db.execute("vacuum analyze")


def claim_and_finish(url: str, batch: int = 100, refused_of_ten: int = 0) -> None:
    """Claim every due message and report it accepted, or, for `refused_of_ten` of each ten, refused for good."""
    with closing(Store(lambda: url)) as store:
        while claims := store.claim_due(batch):
            store.finish([_report(claim.ticket, claim.id % 10 < refused_of_ten) for claim in claims])


def sid(n: int) -> str:
    return f"SM{n:032x}"


def _report(ticket: Ticket, is_refused: bool) -> Report:
    if is_refused:
        return Report(ticket, "refused", None, 21211, "Invalid 'To' Phone Number", 400, "RQ" + "0" * 32)
    return Report(ticket, "accepted", sid(ticket.id), http_status=201, request_id="RQ" + "0" * 32)
