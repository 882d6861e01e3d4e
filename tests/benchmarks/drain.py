"""Draining a backlog, beside a bare HTTP client, the arithmetic limit and every peer; and CPU time per message."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from functools import partial

from sms_retry import twilio, worker
from sms_retry.store import Store
from tests.benchmarks import celery_peer, limits
from tests.benchmarks.measure import Row, cpu, rate, side_by_side
from tests.benchmarks.stage import CREDENTIALS, LATENCY, SENDER, WEBHOOK_URL, Stage, fill

# Messages per place in flight: a drain takes about ROUNDS * LATENCY.
ROUNDS = 20
# 20 is the default of SEND_CONCURRENCY.
IN_FLIGHT = (10, 20, 50, 100)
BARE = "http.client alone"


def rows(stage: Stage) -> Iterator[Row]:
    fill(stage.url, 10)
    drain(stage.url, stage.twilio_url, 10, 10)  # a warm-up, for the imports
    for in_flight in IN_FLIGHT:
        yield from _beside_all(stage, in_flight)


def drain(url: str, api_url: str, in_flight: int, count: int) -> None:
    """One invocation of a warm worker: it has a connection to Postgres, and opens those to Twilio."""
    with (
        closing(Store(lambda: url)) as store,
        twilio.open_sender(CREDENTIALS, api_url, SENDER, WEBHOOK_URL) as send,
    ):
        tally = worker.drain(store, send, lambda: 300.0, in_flight)
    assert tally.success == count, tally


def _beside_all(stage: Stage, in_flight: int) -> Iterator[Row]:
    count = in_flight * ROUNDS
    bare = partial(limits.bare_http, stage.twilio_url, in_flight, count)
    ours = partial(drain, stage.url, stage.twilio_url, in_flight, count)
    cpu_times: dict[str, list[float]] = {"ours": [], BARE: []}

    def measured(name: str) -> float:
        if name == "ours":
            fill(stage.url, count)
        work = ours if name == "ours" else bare
        return rate(lambda: cpu_times[name].append(cpu(work, count)), count)

    with ExitStack() as opened:
        measures = {name: partial(measured, name) for name in cpu_times}
        for name, peer in stage.peers.items():
            few = ROUNDS * 2 if "naive" in name else count
            measures[name] = partial(peer, few, in_flight, stage.twilio_url)
        if celery_peer.is_installed():
            worker = opened.enter_context(celery_peer.celery(stage.twilio_url, in_flight))
            measures["Celery"] = partial(worker.rate, count)
        found = side_by_side(measures)

    name = f"drain, {in_flight} in flight"
    yield Row("drain", name, "messages/s", found["ours"], BARE, found[BARE], ("at least", 0.95))
    limit = [in_flight / LATENCY] * len(found["ours"])
    yield Row("drain", name, "messages/s", found["ours"], "in flight / latency", limit)
    for other in measures:
        if other not in cpu_times:
            yield Row("drain", name, "messages/s", found["ours"], other, found[other], ("at least", 1.0))
    name = f"CPU of a message, {in_flight} in flight"
    ours_cpu, bare_cpu = cpu_times["ours"], cpu_times[BARE]
    yield Row("cpu", name, "ms", ours_cpu, BARE, bare_cpu, ("at most", 2.0))
    yield Row("cpu", name, "ms", ours_cpu, "0.5 ms", [0.5] * len(ours_cpu), ("at most", 1.0))
