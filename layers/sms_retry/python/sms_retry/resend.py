"""The worker: claims what is due, sends it, and writes down what came of it, until nothing is due or time is short."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import timedelta
from math import ceil
from queue import Empty, SimpleQueue
from threading import Event

from sms_retry import policy
from sms_retry.retry import (
    Accepted,
    Answer,
    Ask,
    Claim,
    Deferred,
    Expired,
    Final,
    Go,
    Hold,
    OptedOut,
    Refused,
    Report,
    Retry,
    StopSending,
    Unknown,
    Unreached,
)
from sms_retry.store import Store

# Connecting and reading at their longest, and writing the answer down (seconds).
SLOWEST_SEND = 40.0
# A claim older than this (seconds) is given back rather than sent: a worker that slept must not send what may be taken
# from it meanwhile.
OLDEST_CLAIM = 240.0
# So long does one run claim (seconds): then the next tick is there, and this one only ends what it has begun.
CLAIMING = 60.0
# What a send takes as a rule (seconds), to reckon how many workers a backlog calls for.
USUAL_SEND = 0.2
# A result waits no longer than this for others to be written down with.
FLUSH_AFTER = 0.05
# So many sends in a row without an answer that can be trusted, and Twilio is down: one message a minute finds out.
DOWN_AFTER = 10
DOWN_FOR = timedelta(minutes=1)

Send = Callable[[Claim, timedelta], Answer]

# The runtime's, which makes JSON of it.
logger = logging.getLogger("sms-retry")


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
            _Pipeline(store, claim, _Worker(send, seconds_left, lines), senders, concurrency, tally).run(claims)
    return tally


def workers_for(due: int, concurrency: int) -> int:
    """How many workers send so many messages in the time in which one run claims."""
    return ceil(due * USUAL_SEND / (concurrency * CLAIMING))


def send_claimed(store: Store, send: Send, claim: Claim, seconds_left: Callable[[], float]) -> Tally:
    """Send one claimed message the way the worker does, and write down what came of it."""
    tally = Tally(processed=1)
    worker = _Worker(send, seconds_left, policy.overridden(store.overrides()))
    _write(store, [worker.attempt(claim, time.time())], tally)
    return tally


def ahead(concurrency: int) -> int:
    """How many rows are claimed beyond what is in flight: what a killed worker holds is unknown for a while."""
    return max(1, concurrency // 2)


class _Worker:
    """Makes one attempt: looks at the lease and the rules, sends, and says what is to be written down."""

    def __init__(self, send: Send, seconds_left: Callable[[], float], lines: policy.Lines) -> None:
        self._send = send
        self._lines = lines
        self._seconds_left = seconds_left
        self._unanswered = 0
        # Set when an answer, or the lack of any, has shown that every further send would fail alike.
        self._held = Event()

    def attempt(self, claim: Claim, claimed: float) -> Report:
        """`claimed` is this machine's wall clock at the claim: a frozen machine's other clocks may stand still."""
        age = time.time() - claimed
        if not 0 <= age < OLDEST_CLAIM or self._seconds_left() < SLOWEST_SEND:
            return Report(claim.ticket, "deferred", delays=(timedelta(0),), reason="given_back")
        if self._held.is_set():
            return Report(claim.ticket, "deferred", delays=(timedelta(0),), reason="hold")
        now = claim.claimed_at + timedelta(seconds=age)
        match policy.before_sending(claim, now):
            case Go(valid_for=valid_for):
                return self._judged(claim, self._send(claim, valid_for))
            case Deferred(wait=wait, reason=reason):
                return Report(claim.ticket, "deferred", delays=(wait,), reason=reason)
            case Expired():
                return Report(claim.ticket, "expired")
            case OptedOut():
                return Report(claim.ticket, "opted_out")

    def _judged(self, claim: Claim, answer: Answer) -> Report:
        report = _report(claim, answer, self._lines)
        if report.outcome != "accepted":
            _log(claim, report)
        match answer:
            case Unreached() | Unknown() | Refused(http_status=503):
                self._unanswered += 1
            case _:
                self._unanswered = 0
        if self._unanswered >= DOWN_AFTER and not report.hold:
            report = replace(report, hold=Hold("account", "*", DOWN_FOR, "twilio_down"))
        if report.hold and report.hold.scope in ("account", "sender"):
            self._held.set()
        return report


class _Pipeline:
    """Keeps every sender busy: refills from a small claim ahead, and writes results down in batches meanwhile."""

    def __init__(
        self,
        store: Store,
        claim: Callable[[int], list[Claim]],
        worker: _Worker,
        senders: ThreadPoolExecutor,
        concurrency: int,
        tally: Tally,
    ) -> None:
        self._store = store
        self._claim = claim
        self._worker = worker
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
            self._senders.submit(self._worker.attempt, claim, claimed).add_done_callback(self._answered.put)
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
        """Wait for one answer, then take all that are there; write down what waits if none comes soon."""
        try:
            answered = self._answered.get(timeout=FLUSH_AFTER if self._reports else None)
        except Empty:
            self._flush()
            return
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


def _report(claim: Claim, answer: Answer, lines: policy.Lines) -> Report:
    """What is written down about an answer, with the waits that it is granted."""
    ticket = claim.ticket
    match answer:
        case Accepted(sid=sid, http_status=status, request_id=request_id):
            return Report(ticket, "accepted", sid=sid, http_status=status, request_id=request_id)
        case Unknown(why=why, http_status=status, request_id=request_id):
            return Report(ticket, "unknown", message=why, http_status=status, request_id=request_id)
        case Unreached(why=why):
            seen = Report(ticket, "refused", message=why)
        case Refused(http_status=status, code=code, message=message, request_id=request_id):
            seen = Report(ticket, "refused", None, code, message, status, request_id)
    match policy.judge(answer, claim.attempt, claim.to_number, claim.claimed_at, lines=lines):
        case Retry(delays=delays, reason=reason, spends=spends):
            return replace(seen, delays=delays, reason=reason, spends=spends)
        case Hold(wait=wait, reason=reason) as hold:
            return replace(seen, delays=(wait,), reason=reason, spends=False, hold=hold)
        case StopSending(reason=reason) | Final(reason=reason):
            return replace(seen, reason=reason)
        case Ask(reason=reason):
            return replace(seen, outcome="unknown", reason=reason)


def _log(claim: Claim, report: Report) -> None:
    """One line about a POST that Twilio did not accept, or may not have: no number, no text."""
    of = {"ticket": str(claim.ticket), "message_id": claim.message_id, "twilio_request_id": report.request_id}
    why = {"code": report.code, "reason": report.reason, "http_status": report.http_status}
    logger.info(report.outcome, extra={**of, **why})


def _write(store: Store, reports: Sequence[Report], tally: Tally) -> None:
    # The hold first: were it last, a worker that dies in between would leave the next one to find out again.
    for hold in {report.hold for report in reports if report.hold}:
        store.open_hold(hold)
        tally.opened += 1
    written = store.finish(reports)
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
