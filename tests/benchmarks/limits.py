"""The limits for comparison: bare SQL without Python, and bare HTTP without a queue."""

from __future__ import annotations

import json
import subprocess
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from shutil import which
from tempfile import NamedTemporaryFile
from threading import local
from urllib.parse import urlencode, urlsplit

import psycopg

from local.twilio.stand_in import ACCOUNT_SID, AUTH_TOKEN

# Our two SQL functions, without our Python.
CLAIM_AND_FINISH = """
select coalesce(array_agg(id), '{}') as ids, coalesce(array_agg(attempt), '{}') as attempts,
    coalesce(array_agg('accepted'::text), '{}') as outcomes,
    coalesce(array_agg('SM' || lpad(to_hex(id), 32, '0')), '{}') as sids
from sms_retry.claim_sms(100) \\gset
select count(*) from sms_retry.finish_sms_retries(:ids, :attempts, :outcomes, :sids);
"""

# The minimum of a queue with a lease and a fence, in the queue's own table: without messages, attempts, holds and
# fairness among businesses.
CLAIM = """with due as materialized (
    select id from sms_retry.sms_retry_queue where status = 'pending' and scheduled_for <= now()
    order by scheduled_for, id limit 100 for update skip locked)
update sms_retry.sms_retry_queue q set status = 'processing', attempt = q.attempt + 1, claimed_at = now()
from due where q.id = due.id returning q.id, q.attempt"""
FINISH = """update sms_retry.sms_retry_queue q set status = 'completed', claimed_at = null, finished_at = now()
from unnest(%b::bigint[], %b::int[]) t (id, attempt)
where q.id = t.id and q.attempt = t.attempt and q.claimed_at is not null"""


def pgbench() -> str | None:
    """The path of pgbench, or None. It is part of Debian's packages, not of the embedded server."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pgbench"))
    return which("pgbench") or (str(found[-1]) if found else None)


def our_sql_alone(url: str, count: int) -> None:
    """Claim and finish `count` messages from pgbench."""
    with NamedTemporaryFile("w", suffix=".sql") as script:
        script.write(CLAIM_AND_FINISH)
        script.flush()
        turns = str(count // 100)
        # The extended protocol passes the claimed rows to the finish as parameters.
        command = [pgbench() or "pgbench", "-n", "-M", "extended", "-f", script.name, "-t", turns, url]
        subprocess.run(command, check=True, capture_output=True)


def queue_alone(url: str) -> None:
    """Claim and finish every due row, in the queue's table alone."""
    with psycopg.connect(url, autocommit=True) as db:
        db.execute("set enable_seqscan = off")
        while rows := db.execute(CLAIM).fetchall():
            ids, attempts = zip(*rows, strict=True)
            db.execute(FINISH, [list(ids), list(attempts)])


def bare_post(api_url: str) -> Callable[[int], object]:
    """A function that POSTs one message like our send, with http.client alone and one connection per thread."""
    login = b64encode(f"{ACCOUNT_SID}:{AUTH_TOKEN}".encode()).decode()
    headers = {"Authorization": f"Basic {login}", "Content-Type": "application/x-www-form-urlencoded"}
    path = f"/2010-04-01/Accounts/{ACCOUNT_SID}/Messages.json"
    own = local()

    def post(n: int) -> object:
        if not hasattr(own, "connection"):
            own.connection = HTTPConnection(urlsplit(api_url).netloc)
        own.connection.request("POST", path, form(n), headers)
        with own.connection.getresponse() as response:
            return json.loads(response.read())["sid"]

    return post


def form(n: int) -> bytes:
    return urlencode(
        {
            "To": f"+4917{n:09}",
            "Body": "Your table is ready.",
            "From": "+15005550006",
            "StatusCallback": f"https://sms.example.com/twilio/status?t={n}-1#rc=3&rp=5xx,ct,rt",
            "ValidityPeriod": 3600,
        }
    ).encode()


def bare_http(api_url: str, in_flight: int, count: int) -> None:
    """POST `count` messages from `in_flight` threads, each as fast as it is answered, without a database."""
    with ThreadPoolExecutor(in_flight) as senders:
        for _ in senders.map(bare_post(api_url), range(count)):
            pass
