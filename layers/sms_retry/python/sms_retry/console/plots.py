"""The last day as shapes: how its messages ended hour by hour, and what became of those that met an error."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from typing import Any, NamedTuple

# From below; what went wrong is on top, where it breaks the line.
ENDINGS = ("completed", "unknown", "expired", "cancelled", "failed")


class Bar(NamedTuple):
    """One hour: its segments from below as (ending, y, height), in a plot that is 100 high; and what they count."""

    hour: datetime
    x: float
    segments: list[tuple[str, float, float]]
    counts: Counter[str]


@dataclass(frozen=True, slots=True)
class Day:
    """24 hours of the clock, 240 wide; `top` is the number at 100."""

    bars: list[Bar]
    top: int
    total: Counter[str]


@dataclass(frozen=True, slots=True)
class Code:
    """The messages that met an error and have ended: those that were sent after all, and the others."""

    code: int
    recovered: int
    lost: int

    @property
    def all(self) -> int:
        return self.recovered + self.lost


def day(rows: Iterable[Any], now: datetime) -> Day:
    """The rows of sms_last_day, by the hour."""
    hours: dict[datetime, Counter[str]] = {}
    for row in rows:
        hours.setdefault(row.hour.astimezone(UTC), Counter())[row.status] += row.messages
    first = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=23)
    counts = [hours.get(first + timedelta(hours=n), Counter()) for n in range(24)]
    top = _scale(max(map(Counter.total, counts)))
    bars = [Bar(first + timedelta(hours=n), n * 10 + 1.5, _segments(each, top), each) for n, each in enumerate(counts)]
    return Day(bars, top, sum(counts, Counter()))


def codes(rows: Iterable[Any], most: int = 8) -> list[Code]:
    """The rows of sms_last_day, by code; the codes that most messages met first."""
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
    """The next number at which a scale ends well, and at half of it as well: 4, 8, 20, 40, 80, 200 ..."""
    power = 10 ** max(0, len(str(most)) - 1)
    return next(end for end in (4, 4 * power, 8 * power, 20 * power) if end >= most)
