"""The worker: claims what is due, sends it, and writes down what came of it, until nothing is due or time is short."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from math import ceil
from queue import Empty, SimpleQueue

from sms_retry import policy
from sms_retry.attempt import SLOWEST_SEND, Attempts, Send
from sms_retry.store import Store
from sms_retry.values import Claim, Report

# So long does one run claim (seconds): then the next tick is there, and this one only ends what it has begun.
CLAIMING = 60.0
# What a send takes as a rule (seconds), to reckon how many workers a backlog calls for.
USUAL_SEND = 0.2
# A result waits no longer than this for others to be written down with.
FLUSH_AFTER = 0.05
# And so long is waited after an answer (seconds), since others come with it: to wake for each costs a tenth of the CPU.
GATHER = 0.005


@dataclass
class Tally:
    """What one run did; the five after `processed` add up to it, and `failed` counts expired and opted out.

    `sent` counts the POSTs that Twilio accepted, `opened` the holds; `deferrals` are by reason.
    """

    recovered: int = 0
    processed: int = 0
    success: int = 0
    failed: int = 0
    rescheduled: int = 0
    deferred: int = 0
    unknown: int = 0
    stale: int = 0
    unlisted: int = 0
    sent: int = 0
    opened: int = 0
    deferrals: Counter[str] = field(default_factory=Counter)


def drain(
    store: Store,
    send: Send,
    seconds_left: Callable[[], float],
    concurrency: int,
    most_workers: int = 1,
    call_workers: Callable[[int], None] | None = None,
) -> Tally:
    """Take back, claim and send until nothing is due, CLAIMING is over or there is no time for one more send.

    Where more is due than one run can send, it calls so many more workers first, up to `most_workers` with this one.
    Raises what surprised it, after everything in flight has been waited for and written down.
    """
    ends = time.monotonic() + CLAIMING

    def claim(limit: int) -> list[Claim]:
        has_time = time.monotonic() < ends and seconds_left() > SLOWEST_SEND
        return store.claim_due(limit) if has_time else []

    recovered, due = store.take_stock(int(most_workers * concurrency * CLAIMING / USUAL_SEND))
    tally = Tally(recovered=recovered)
    if not due:
        return tally
    if call_workers and (more := min(most_workers, workers_for(due, concurrency)) - 1) > 0:
        call_workers(more)
    with ThreadPoolExecutor(concurrency, thread_name_prefix="send") as senders:
        lines = policy.overridden(store.overrides())
        depth = concurrency + ahead(concurrency)
        # Again for what came due meanwhile, and for what a hold that closed lets through.
        while claims := claim(depth):
            _Pipeline(store, claim, Attempts(send, seconds_left, lines), senders, concurrency, tally).run(claims)
    return tally


def workers_for(due: int, concurrency: int) -> int:
    """How many workers send so many messages in the time in which one run claims."""
    return ceil(due * USUAL_SEND / (concurrency * CLAIMING))


def send_claimed(store: Store, send: Send, claim: Claim, seconds_left: Callable[[], float]) -> Tally:
    """Send one claimed message the way the worker does, and write down what came of it."""
    tally = Tally(processed=1)
    attempts = Attempts(send, seconds_left, policy.overridden(store.overrides()))
    _write(store, [attempts.attempt(claim, time.time())], tally)
    return tally


def ahead(concurrency: int) -> int:
    """How many rows are claimed beyond what is in flight: what a killed worker holds is unknown for a while."""
    return max(1, concurrency // 2)


class _Pipeline:
    """Keeps every sender busy: refills from a small claim ahead, and writes results down in batches meanwhile."""

    def __init__(
        self,
        store: Store,
        claim: Callable[[int], list[Claim]],
        attempts: Attempts,
        senders: ThreadPoolExecutor,
        concurrency: int,
        tally: Tally,
    ) -> None:
        self._store = store
        self._claim = claim
        self._attempts = attempts
        self._senders = senders
        self._tally = tally
        self._depth = concurrency + ahead(concurrency)
        self._batch = ahead(concurrency)
        self._in_hand = 0
        self._more = True
        self._answered: SimpleQueue[Future[Report]] = SimpleQueue()
        self._reports: list[Report] = []
        self._surprise: Exception | None = None

    def run(self, claims: list[Claim]) -> None:
        self._take(claims, asked=self._depth)
        while self._in_hand:
            self._collect()
            self._refill()
            if len(self._reports) >= self._batch or not self._in_hand:
                self._flush()
        self._flush()
        if self._surprise:
            raise self._surprise

    def _take(self, claims: list[Claim], asked: int) -> None:
        claimed = time.time()
        for claim in claims:
            self._senders.submit(self._attempts.attempt, claim, claimed).add_done_callback(self._answered.put)
        self._in_hand += len(claims)
        self._tally.processed += len(claims)
        self._more = len(claims) == asked and not self._surprise

    def _refill(self) -> None:
        room = self._depth - self._in_hand
        if not self._more or 2 * room < self._batch:
            return
        try:
            self._take(self._claim(room), asked=room)
        except Exception as surprise:
            self._surprise, self._more = surprise, False

    def _collect(self) -> None:
        """Wait for one answer and a moment, then take all that are there; write down what waits if none comes soon."""
        try:
            answered = self._answered.get(timeout=FLUSH_AFTER if self._reports else None)
        except Empty:
            self._flush()
            return
        time.sleep(GATHER)
        while True:
            self._in_hand -= 1
            if error := answered.exception():
                self._surprise, self._more = RuntimeError(f"a send failed: {type(error).__name__}"), False
                self._surprise.__cause__ = error
            else:
                self._reports.append(answered.result())
            try:
                answered = self._answered.get_nowait()
            except Empty:
                return

    def _flush(self) -> None:
        reports, self._reports = self._reports, []
        _write(self._store, reports, self._tally)


def _write(store: Store, reports: Sequence[Report], tally: Tally) -> None:
    # The hold first: were it last, a worker that dies in between would leave the next one to find out again.
    for hold in {report.hold for report in reports if report.hold}:
        store.open_hold(hold)
        tally.opened += 1
    written = store.finish(reports)
    written |= store.known([report for report in reports if report.ticket not in written])
    for report in reports:
        _count(tally, report, written.get(report.ticket))


def _count(tally: Tally, report: Report, settled: str | None) -> None:
    if settled is None:
        tally.stale += 1
    # A code that the table lacks was taken for final: somebody should look it up.
    tally.unlisted += report.reason == "unlisted"
    tally.sent += report.outcome == "accepted"
    if report.outcome == "deferred":
        tally.deferrals[report.reason or ""] += 1
    believed = {"accepted": "completed", "unknown": "unknown", "deferred": "pending"}.get(report.outcome, "failed")
    match settled or believed:
        case "completed":
            tally.success += 1
        case "unknown":
            tally.unknown += 1
        case "pending" if report.outcome == "deferred":
            tally.deferred += 1
        case "pending":
            tally.rescheduled += 1
        case _:
            tally.failed += 1
