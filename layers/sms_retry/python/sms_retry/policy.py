"""Whether this error is worth another try, and when; and whether this person may be sent this message now.

Pure functions over data: the table of codes beside this file, and the instant that the caller gives.
"""

from __future__ import annotations

import csv
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from functools import cache
from importlib.resources import files
from zoneinfo import ZoneInfo

from sms_retry.hours import next_window
from sms_retry.values import (
    Ask,
    Claim,
    Deferred,
    Expired,
    Final,
    Go,
    Hold,
    OptedOut,
    Refused,
    Retry,
    StopSending,
    Unreached,
    Verdict,
)

SCHEDULE = (timedelta(minutes=1), timedelta(minutes=5), timedelta(minutes=15))
LONGEST_WAIT = timedelta(hours=12)
# What is nobody's fault is tried again soon, so that the queue drains at full speed when an outage ends.
LONGEST_FREE_WAIT = timedelta(minutes=5)
# Wider than the minute between two ticks, or what failed together would come back together.
NARROWEST_SPREAD = timedelta(seconds=90)

ALWAYS_OPEN = ("otp", "emergency")
OPENING_SPREAD = timedelta(minutes=10)
# Twilio's longest; and the shortest that leaves it time to hand the message on.
LONGEST_VALIDITY, SHORTEST_VALIDITY = timedelta(hours=10), timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table of codes."""

    code: int
    verdict: str
    strategy: str
    base: timedelta
    retries: int
    scope: str
    spends: bool
    reason: str


Lines = Mapping[int, Line]


@cache
def table() -> Lines:
    """The release's table of codes, by code."""
    rows = csv.reader((files("sms_retry") / "error_policy.csv").read_text().splitlines()[1:])
    return {line.code: line for line in map(_line, rows)}


def overridden(overrides: Iterable[Sequence[object]]) -> Lines:
    """The table with an operator's own lines in it, each in the order of the table's columns."""
    ours = {line.code: line for line in map(_line, overrides)}
    return {**table(), **ours} if ours else table()


def waits(line: Line) -> tuple[timedelta, ...]:
    """The waits that a line grants, before anything is added to spread them."""
    match line.strategy:
        case "immediate":
            return (timedelta(0),) * line.retries
        case "linear":
            return tuple(line.base * n for n in range(1, line.retries + 1))
        case "exponential":
            return tuple(line.base * 2**n for n in range(line.retries))
        case _:
            return SCHEDULE


def judge(
    failure: Refused | Unreached,
    attempt: int,
    to_number: str,
    now: datetime,
    roll: Callable[[], float] = random.random,
    lines: Lines | None = None,
) -> Verdict:
    """What a POST that was not taken calls for.

    `attempt` counts claims; `roll` gives 0..1 for the jitter; `lines` is the table with what operators overrode in it.
    """
    match failure:
        case Unreached():
            return Retry((_free_wait(timedelta(seconds=5), attempt, roll),), "not_connected", spends=False)
        case Refused(http_status=status, code=code):
            known = table() if lines is None else lines
            verdict = _verdict(_meant(status, code, known), attempt, to_number, now, roll, known)
    if isinstance(verdict, Retry) and failure.retry_after:
        return Retry(tuple(max(wait, failure.retry_after) for wait in verdict.delays), verdict.reason, verdict.spends)
    return verdict


def judge_receipt(
    status: str,
    code: int | None,
    attempt: int,
    to_number: str,
    now: datetime,
    roll: Callable[[], float] = random.random,
    lines: Lines | None = None,
) -> Verdict:
    """What a receipt calls for: one that says `failed`, of a message that never left Twilio, or `undelivered`."""
    if code is None:
        return Final("no_code")
    verdict = _verdict(code, attempt, to_number, now, roll, table() if lines is None else lines)
    match verdict:
        # The receipt is the answer. Sending again can repeat only what has left Twilio.
        case Ask(reason=reason) if status == "failed":
            return Retry(tuple(_spread(wait, roll) for wait in SCHEDULE), reason)
        case Ask(reason=reason):
            return Final(reason)
        case _:
            return verdict


