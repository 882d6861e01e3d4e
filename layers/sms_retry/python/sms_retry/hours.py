"""When a person may be texted: windows by region and kind of message, in every zone in which that person may be."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cache, lru_cache
from importlib.resources import files
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

# Nothing is looked for beyond this: a message that finds no hour until then waits past its end, and expires.
HORIZON = timedelta(days=14)

Hours = tuple[time, time] | None


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of time, in UTC, in which a person may be texted."""

    opens: datetime
    closes: datetime


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table: the hours of a region for a kind of message; None is closed."""

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
    """The window that is open for this person at `now`, or else the next one."""
    return joint_window(zones_of(to_number, stated_zone), lines_for(to_number, kind), now)


def joint_window(zones: tuple[ZoneInfo, ...], lines: tuple[Line, ...], now: datetime) -> Window:
    """The window that is open at `now`, or else the next one, by every line and in every zone.

    Where the HORIZON shows none, it opens and closes there.
    """
    at = now.astimezone(UTC)
    while at - now < HORIZON:
        windows = [_next_by(zone, line, at) for zone in zones for line in lines]
        opens = max(window.opens for window in windows)
        if opens <= at:
            return Window(at, min(window.closes for window in windows))
        at = opens
    return Window(now + HORIZON, now + HORIZON)


@lru_cache(maxsize=4096)
def zones_of(to_number: str, stated: str | None) -> tuple[ZoneInfo, ...]:
    """The zones in which this person may be: the one that is stated, or every one that the number allows."""
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
    # A satellite phone: nobody knows where it is.
    return (ZoneInfo("UTC"),)


@lru_cache(maxsize=4096)
def lines_for(to_number: str, kind: str) -> tuple[Line, ...]:
    """The lines that hold for a number; where nobody knows which of a country's regions is its, those of all."""
    region = _region(to_number)
    return tuple(
        line
        for line in table()
        if line.kind == kind and (line.region in ("*", region) or (region == "US" and line.region.startswith("US-")))
    )


@cache
def table() -> tuple[Line, ...]:
    """The windows. A state's are what third parties say of its law, the most restrictive where they differ."""
    return tuple(
        Line(
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


def _next_by(zone: ZoneInfo, line: Line, at: datetime) -> Window:
    """The window that is open at `at`, or the next one, by one line in one zone."""
    # Yesterday's may last past midnight.
    day = at.astimezone(zone).date() - timedelta(days=1)
    for _ in range(HORIZON.days + 2):
        if hours := line.on(day):
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
    """A number's region, as far as the table tells regions apart: a state of the US, `US`, or nothing in particular."""
    return _regions().get(to_number[2:5], "US") if to_number.startswith("+1") else ""


def _hours(text: str) -> Hours:
    if not text:
        return None
    opens, closes = map(time.fromisoformat, text.split("-"))
    return opens, closes


def _rows(name: str) -> Iterator[dict[str, str]]:
    return csv.DictReader((files("sms_retry") / name).read_text().splitlines())
