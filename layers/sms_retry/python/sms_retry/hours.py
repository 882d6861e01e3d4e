"""The hours in which a person may be texted: windows by region and kind, in every zone that the number allows."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cache, lru_cache
from importlib.resources import files
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

# The search for a window ends here: a message without any window until then waits past its expiry.
HORIZON = timedelta(days=14)

Hours = tuple[time, time] | None


@dataclass(frozen=True, slots=True)
class Window:
    """A period, in UTC, in which a person may be texted."""

    opens: datetime
    closes: datetime


@dataclass(frozen=True, slots=True)
class HoursRule:
    """One row of sending_hours.csv: the hours of a region for a kind of message; None is closed."""

    region: str
    kind: str
    weekdays: Hours
    saturdays: Hours
    sundays: Hours
    closed_on_holidays: bool

    def on(self, day: date) -> Hours:
        if self.closed_on_holidays and day in us_holidays(day.year):
            return None
        return (self.weekdays, self.saturdays, self.sundays)[max(0, day.weekday() - 4)]


def next_window(to_number: str, stated_zone: str | None, kind: str, now: datetime) -> Window:
    """The window that is open for this number at `now`, or else the next one."""
    return joint_window(zones_of(to_number, stated_zone), rules_for(to_number, kind), now)


def joint_window(zones: tuple[ZoneInfo, ...], rules: tuple[HoursRule, ...], now: datetime) -> Window:
    """The window that is open at `now`, or else the next one, by every rule and in every zone.

    Without a window before the HORIZON, the result opens and closes at the HORIZON.
    """
    at = now.astimezone(UTC)
    while at - now < HORIZON:
        windows = [_next_by(zone, rule, at) for zone in zones for rule in rules]
        opens = max(window.opens for window in windows)
        if opens <= at:
            return Window(at, min(window.closes for window in windows))
        at = opens
    return Window(now + HORIZON, now + HORIZON)


@lru_cache(maxsize=4096)
def zones_of(to_number: str, stated: str | None) -> tuple[ZoneInfo, ...]:
    """The stated zone, or else every zone that the number allows."""
    if stated:
        try:
            return (ZoneInfo(stated),)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            pass
    import phonenumbers
    from phonenumbers import timezone

    number = phonenumbers.parse(to_number)
    for names in (timezone.time_zones_for_number(number), timezone.time_zones_for_geographical_number(number)):
        if timezone.UNKNOWN_TIMEZONE not in names:
            return tuple(ZoneInfo(name) for name in names)
    # The zone of a satellite phone is not known: UTC stands for it.
    return (ZoneInfo("UTC"),)


@lru_cache(maxsize=4096)
def rules_for(to_number: str, kind: str) -> tuple[HoursRule, ...]:
    """The rules that apply to a number: those of its region, or of every state where the state is not known."""
    region = _region(to_number)
    return tuple(
        rule
        for rule in hours_rules()
        if rule.kind == kind and (rule.region in ("*", region) or (region == "US" and rule.region.startswith("US-")))
    )


@cache
def hours_rules() -> tuple[HoursRule, ...]:
    """The rules of this release. Those of a US state follow third parties' readings of its law, the strictest one."""
    return tuple(
        HoursRule(
            row["region"],
            row["kind"],
            _hours(row["weekdays"]),
            _hours(row["saturdays"]),
            _hours(row["sundays"]),
            row["holidays"] == "closed",
        )
        for row in _rows("sending_hours.csv")
    )


@cache
def us_holidays(year: int) -> frozenset[date]:
    """The federal holidays of the United States: https://www.law.cornell.edu/uscode/text/5/6103."""

    def nth(month: int, weekday: int, n: int) -> date:
        first = date(year, month, 1)
        return first + timedelta(days=(weekday - first.weekday()) % 7 + 7 * (n - 1))

    last_monday_of_may = nth(6, 0, 1) - timedelta(days=7)
    fixed = {date(year, month, day) for month, day in ((1, 1), (6, 19), (7, 4), (11, 11), (12, 25))}
    moving = {nth(1, 0, 3), nth(2, 0, 3), last_monday_of_may, nth(9, 0, 1), nth(10, 0, 2), nth(11, 3, 4)}
    return frozenset(fixed | moving)


def _next_by(zone: ZoneInfo, rule: HoursRule, at: datetime) -> Window:
    """The window that is open at `at`, or the next one, by one rule in one zone."""
    # Yesterday's window may last past midnight.
    day = at.astimezone(zone).date() - timedelta(days=1)
    for _ in range(HORIZON.days + 2):
        if hours := rule.on(day):
            last = day if hours[0] < hours[1] else day + timedelta(days=1)
            opens = datetime.combine(day, hours[0], zone).astimezone(UTC)
            closes = datetime.combine(last, hours[1], zone).astimezone(UTC)
            if at < closes:
                return Window(opens, closes)
        day += timedelta(days=1)
    return Window(at + HORIZON, at + HORIZON)


@cache
def _regions() -> dict[str, str]:
    return {code: row["region"] for row in _rows("area_codes.csv") for code in row["area_codes"].split()}


def _region(to_number: str) -> str:
    """The region of a number: a state of the US, `US` for an area code of no known state, or an empty text."""
    return _regions().get(to_number[2:5], "US") if to_number.startswith("+1") else ""


def _hours(text: str) -> Hours:
    if not text:
        return None
    opens, closes = map(time.fromisoformat, text.split("-"))
    return opens, closes


def _rows(name: str) -> Iterator[dict[str, str]]:
    return csv.DictReader((files("sms_retry") / name).read_text().splitlines())
