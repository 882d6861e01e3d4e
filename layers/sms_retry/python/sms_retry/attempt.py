"""One attempt: checks the lease and the rules, sends the message, and reports the outcome."""

from __future__ import annotations

import logging
import random
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from sms_retry.hours import ALWAYS_OPEN, SendingHours
from sms_retry.numbers import e164
from sms_retry.policy import NARROWEST_SPREAD, Policy, explains
from sms_retry.values import (
    Accepted,
    Answer,
    Claim,
    Hold,
    Refused,
    Report,
    Retry,
    Send,
    Unknown,
    Unreached,
    UnreadableClaim,
    Verdict,
)

# The longest connect, the longest read, and the time to write the outcome (seconds).
SLOWEST_SEND = 40.0
# The worker gives a claim older than this (seconds) back: while the worker slept, recovery may have taken the row.
OLDEST_CLAIM = 240.0
# After so many sends in a row without a trustworthy answer Twilio, or the way to it, is down: a hold then lets one
# message a minute probe.
DOWN_AFTER = 10
DOWN_FOR = timedelta(minutes=1)
# An error before a POST, or in the judgement of a refusal, defers its message for so long: a deploy may correct it.
BROKEN_FOR = timedelta(minutes=15)

OPENING_SPREAD = timedelta(minutes=10)
# Twilio's longest ValidityPeriod, and the shortest that leaves Twilio time to deliver.
LONGEST_VALIDITY, SHORTEST_VALIDITY = timedelta(hours=10), timedelta(seconds=10)

# The runtime's logger, which writes JSON.
logger = logging.getLogger("sms-retry")


@dataclass(frozen=True, slots=True)
class Go:
    """Send the message now. Twilio must deliver it within `valid_for`, or not at all."""

    valid_for: timedelta


@dataclass(frozen=True, slots=True)
class Deferred:
    """Do not send yet: the message is due again `wait` after its claim. A deferral spends no retry."""

    wait: timedelta
    reason: str


@dataclass(frozen=True, slots=True)
class Expired:
    """The message cannot arrive before its `expires_at`; `reason` is the cause of its wait, where it waited."""

    reason: str | None = None


@dataclass(frozen=True, slots=True)
class OptedOut:
    """The person's consent does not allow a message of this kind."""


@dataclass(frozen=True, slots=True)
class NotSent:
    """No POST can send the message, whatever its time."""

    reason: str


class Attempts:
    """Makes attempts, in any number of threads; an answer that concerns the whole account stops those that follow."""

    def __init__(
        self,
        send: Send,
        policy: Policy,
        hours: SendingHours,
        seconds_left: Callable[[], float],
        only_to: tuple[str, ...] = (),
    ) -> None:
        self._send = send
        self._policy = policy
        self._hours = hours
        self._seconds_left = seconds_left
        self._only_to = only_to
        self._unanswered: Counter[str | None] = Counter()
        # The accounts and senders with which every further send would fail alike.
        self._held: set[tuple[str, str]] = set()

    def attempt(self, claim: Claim, claimed: float) -> Report:
        """`claimed` is the wall clock at the claim: the other clocks of a frozen machine may stop."""
        age = time.time() - claimed
        if not 0 <= age < OLDEST_CLAIM or self._seconds_left() < SLOWEST_SEND:
            return Report.given_back(claim.ticket)
        if isinstance(claim, UnreadableClaim):
            _log_broken(claim, claim.error)
            return Report.deferred(claim.ticket, BROKEN_FOR, reason="error")
        try:
            now = claim.claimed_at + timedelta(seconds=age)
            checked = before_sending(claim, now, self._hours, only_to=self._only_to)
        except Exception as error:
            _log_broken(claim, error)
            return Report.deferred(claim.ticket, BROKEN_FOR, reason="error")
        match checked:
            case Go() if not self._held.isdisjoint(
                (("account", claim.account or "*"), ("sender", claim.sender or "*"))
            ):
                # The claim does not know the hold yet: the next one does, and defers the message for the hold's time.
                return Report.deferred(claim.ticket, timedelta(0), reason="hold")
            case Go(valid_for=valid_for):
                return self._judged(claim, self._send(claim, valid_for))
            case Deferred(wait=wait, reason=reason):
                return Report.deferred(claim.ticket, wait, reason)
            case Expired(reason=reason):
                return Report.expired(claim.ticket, reason)
            case OptedOut():
                return Report.opted_out(claim.ticket)
            case NotSent(reason=reason):
                report = Report.not_sent(claim.ticket, reason)
                _log(claim, report)
                return report

    def _judged(self, claim: Claim, answer: Answer) -> Report:
        report = self._report(claim, answer)
        if report.outcome != "accepted":
            _log(claim, report)
        match answer:
            case Unreached() | Unknown() | Refused(http_status=503):
                self._unanswered[claim.account] += 1
            case Refused() if not explains(answer):
                self._unanswered[claim.account] += 1
            case _:
                self._unanswered[claim.account] = 0
        if self._unanswered[claim.account] >= DOWN_AFTER and not report.hold:
            report = replace(report, hold=Hold("account", claim.account or "*", DOWN_FOR, "twilio_down"))
        if report.hold and report.hold.scope in ("account", "sender"):
            self._held.add((report.hold.scope, report.hold.key))
        return report

    def _report(self, claim: Claim, answer: Answer) -> Report:
        match answer:
            case Accepted(sid=sid, http_status=status, request_id=request_id):
                return Report.accepted(claim.ticket, sid, status, request_id)
            case Unknown():
                return Report.unknown(claim.ticket, answer)
            case Refused() | Unreached():
                return Report.refused(claim.ticket, answer, self._verdict(claim, answer))

    def _verdict(self, claim: Claim, answer: Refused | Unreached) -> Verdict:
        try:
            verdict = self._policy.judge(answer, claim.attempt, claim.to_number, claim.claimed_at)
        except Exception as error:
            _log_broken(claim, error)
            return Retry((BROKEN_FOR,), "error", spends=False)
        return verdict.of(claim.sender, claim.account) if isinstance(verdict, Hold) else verdict


