"""Latency: the seconds from the queueing of one message to its send, and the connections of the worker that waits."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from datetime import timedelta
from importlib.util import find_spec
from typing import Any

import psycopg

from sms_retry import worker
from sms_retry.store import Store
from sms_retry.values import Accepted, Answer, Claim, Message
from tests.benchmarks.measure import Row
from tests.benchmarks.stage import Stage, fill, sid

# One message at a time, at every part of a second.
COUNT, BETWEEN = 20, 1.3
CONNECTIONS = """select count(*) from pg_stat_activity
where datname = current_database() and backend_type = 'client backend'"""


@dataclass
class Waited:
    """`queued` and `sent` are instants by message; `connections` are those of the worker while it waits."""

    queued: dict[int, float] = field(default_factory=dict)
    sent: dict[int, float] = field(default_factory=dict)
    connections: int = 0

    @property
    def median(self) -> float:
        return statistics.median(self._seconds)

    @property
    def percentile_95(self) -> float:
        return self._seconds[int(len(self._seconds) * 0.95)]

    @property
    def _seconds(self) -> list[float]:
        return sorted(self.sent[n] - at for n, at in self.queued.items())


def rows(stage: Stage) -> Iterator[Row]:
    ours = _ours(stage.url)
    name = "from queue_sms_retry to the POST, one lingering worker"
    yield Row("latency", f"{name}: median", "s", [ours.median], "one second", [1.0], ("at most", 1.0))
    yield Row("latency", f"{name}: 95th percentile", "s", [ours.percentile_95], "two seconds", [2.0], ("at most", 1.0))
    for peer, measure in {"pgqueuer": _pgqueuer, "procrastinate": _procrastinate}.items():
        if find_spec(peer):
            theirs, beside = measure(stage.server.create_database(f"{peer}_latency")), f"{peer} with LISTEN"
            yield Row("latency", f"{name}: median", "s", [ours.median], beside, [theirs.median])
            yield Row("latency", f"{name}: 95th percentile", "s", [ours.percentile_95], beside, [theirs.percentile_95])
            name_of_price, price = "connections of the waiting worker", [float(theirs.connections)]
            yield Row("latency", name_of_price, "connections", [float(ours.connections)], beside, price)


def _ours(url: str) -> Waited:
    fill(url, 0)
    waited = Waited()
    ends = time.monotonic() + COUNT * BETWEEN + 2

    def send(claim: Claim, _valid_for: timedelta) -> Answer:
        waited.sent[claim.message_id] = time.monotonic()
        return Accepted(sid(claim.id), 201, None)

    def work() -> None:
        with closing(Store(lambda: url)) as store:
            worker.drain(store, send, lambda: 300.0 if time.monotonic() < ends else 0.0, 20, linger=50)

    with ThreadPoolExecutor(1) as background, closing(Store(lambda: url)) as store:
        store.overrides()
        before = _connections(url)
        working = background.submit(work)
        for _ in range(COUNT):
            time.sleep(BETWEEN)
            at = time.monotonic()
            waited.queued[store.queue(Message("+4917600000001", "Your code is 123456.", kind="otp"))] = at
        waited.connections = _connections(url) - before
        working.result()
    return waited


def _pgqueuer(url: str) -> Waited:
    async def measured() -> Waited:
        import asyncpg
        from pgqueuer import PgQueuer
        from pgqueuer.db import AsyncpgDriver
        from pgqueuer.queries import Queries

        queries = Queries(AsyncpgDriver(await asyncpg.connect(url)))
        await queries.install()

        @asynccontextmanager
        async def working(waited: Waited) -> AsyncIterator[None]:
            worker = PgQueuer(AsyncpgDriver(await asyncpg.connect(url)))

            @worker.entrypoint("send")
            async def send(job: Any) -> None:
                waited.sent[int(job.payload)] = time.monotonic()

            running = asyncio.create_task(worker.run(max_concurrent_tasks=20))
            yield
            worker.shutdown.set()
            await running

        return await _measured(url, working, lambda n: queries.enqueue(["send"], [b"%d" % n], [0]))

    return asyncio.run(measured())


def _procrastinate(url: str) -> Waited:
    async def measured() -> Waited:
        import procrastinate

        queueing = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=url))
        app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=url))

        @asynccontextmanager
        async def working(waited: Waited) -> AsyncIterator[None]:
            async with app.open_async():

                @app.task(name="send")
                async def send(n: int) -> None:
                    waited.sent[n] = time.monotonic()

                running = asyncio.create_task(app.run_worker_async(concurrency=20, install_signal_handlers=False))
                yield
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)

        async with queueing.open_async():
            await queueing.schema_manager.apply_schema_async()
            return await _measured(url, working, lambda n: queueing.configure_task("send").defer_async(n=n))

    return asyncio.run(measured())


async def _measured(url: str, working: Callable[[Waited], Any], queue: Callable[[int], Awaitable[object]]) -> Waited:
    waited = Waited()
    before = _connections(url)
    async with working(waited):
        for n in range(COUNT):
            await asyncio.sleep(BETWEEN)
            waited.queued[n] = time.monotonic()
            await queue(n)
        await asyncio.sleep(1)
        waited.connections = _connections(url) - before
    return waited


def _connections(url: str) -> int:
    with psycopg.connect(url) as db:
        return int((db.execute(CONNECTIONS).fetchone() or (0,))[0])
