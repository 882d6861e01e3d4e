"""The worker: claims due messages, sends them and writes the outcomes, until none is due or time is short.

A worker that lingers looks again for messages that become due meanwhile.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from math import ceil
from queue import Empty, SimpleQueue

from sms_retry.attempt import SLOWEST_SEND, Attempts
from sms_retry.hours import SendingHours
from sms_retry.policy import Policy
from sms_retry.store import Overrides, Store
from sms_retry.values import Claim, Report, Send

# One run claims for so long (seconds). After that the next tick claims, and this run only finishes its own claims.
CLAIMING = 60.0
# The usual time of a send (seconds), for the number of workers that a backlog needs.
USUAL_SEND = 0.2
# A report waits at most so long (seconds) for others in the same write.
FLUSH_AFTER = 0.05
# A lingering worker looks so often (seconds): without due messages, and while due messages wait for a pace or a hold.
IDLE_LOOK, LOOK = 1.0, 0.25
# The pause after an answer (seconds) that collects others: one wake-up per answer costs a tenth of the CPU.
GATHER = 0.005


@dataclass
class Tally:
    """The counts of one run. The five after `processed` add up to it; `failed` includes all that ended without a POST.

    `sent` counts the POSTs that Twilio accepted, and `deferrals` are by reason.
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
    broken: int = 0
    invalid: int = 0
    not_allowed: int = 0
    sent: int = 0
    holds_set: int = 0
    deferrals: Counter[str] = field(default_factory=Counter)


def drain(
    store: Store,
    send: Send,
    seconds_left: Callable[[], float],
    concurrency: int,
    most_workers: int = 1,
    call_workers: Callable[[int], None] | None = None,
    linger: float = 0,
    pause: Callable[[float], object] = time.sleep,
    only_to: tuple[str, ...] = (),
) -> Tally:
    """Recover dead workers' claims, then claim and send until nothing is due, CLAIMING is over or time is short.

    A backlog that is too large for one run calls more workers first, up to `most_workers` with this one. For `linger`
    seconds the worker looks again, about every second, for what became due; a look is one round trip.
    An unexpected error is raised after every send in flight has ended and its outcome is written.
    """
    ends = time.monotonic() + CLAIMING
    lingers_until = time.monotonic() + linger

    def lingers() -> bool:
        return time.monotonic() < min(lingers_until, ends) and seconds_left() > SLOWEST_SEND

    def claim(limit: int) -> list[Claim]:
        has_time = time.monotonic() < ends and seconds_left() > SLOWEST_SEND
        return store.claim_due(limit, stock.since) if has_time else []

    stock = store.take_stock(int(most_workers * concurrency * CLAIMING / USUAL_SEND))
    tally = Tally(recovered=stock.recovered)
    if not stock.due and not linger:
        return tally
    if call_workers and (more := min(most_workers, workers_for(stock.due, concurrency)) - 1) > 0:
        call_workers(more)
    with ThreadPoolExecutor(concurrency, thread_name_prefix="send") as senders:
        given = store.all_overrides()
        policy, hours = Policy.of(given.codes), SendingHours.of(given.hours)
        depth = concurrency + ahead(concurrency)
        is_due = bool(stock.due)
        while True:
            # One pass more for messages that became due meanwhile, or that a hold kept back until now.
            while is_due and (claims := claim(depth)):
                attempts = Attempts(send, policy, hours, seconds_left, only_to)
                _Pipeline(store, claim, attempts, senders, concurrency, tally, lingers).run(claims)
            if not lingers():
                return tally
            pause(LOOK if is_due else IDLE_LOOK)
            is_due = store.has_due()


def workers_for(due: int, concurrency: int) -> int:
    """The number of workers that send so many messages within CLAIMING."""
    return ceil(due * USUAL_SEND / (concurrency * CLAIMING))


