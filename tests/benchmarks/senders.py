"""Senders: the price of ranks and paces in the claim, the accuracy of a pace, and an otp behind a campaign."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from functools import partial

import psycopg

from sms_retry import worker
from sms_retry.store import Store
from sms_retry.values import Accepted, Answer, Claim, Message
from tests.benchmarks.measure import Row, rate, side_by_side
from tests.benchmarks.stage import Stage, claim_and_finish, fill, sid

COUNT = 10_000
# Segments a second, how long a pace is measured, and the window that it is checked in (seconds).
PACE, SECONDS, WINDOW = 20, 20, 10
WORKERS = (1, 2, 4, 8)
# Every second row has the next rank and its own sender.
SPREAD = """with moved as (
    update sms_retry.sms_messages set sender = '+1555' || lpad((id %% %(senders)s)::text, 7, '0'), segments = 1,
        kind = (array['otp', 'transactional', 'marketing'])[1 + id %% 3]
    returning id, kind, business_id, sender)
update sms_retry.sms_retry_queue q set lane = sms_retry.sms_lane(m.kind, m.business_id, m.sender, false)
from moved m where q.message_id = m.id"""


def rows(stage: Stage) -> Iterator[Row]:
    def claimed(senders: int, is_paced: bool) -> float:
        fill(stage.url, COUNT, business_id=f"'b' || n % {senders}")
        if is_paced:
            _pace_all(stage.url, senders)
        return rate(partial(claim_and_finish, stage.url), COUNT)

    for senders in (1, 1_000):
        measures = {"with": partial(claimed, senders, True), "without": partial(claimed, senders, False)}
        found = side_by_side(measures)
        name = f"claim and finish, {senders:,} businesses: ranks, senders and paces in use"
        yield Row("senders", name, "messages/s", found["with"], "without", found["without"], ("at least", 0.9))
    for workers in WORKERS:
        sent = _sent(stage.url, workers)
        used, most = [len(sent) / SECONDS], [float(_most_in_a_window(sent))]
        of, allowed = f"a pace, {workers} workers", [float(PACE * (WINDOW + 1))]
        yield Row("senders", f"{of}: used", "segments/s", used, "the pace", [float(PACE)], ("at least", 0.95))
        name = f"{of}: the most in ten seconds"
        yield Row("senders", name, "segments", most, "eleven seconds of the pace", allowed, ("at most", 1.0))
    waits = [_otp_behind_a_campaign(stage.url) for _ in range(5)]
    name = "an otp behind 100,000 marketing messages of a paced sender, from commit to POST"
    yield Row("senders", name, "s", waits, "two seconds", [2.0] * 5, ("at most", 1.0))


def _pace_all(url: str, senders: int) -> None:
    with psycopg.connect(url, autocommit=True) as db:
        db.execute(
            "insert into sms_retry.sms_senders (sender, segments_per_second, number, filled_at)"
            " select '+1555' || lpad((n - 1)::text, 7, '0'), 1000000, n, now() - interval '1 minute'"
            " from generate_series(1, %s) n",
            [senders],
        )
        db.execute(SPREAD, {"senders": senders})
        db.execute("vacuum analyze")


def _campaign(url: str, count: int) -> None:
    """Due messages in the lane of marketing, of one paced sender: that of the deployment.

    Their kind has no sending hours, so that the result does not depend on the time of day.
    """
    fill(url, count)
    with psycopg.connect(url, autocommit=True) as db:
        db.execute("update sms_retry.sms_messages set kind = 'emergency', segments = 1")
        db.execute("select sms_retry.set_sms_sender('*', segments_per_second => %s)", [PACE])
        lane = "sms_retry.sms_lane('marketing', 'default', null, false)"
        db.execute(f"update sms_retry.sms_retry_queue set lane = {lane}")
        db.execute("vacuum analyze")


def _sent(url: str, workers: int) -> list[float]:
    """The instants of the POSTs of `workers` lingering workers in SECONDS, while messages of one segment wait."""
    _campaign(url, 2 * PACE * SECONDS)
    sent: list[float] = []

    def send(claim: Claim, _valid_for: timedelta) -> Answer:
        sent.append(time.monotonic())
        return Accepted(sid(claim.id), 201, None)

    ends = time.monotonic() + SECONDS
    _work(url, workers, send, ends)
    return sorted(sent)


def _most_in_a_window(sent: list[float]) -> int:
    """A sender saves the segments of one second, so that ten seconds may have those of eleven."""
    return max(bisect_right(sent, at + WINDOW) - n for n, at in enumerate(sent))


def _otp_behind_a_campaign(url: str) -> float:
    """Seconds from the commit of an otp to its POST."""
    _campaign(url, 100_000)
    posted: list[float] = []
    ends = time.monotonic() + 8

    def send(claim: Claim, _valid_for: timedelta) -> Answer:
        if claim.kind == "otp":
            posted.append(time.monotonic())
        return Accepted(sid(claim.id), 201, None)

    with ThreadPoolExecutor(1) as background, closing(Store(lambda: url)) as store:
        working = background.submit(_work, url, 1, send, ends)
        time.sleep(4)
        store.queue(Message("+4917600000001", "Your code is 123456.", kind="otp"))
        committed = time.monotonic()
        working.result()
    return posted[0] - committed


def _work(url: str, workers: int, send: worker.Send, ends: float) -> None:
    def drain(_n: int) -> None:
        def left() -> float:
            return 300.0 if time.monotonic() < ends else 0.0

        with closing(Store(lambda: url)) as store:
            worker.drain(store, send, left, 20, linger=50)

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(drain, range(workers)))
