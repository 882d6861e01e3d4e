"""Whether this error is worth another try, and when; and whether this person may be sent this message now.

Pure functions over data: the table of codes beside this file, and the instant that the caller gives.
"""

from __future__ import annotations

import csv
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from functools import cache, lru_cache
from importlib.resources import files
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from sms_retry.retry import (
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

OPENS, CLOSES = time(8), time(21)
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


@cache
def table() -> dict[int, Line]:
    """The table of codes, by code."""
    lines = (files("sms_retry") / "error_policy.csv").read_text().splitlines()
    return {line.code: line for line in map(_line, csv.DictReader(lines))}


def judge(
    failure: Refused | Unreached, attempt: int, to_number: str, now: datetime, roll: Callable[[], float] = random.random
) -> Verdict:
    """What a POST that was not taken calls for. `attempt` counts claims; `roll` gives 0..1 for the jitter."""
    match failure:
        case Unreached():
            return Retry((_free_wait(timedelta(seconds=5), attempt, roll),), "not_connected", spends=False)
        case Refused(http_status=status, code=code):
            verdict = _verdict(_meant(status, code), attempt, to_number, now, roll)
    if isinstance(verdict, Retry) and failure.retry_after:
        return Retry(tuple(max(wait, failure.retry_after) for wait in verdict.delays), verdict.reason, verdict.spends)
    return verdict


def judge_receipt(
    code: int | None, attempt: int, to_number: str, now: datetime, roll: Callable[[], float] = random.random
) -> Verdict:
    """What a receipt that says `undelivered` or `failed` calls for."""
    if code is None:
        return Final("no_code")
    verdict = _verdict(code, attempt, to_number, now, roll)
    # The receipt itself says that it did not arrive: nothing is left to ask.
    return Final(verdict.reason) if isinstance(verdict, Ask) else verdict


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
    if claim.kind in ALWAYS_OPEN:
        return Go(min(LONGEST_VALIDITY, claim.expires_at - now))
    zones = zones_of(claim.to_number, claim.time_zone or claim.recipient_time_zone)
    opens = next_opening(zones, now)
    closes = min(closing(zone, opens) for zone in zones)
    if opens == now and closes - now >= SHORTEST_VALIDITY:
        return Go(min(LONGEST_VALIDITY, claim.expires_at - now, closes - now))
    opens = next_opening(zones, max(opens, now + SHORTEST_VALIDITY))
    return Deferred(opens - claim.claimed_at + roll() * OPENING_SPREAD, "quiet_hours")


def next_opening(zones: tuple[ZoneInfo, ...], now: datetime) -> datetime:
    """The first instant from `now` on at which it is day in every one of `zones`, in UTC."""
    at = now.astimezone(UTC)
    settled = False
    while not settled:
        settled = True
        for zone in zones:
            local = at.astimezone(zone)
            if OPENS <= local.time() < CLOSES:
                continue
            day = local.date() if local.time() < OPENS else local.date() + timedelta(days=1)
            at = datetime.combine(day, OPENS, zone).astimezone(UTC)
            settled = False
        if at - now > timedelta(days=8):
            raise ValueError(f"no hour is day in all of {', '.join(z.key for z in zones)}")
    return at


def closing(zone: ZoneInfo, at: datetime) -> datetime:
    """When the day that `zone` has at `at` ends for texting, in UTC."""
    return datetime.combine(at.astimezone(zone).date(), CLOSES, zone).astimezone(UTC)


@lru_cache(maxsize=4096)
def zones_of(to_number: str, stated: str | None) -> tuple[ZoneInfo, ...]:
    """The zones in which this person may be: the one that is stated, or every one that the number allows."""
    if stated:
        try:
            return (ZoneInfo(stated),)
        except (ZoneInfoNotFoundError, ValueError):
            pass
    import phonenumbers
    from phonenumbers import timezone

    number = phonenumbers.parse(to_number)
    for names in (timezone.time_zones_for_number(number), timezone.time_zones_for_geographical_number(number)):
        if timezone.UNKNOWN_TIMEZONE not in names:
            return tuple(ZoneInfo(name) for name in names)
    return (ZoneInfo("UTC"),)


def _line(row: dict[str, str]) -> Line:
    return Line(
        code=int(row["code"]),
        verdict=row["verdict"],
        strategy=row["strategy"],
        base=timedelta(seconds=int(row["base_seconds"] or 0)),
        retries=int(row["retries"] or 0),
        scope=row["scope"],
        spends=row["spends"] != "no",
        reason=row["reason"],
    )


def _meant(http_status: int, code: int | None) -> int | None:
    """Twilio's code, or the one that an answer without a code amounts to."""
    if code in table():
        return code
    return {401: 20003, 403: 20403, 404: 20404, 429: 20429}.get(http_status, code)


def _verdict(code: int | None, attempt: int, to_number: str, now: datetime, roll: Callable[[], float]) -> Verdict:
    line = table().get(code) if code is not None else None
    match line:
        case None:
            return Final("unlisted")
        case Line(verdict="retry", spends=False):
            return Retry((_free_wait(line.base, attempt, roll),), f"error_{code}", spends=False)
        case Line(verdict="retry"):
            return Retry(tuple(_spread(wait, roll) for wait in _waits(line)), f"error_{code}")
        case Line(verdict="hold", strategy="midnight_pacific"):
            return Hold(line.scope, _hold_key(line.scope, to_number), _until_midnight_pacific(now), f"error_{code}")
        case Line(verdict="hold"):
            return Hold(line.scope, _hold_key(line.scope, to_number), line.base, f"error_{code}")
        case Line(verdict="opt_out"):
            return StopSending()
        case Line(verdict="unknown"):
            return Ask(f"error_{code}")
        case _:
            return Final(f"error_{code}")


def _hold_key(scope: str, to_number: str) -> str:
    """Whom the hold concerns; a deployment has one account and one sender."""
    match scope:
        case "country":
            import phonenumbers

            number = phonenumbers.parse(to_number)
            # The countries that share +1 are told apart by the three digits after it.
            return f"+{number.country_code}" if number.country_code != 1 else to_number[:5]
        case "recipient":
            return to_number
        case _:
            return "*"


def _waits(line: Line) -> tuple[timedelta, ...]:
    match line.strategy:
        case "immediate":
            return (timedelta(0),) * line.retries
        case "linear":
            return tuple(line.base * n for n in range(1, line.retries + 1))
        case "exponential":
            return tuple(line.base * 2**n for n in range(line.retries))
        case _:
            return SCHEDULE


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
