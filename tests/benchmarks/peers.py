"""The peers: other queues, on the same Postgres and against the same stand-in, each set up as in its manual.

Each has `rate`: messages a second for `count` jobs with `in_flight` in flight; with `api_url` None a job does nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg

from local.postgres.server import Server
from local.twilio.stand_in import ACCOUNT_SID, AUTH_TOKEN
from tests.benchmarks.limits import bare_post, form

Rate = Callable[[int, int, str | None], float]
"""(count, in flight, the stand-in's URL or None) -> messages a second."""


def peers(server: Server) -> dict[str, Rate]:
    """The installed peers by name; each has its own database on `server`."""
    packages = {"procrastinate": Procrastinate, "pgqueuer": PgQueuer, "pgmq": Pgmq}
    installed = {package: peer for package, peer in packages.items() if find_spec(package)}
    rates = {peer.name: peer(server.create_database(package)).rate for package, peer in installed.items()}
    return {**rates, Naive.name: Naive(server.create_database("naive")).rate}


@asynccontextmanager
async def posting(api_url: str | None) -> AsyncIterator[Callable[[int], Awaitable[None]]]:
    """An async function that POSTs one message, or does nothing without an `api_url`."""
    import aiohttp

    url = f"{api_url}/2010-04-01/Accounts/{ACCOUNT_SID}/Messages.json"
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    login, connector = aiohttp.BasicAuth(ACCOUNT_SID, AUTH_TOKEN), aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(auth=login, headers=headers, connector=connector) as session:

        async def post(n: int) -> None:
            if api_url:
                async with session.post(url, data=form(n)) as answer:
                    assert (await answer.json())["sid"]

        yield post


class PgQueuer:
    """Its manager on asyncpg, its fastest driver, in batches of half the number in flight."""

    name = "PgQueuer"

    def __init__(self, url: str) -> None:
        self._url = url
        self._is_installed = False

    def rate(self, count: int, in_flight: int, api_url: str | None) -> float:
        return asyncio.run(self._rate(count, in_flight, api_url))

    async def _rate(self, count: int, in_flight: int, api_url: str | None) -> float:
        import asyncpg
        from pgqueuer import PgQueuer
        from pgqueuer.db import AsyncpgDriver
        from pgqueuer.queries import Queries
        from pgqueuer.types import QueueExecutionMode

        connection = await asyncpg.connect(self._url)
        queries = Queries(AsyncpgDriver(connection))
        if not self._is_installed:
            await queries.install()
            await queries.optimize_autovacuum()
            self._is_installed = True
        await queries.enqueue(["send"] * count, [b"%d" % n for n in range(count)], [0] * count)
        await connection.execute("vacuum analyze")
        worker = PgQueuer(AsyncpgDriver(connection))
        async with posting(api_url) as post:

            @worker.entrypoint("send")
            async def send(job: Any) -> None:
                await post(int(job.payload))

            started = time.perf_counter()
            await worker.run(batch_size=in_flight // 2, max_concurrent_tasks=in_flight, mode=QueueExecutionMode.drain)
            return count / (time.perf_counter() - started)


class Procrastinate:
    name = "procrastinate"

    def __init__(self, url: str) -> None:
        self._url = url
        self._is_installed = False

    def rate(self, count: int, in_flight: int, api_url: str | None) -> float:
        return asyncio.run(self._rate(count, in_flight, api_url))

    async def _rate(self, count: int, in_flight: int, api_url: str | None) -> float:
        import procrastinate

        app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=self._url))
        async with posting(api_url) as post, app.open_async():

            @app.task(name="send")
            async def send(n: int) -> None:
                await post(n)

            if not self._is_installed:
                await app.schema_manager.apply_schema_async()
                self._is_installed = True
            await send.batch_defer_async(*({"n": n} for n in range(count)))
            with psycopg.connect(self._url, autocommit=True) as db:
                db.execute("vacuum analyze")
            started = time.perf_counter()
            await app.run_worker_async(
                concurrency=in_flight, wait=False, install_signal_handlers=False, listen_notify=False
            )
            return count / (time.perf_counter() - started)


class Pgmq:
    """Only its SQL, from its wheel; the loop here reads a batch, handles it and archives it."""

    name = "pgmq"

    def __init__(self, url: str) -> None:
        import pgmq.sql

        self._url = url
        with psycopg.connect(url, autocommit=True) as db:
            db.execute((Path(pgmq.sql.__file__).parent / "pgmq.sql").read_text())
            db.execute("select pgmq.create('sms')")

    def rate(self, count: int, in_flight: int, api_url: str | None) -> float:
        with psycopg.connect(self._url, autocommit=True) as db, ThreadPoolExecutor(in_flight) as senders:
            sent = """select count(*) from pgmq.send_batch('sms',
                (select array_agg(jsonb_build_object('n', n)) from generate_series(1, %s) n))"""
            db.execute(sent, [count])
            db.execute("vacuum analyze")
            post = bare_post(api_url) if api_url else None
            started = time.perf_counter()
            while rows := db.execute("select msg_id, message from pgmq.read('sms', 300, %s)", [in_flight]).fetchall():
                if post:
                    list(senders.map(post, [message["n"] for _, message in rows]))
                db.execute("select pgmq.archive('sms', %b::bigint[])", [[id for id, _ in rows]])
            return count / (time.perf_counter() - started)


class Naive:
    """The simplest design: read the due rows; for each one update it, send it, log it and update it again."""

    name = "a naive cron job"

    def __init__(self, url: str) -> None:
        self._url = url
        with psycopg.connect(url, autocommit=True) as db:
            db.execute("create table sms (id bigserial primary key, due timestamptz, status text, attempts int)")
            db.execute("create index on sms (status, due)")
            db.execute("create table sms_log (sms_id bigint, sid text, at timestamptz default now())")

    def rate(self, count: int, in_flight: int, api_url: str | None) -> float:
        with psycopg.connect(self._url, autocommit=True) as db:
            db.execute("truncate sms, sms_log")
            filled = "insert into sms (due, status, attempts) select now(), 'due', 0 from generate_series(1, %s)"
            db.execute(filled, [count])
            db.execute("vacuum analyze")
            post = bare_post(api_url) if api_url else str
            started = time.perf_counter()
            for (id,) in db.execute("select id from sms where status = 'due' and due <= now() order by due").fetchall():
                db.execute("update sms set status = 'sending', attempts = attempts + 1 where id = %s", [id])
                db.execute("insert into sms_log (sms_id, sid) values (%s, %s)", [id, str(post(id))])
                db.execute("update sms set status = 'sent' where id = %s", [id])
            return count / (time.perf_counter() - started)
