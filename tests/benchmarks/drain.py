"""Draining a backlog beside a bare HTTP client, the arithmetic limit and every peer; and what CPU a message takes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from functools import partial

from sms_retry import twilio, worker
from sms_retry.store import Store
from tests.benchmarks import celery_peer, limits
from tests.benchmarks.measure import Row, cpu, rate, side_by_side
from tests.benchmarks.stage import CREDENTIALS, LATENCY, SENDER, WEBHOOK_URL, Stage, fill

# A message takes LATENCY, so this many rounds of it take so many tenths of a second.
ROUNDS = 20
# 20 is what a worker has unless SEND_CONCURRENCY says otherwise.
IN_FLIGHT = (10, 20, 50, 100)
BARE = "http.client alone"


def rows(stage: Stage) -> Iterator[Row]:
    fill(stage.url, 10)
    drain(stage.url, stage.twilio_url, 10, 10)  # what is imported once is imported
    for in_flight in IN_FLIGHT:
        yield from _beside_all(stage, in_flight)


def drain(url: str, api_url: str, in_flight: int, count: int) -> None:
    """What a warm worker does in one invocation: a connection to Postgres is open, those to Twilio are made."""
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
    spent: dict[str, list[float]] = {"ours": [], BARE: []}

    def measured(name: str) -> float:
        if name == "ours":
            fill(stage.url, count)
        work = ours if name == "ours" else bare
        return rate(lambda: spent[name].append(cpu(work, count)), count)

    with ExitStack() as opened:
        measures = {name: partial(measured, name) for name in spent}
        for name, other in stage.peers.items():
            few = ROUNDS * 2 if "naive" in name else count
            measures[name] = partial(other, few, in_flight, stage.twilio_url)
        if celery_peer.is_there():
            worker = opened.enter_context(celery_peer.celery(stage.twilio_url, in_flight))
            measures["Celery"] = partial(worker.rate, count)
        found = side_by_side(measures)

    what = f"drain, {in_flight} in flight"
    yield Row("drain", what, "messages/s", found["ours"], BARE, found[BARE], ("at least", 0.95))
    limit = [in_flight / LATENCY] * len(found["ours"])
    yield Row("drain", what, "messages/s", found["ours"], "in flight / latency", limit)
    for name in measures:
        if name not in spent:
            yield Row("drain", what, "messages/s", found["ours"], name, found[name], ("at least", 1.0))
    what = f"CPU of a message, {in_flight} in flight"
    yield Row("cpu", what, "ms", spent["ours"], BARE, spent[BARE], ("at most", 2.0))
    yield Row("cpu", what, "ms", spent["ours"], "0.5 ms", [0.5] * len(spent["ours"]), ("at most", 1.0))
