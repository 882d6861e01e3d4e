"""One attempt: looks at the lease and at the rules, sends, and says what is to be written down of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from threading import Event

from sms_retry import policy
from sms_retry.values import (
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

# Connecting and reading at their longest, and writing the answer down (seconds).
SLOWEST_SEND = 40.0
# A claim older than this (seconds) is given back rather than sent: a worker that slept must not send what may be taken
# from it meanwhile.
OLDEST_CLAIM = 240.0
# So many sends in a row without an answer that can be trusted, and Twilio is down: one message a minute finds out.
DOWN_AFTER = 10
DOWN_FOR = timedelta(minutes=1)

Send = Callable[[Claim, timedelta], Answer]

# The runtime's, which makes JSON of it.
logger = logging.getLogger("sms-retry")


class Attempts:
    """Makes attempts, in any number of threads; what one of them has shown of Twilio holds for those after it."""

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
        report = _read(claim, answer, self._lines)
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


def _read(claim: Claim, answer: Answer, lines: policy.Lines) -> Report:
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