def send_claimed(
    store: Store,
    send: Send,
    claim: Claim,
    seconds_left: Callable[[], float],
    overrides: Overrides | None = None,
    only_to: tuple[str, ...] = (),
) -> Tally:
    """Send one claimed message as the worker does, and write its outcome; `overrides` saves their reading."""
    tally = Tally(processed=1)
    given = overrides or store.all_overrides()
    attempts = Attempts(send, Policy.of(given.codes), SendingHours.of(given.hours), seconds_left, only_to)
    _write(store, [attempts.attempt(claim, time.time())], tally)
    return tally


def ahead(concurrency: int) -> int:
    """The number of rows claimed beyond those in flight. It is small: a killed worker's claims become unknown."""
    return max(1, concurrency // 2)


class _Pipeline:
    """Keeps every sending thread busy: claims a few rows ahead, and writes reports in batches meanwhile."""

    def __init__(
        self,
        store: Store,
        claim: Callable[[int], list[Claim]],
        attempts: Attempts,
        senders: ThreadPoolExecutor,
        concurrency: int,
        tally: Tally,
        lingers: Callable[[], bool],
    ) -> None:
        self._store = store
        self._claim = claim
        self._attempts = attempts
        self._senders = senders
        self._tally = tally
        self._depth = concurrency + ahead(concurrency)
        self._batch = ahead(concurrency)
        self._unfinished = 0
        self._may_claim = True
        # While some sends are slow, a lingering worker claims what becomes due meanwhile.
        self._lingers = lingers
        self._looks_at = 0.0
        self._answered: SimpleQueue[Future[Report]] = SimpleQueue()
        self._reports: list[Report] = []
        self._error: Exception | None = None

    def run(self, claims: list[Claim]) -> None:
        self._take(claims, asked=self._depth)
        while self._unfinished:
            self._collect()
            self._refill()
            if len(self._reports) >= self._batch or not self._unfinished:
                self._flush()
        self._flush()
        if self._error:
            raise self._error

    def _take(self, claims: list[Claim], asked: int) -> None:
        claimed = time.time()
        for claim in claims:
            self._senders.submit(self._attempts.attempt, claim, claimed).add_done_callback(self._answered.put)
        self._unfinished += len(claims)
        self._tally.processed += len(claims)
        self._may_claim = len(claims) == asked and not self._error
        self._looks_at = time.monotonic() + LOOK

    def _refill(self) -> None:
        room = self._depth - self._unfinished
        looks = self._may_claim or (not self._error and time.monotonic() > self._looks_at and self._lingers())
        if not looks or 2 * room < self._batch:
            return
        try:
            self._take(self._claim(room), asked=room)
        except Exception as error:
            self._error, self._may_claim = error, False

    def _collect(self) -> None:
        """Wait for one report, then collect the reports of the next moment; if none comes, write those that wait."""
        try:
            waits = FLUSH_AFTER if self._reports else LOOK if self._lingers() else None
            answered = self._answered.get(timeout=waits)
        except Empty:
            self._flush()
            return
        time.sleep(GATHER)
        while True:
            self._unfinished -= 1
            if error := answered.exception():
                self._error, self._may_claim = RuntimeError(f"a send failed: {type(error).__name__}"), False
                self._error.__cause__ = error
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
    # Holds first: if the worker dies before `finish`, the next one does not run into the same refusals.
    for hold in {report.hold for report in reports if report.hold}:
        store.set_hold(hold)
        tally.holds_set += 1
    written = store.finish(reports)
    written |= store.known([report for report in reports if report.ticket not in written])
    for report in reports:
        _count(tally, report, written.get(report.ticket))


def _count(tally: Tally, report: Report, settled: str | None) -> None:
    if settled is None:
        tally.stale += 1
    # A code without a rule is final until an operator adds one.
    tally.unlisted += report.reason == "unlisted"
    tally.broken += report.reason == "error"
    tally.invalid += report.reason == "invalid_number"
    tally.not_allowed += report.reason == "not_allowed"
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