def before_sending(
    claim: Claim, now: datetime, roll: Callable[[], float] = random.random
) -> Go | Expired | OptedOut | Deferred:
    """Whether a claimed message may be sent at `now`."""
    if claim.expires_at - now < SHORTEST_VALIDITY:
        return Expired()
    if claim.consent == "opted_out" or (claim.kind == "marketing" and claim.consent != "opted_in"):
        return OptedOut()
    if claim.held_until and claim.held_until > now:
        return Deferred(claim.held_until - claim.claimed_at + roll() * NARROWEST_SPREAD, "hold")
    if claim.limited_until and claim.limited_until > now:
        return Deferred(claim.limited_until - claim.claimed_at, "daily_limit")
    if claim.kind in ALWAYS_OPEN:
        return Go(min(LONGEST_VALIDITY, claim.expires_at - now))
    window = next_window(claim.to_number, claim.time_zone or claim.recipient_time_zone, claim.kind, now)
    if window.opens <= now and window.closes - now < SHORTEST_VALIDITY:
        window = next_window(claim.to_number, claim.time_zone or claim.recipient_time_zone, claim.kind, window.closes)
    if window.opens > now:
        return Deferred(window.opens - claim.claimed_at + roll() * OPENING_SPREAD, "quiet_hours")
    return Go(min(LONGEST_VALIDITY, claim.expires_at - now, window.closes - now))


def _line(row: Sequence[object]) -> Line:
    code, verdict, strategy, base, retries, scope, spends, reason = map(str, row)
    return Line(
        code=int(code),
        verdict=verdict,
        strategy=strategy,
        base=timedelta(seconds=int(base or 0)),
        retries=int(retries or 0),
        scope=scope,
        spends=spends not in ("no", "False"),
        reason=reason,
    )


def _meant(http_status: int, code: int | None, lines: Lines) -> int | None:
    """Twilio's code, or the one that an answer without a code amounts to."""
    if code in lines:
        return code
    return {401: 20003, 403: 20403, 404: 20404, 429: 20429}.get(http_status, code)


def _verdict(
    code: int | None, attempt: int, to_number: str, now: datetime, roll: Callable[[], float], lines: Lines
) -> Verdict:
    line = lines.get(code) if code is not None else None
    match line:
        case None:
            return Final("unlisted")
        case Line(verdict="retry", spends=False):
            return Retry((_free_wait(line.base, attempt, roll),), f"error_{code}", spends=False)
        case Line(verdict="retry"):
            return Retry(tuple(_spread(wait, roll) for wait in waits(line)), f"error_{code}")
        case Line(verdict="hold", strategy=strategy):
            key = _hold_key(line.scope, to_number)
            wait = _until_midnight_pacific(now) if strategy == "midnight_pacific" else line.base
            return Hold(line.scope, key, wait, f"error_{code}") if key else Final(f"error_{code}")
        case Line(verdict="opt_out"):
            return StopSending()
        case Line(verdict="unknown"):
            return Ask(f"error_{code}")
        case _:
            return Final(f"error_{code}")


def _hold_key(scope: str, to_number: str) -> str | None:
    """Whom the hold concerns, if that can be told; a deployment has one account and one sender."""
    match scope:
        case "country":
            import phonenumbers

            try:
                number = phonenumbers.parse(to_number)
            except phonenumbers.NumberParseException:
                return None
            # The countries that share +1 are told apart by the three digits after it.
            return f"+{number.country_code}" if number.country_code != 1 else to_number[:5]
        case "recipient":
            return to_number or None
        case _:
            return "*"


def _spread(wait: timedelta, roll: Callable[[], float]) -> timedelta:
    if not wait:
        return wait
    return min(LONGEST_WAIT, wait) + roll() * max(NARROWEST_SPREAD, wait / 2)


def _free_wait(base: timedelta, attempt: int, roll: Callable[[], float]) -> timedelta:
    return _spread(min(LONGEST_FREE_WAIT, base * 2 ** min(max(attempt, 1) - 1, 10)), roll)


def _until_midnight_pacific(now: datetime) -> timedelta:
    pacific = ZoneInfo("America/Los_Angeles")
    tomorrow = now.astimezone(pacific).date() + timedelta(days=1)
    return datetime.combine(tomorrow, time(0), pacific).astimezone(UTC) - now