def before_sending(
    claim: Claim,
    now: datetime,
    hours: SendingHours,
    roll: Callable[[], float] = random.random,
    only_to: tuple[str, ...] = (),
) -> Go | Expired | OptedOut | Deferred | NotSent:
    """The checks before a POST, on a claimed message at `now`; `roll` gives 0..1 for the random part of a wait.

    A number must begin with an entry of `only_to`, unless that is empty.
    """
    number = e164(claim.to_number)
    if number is None:
        return NotSent("invalid_number")
    if only_to and not number.startswith(only_to):
        return NotSent("not_allowed")
    if claim.expires_at - now < SHORTEST_VALIDITY:
        return Expired(_waits_for(claim, now))
    if claim.consent == "opted_out" or (claim.kind == "marketing" and claim.consent != "opted_in"):
        return OptedOut()
    if claim.held_until and claim.held_until > now:
        # SQL ends these waits a second before `expires_at`: a person may clear the hold, or raise the budget, before.
        return Deferred(claim.held_until - claim.claimed_at + roll() * NARROWEST_SPREAD, "hold")
    if claim.budget_until and claim.budget_until > now:
        return Deferred(claim.budget_until - claim.claimed_at + roll() * NARROWEST_SPREAD, "budget")
    if claim.limited_until and claim.limited_until > now:
        return Deferred(claim.limited_until - claim.claimed_at, "daily_limit")
    if claim.kind in ALWAYS_OPEN:
        return Go(min(LONGEST_VALIDITY, claim.expires_at - now))
    zone, region = claim.time_zone or claim.recipient_time_zone, claim.recipient_region
    window = hours.next_window(claim.to_number, zone, claim.kind, now, region)
    if window.opens <= now and window.closes - now < SHORTEST_VALIDITY:
        window = hours.next_window(claim.to_number, zone, claim.kind, window.closes, region)
    if window.opens > now:
        left = claim.expires_at - window.opens - SHORTEST_VALIDITY
        if left < timedelta(0):
            return Expired("no_sending_hours")
        return Deferred(window.opens - claim.claimed_at + roll() * min(OPENING_SPREAD, left), "quiet_hours")
    return Go(min(LONGEST_VALIDITY, claim.expires_at - now, window.closes - now))


def _waits_for(claim: Claim, now: datetime) -> str | None:
    waits = (("hold", claim.held_until), ("budget", claim.budget_until), ("daily_limit", claim.limited_until))
    return next((reason for reason, until in waits if until and until > now), None)


def _log(claim: Claim, report: Report) -> None:
    """One line about a message that was not accepted; never a number or a text."""
    of = {"ticket": str(claim.ticket), "message_id": claim.message_id, "twilio_request_id": report.request_id}
    why = {"code": report.code, "reason": report.reason, "http_status": report.http_status}
    logger.info(report.outcome, extra={**of, **why})


def _log_broken(claim: Claim, error: Exception) -> None:
    """One line about an error; its text is left out, because it may contain a number."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(place.filename).name}:{place.lineno}"
    of = {"ticket": str(claim.ticket), "message_id": claim.message_id}
    logger.error("broken", extra={**of, "error": type(error).__name__, "where": where})
