"""Public holidays, from holidays.csv: those of a country, those that a state adds, and the days that observe them."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from importlib.resources import files

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY = timedelta(days=1)
# The spellings of a day: 07-04, 01-mon-3, 05-mon-last, easter; then +1 (days later) or ~mon (the Monday of its week).
SPELLING = re.compile(
    r"(?:(?P<month>\d\d)-(?:(?P<day>\d\d)|(?P<weekday>mon|tue|wed|thu|fri|sat|sun)-(?P<nth>[1-5]|last))|easter)"
    r"(?:(?P<later>[+-]\d{1,2})|(?P<monday>~mon))?"
)


@dataclass(frozen=True, slots=True)
class Holiday:
    """One row of holidays.csv; `day` is the rule that gives its date in each year."""

    region: str
    day: str
    name: str
    source: str


def is_holiday(region: str, day: date, observed: str = "") -> bool:
    """Whether `day` is a holiday in the region or observes one, as `observed` says: `sat>fri`, `sat>mon`, `sun>mon`."""
    held = [day]
    if day.weekday() == 4 and "sat>fri" in observed:
        held.append(day + DAY)
    if day.weekday() == 0 and "sun>mon" in observed:
        held.append(day - DAY)
    if day.weekday() == 0 and "sat>mon" in observed:
        held.append(day - 2 * DAY)
    return any(each in holidays(region, each.year) for each in held)


@cache
def holidays(region: str, year: int) -> frozenset[date]:
    """The holidays of a region; a state such as `US-AL` has those of its country as well."""
    country = region.partition("-")[0]
    return frozenset(date_of(holiday.day, year) for holiday in all_holidays() if holiday.region in (region, country))


@cache
def all_holidays() -> tuple[Holiday, ...]:
    with (files("sms_retry") / "holidays.csv").open(encoding="utf-8") as file:
        return tuple(Holiday(**row) for row in csv.DictReader(file))


def date_of(spelled: str, year: int) -> date:
    """The date in `year` of a day as holidays.csv spells it."""
    found = SPELLING.fullmatch(spelled)
    if not found:
        raise ValueError(f"holidays.csv: {spelled} is not the spelling of a day")
    if not found["month"]:
        first = easter(year)
    elif found["day"]:
        first = date(year, int(found["month"]), int(found["day"]))
    else:
        first = _nth(year, int(found["month"]), WEEKDAYS.index(found["weekday"]), found["nth"])
    if found["monday"]:
        # From a weekend it is the next Monday.
        return first + timedelta(days=(0, -1, -2, -3, -4, 2, 1)[first.weekday()])
    return first + timedelta(days=int(found["later"] or 0))


def easter(year: int) -> date:
    """Easter Sunday, by the anonymous Gregorian algorithm."""
    a, (b, c) = year % 19, divmod(year, 100)
    h = (19 * a + b - b // 4 - (b - (b + 8) // 25 + 1) // 3 + 15) % 30
    k = (32 + 2 * (b % 4) + 2 * (c // 4) - h - c % 4) % 7
    month, day = divmod(h + k - 7 * ((a + 11 * h + 22 * k) // 451) + 114, 31)
    return date(year, month, day + 1)


def _nth(year: int, month: int, weekday: int, nth: str) -> date:
    if nth == "last":
        return _nth(year + month // 12, month % 12 + 1, weekday, "1") - timedelta(weeks=1)
    first = date(year, month, 1)
    return first + timedelta(days=(weekday - first.weekday()) % 7, weeks=int(nth) - 1)
