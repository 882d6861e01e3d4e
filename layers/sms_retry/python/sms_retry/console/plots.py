"""The last day as shapes, by hour and ending and by error code, and the segments of the last 30 days."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import accumulate, count
from typing import NamedTuple

from sms_retry.readings import EndedInHour, Usage

# From the bottom of a bar to its top, where failures stand out.
ENDINGS = ("completed", "unknown", "expired", "cancelled", "failed")


class Bar(NamedTuple):
    """One hour: its segments from the bottom as (ending, y, height) in a plot of height 100, and their numbers."""

    hour: datetime
    x: float
    segments: list[tuple[str, float, float]]
    counts: Counter[str]


@dataclass(frozen=True, slots=True)
class Day:
    """24 full hours in a plot of width 240; `top` is the number of messages at height 100."""

    bars: list[Bar]
    top: int
    total: Counter[str]


@dataclass(frozen=True, slots=True)
class Code:
    """The ended messages with this error code: `recovered` ones were sent later, `lost` ones were not."""

    code: int
    recovered: int
    lost: int

    @property
    def all(self) -> int:
        return self.recovered + self.lost


def day(rows: Iterable[EndedInHour], now: datetime) -> Day:
    """The last 24 hours, the current one last."""
    hours: dict[datetime, Counter[str]] = {}
    for row in rows:
        hours.setdefault(row.hour.astimezone(UTC), Counter())[row.status] += row.messages
    first = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=23)
    counts = [hours.get(first + timedelta(hours=n), Counter()) for n in range(24)]
    top = _scale(max(map(Counter.total, counts)))
    bars = [Bar(first + timedelta(hours=n), n * 10 + 1.5, _segments(each, top), each) for n, each in enumerate(counts)]
    return Day(bars, top, sum(counts, Counter()))


class DayBar(NamedTuple):
    """The segments of one day, as a bar of a height up to 100."""

    day: date
    x: float
    height: float
    segments: int


@dataclass(frozen=True, slots=True)
class Month:
    """30 days in a plot of width 240; `top` is the number of segments at height 100."""

    bars: list[DayBar]
    top: int
    total: int


def month(rows: Iterable[Usage], now: datetime) -> Month:
    """The segments of the last 30 days (UTC), today last."""
    of_day = {row.name: row.segments for row in rows}
    days = [now.astimezone(UTC).date() - timedelta(days=n) for n in range(29, -1, -1)]
    counts = [of_day.get(day.isoformat(), 0) for day in days]
    top = _scale(max(counts))
    bars = [
        DayBar(day, n * 8 + 1.0, round(100 * count / top, 2), count)
        for n, (day, count) in enumerate(zip(days, counts, strict=True))
    ]
    return Month(bars, top, sum(counts))


def codes(rows: Iterable[EndedInHour], most: int = 8) -> list[Code]:
    """The codes of the last day, the most frequent first."""
    recovered: Counter[int] = Counter()
    lost: Counter[int] = Counter()
    for row in rows:
        if row.error_code is not None:
            (recovered if row.status == "completed" else lost)[row.error_code] += row.messages
    return [Code(code, recovered[code], lost[code]) for code, _ in (recovered + lost).most_common(most)]


def _segments(counts: Mapping[str, int], top: int) -> list[tuple[str, float, float]]:
    present = [ending for ending in ENDINGS if counts.get(ending)]
    heights = [100 * counts[ending] / top for ending in present]
    tops = [100 - reached for reached in accumulate(heights)]
    return [(ending, round(y, 2), round(height, 2)) for ending, y, height in zip(present, tops, heights, strict=True)]


def _scale(most: int) -> int:
    """The next round number with a round half: 4, 8, 20, 40, 80, 200 ..."""
    return int(next(end * 10**zeros for zeros in count() for end in (4, 8, 20) if end * 10**zeros >= most))
