"""The method of every benchmark: the measures take turns, five times; the result is the ratio of the medians."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

RUNS = 5

Measure = Callable[[], float]


@dataclass(frozen=True)
class Row:
    """One line of the table: `ours` beside `theirs`, one value per run, and the goal for their ratio.

    A goal is ("at least" or "at most", a number), or None.
    """

    subject: str
    name: str
    unit: str
    ours: Sequence[float]
    beside: str
    theirs: Sequence[float]
    goal: tuple[str, float] | None = None

    @property
    def ratio(self) -> float:
        return statistics.median(self.ours) / statistics.median(self.theirs)

    @property
    def spread(self) -> tuple[float, float]:
        """The lowest and the highest ratio of a single run."""
        ratios = [ours / theirs for ours, theirs in zip(self.ours, self.theirs, strict=True)]
        return min(ratios), max(ratios)

    @property
    def reached(self) -> bool | None:
        match self.goal:
            case None:
                return None
            case ("at least", number):
                return self.ratio >= number
            case (_, number):
                return self.ratio <= number

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "ratio": self.ratio, "spread": self.spread, "reached": self.reached}


def side_by_side(measures: Mapping[str, Measure], runs: int = RUNS) -> dict[str, list[float]]:
    """The values of each measure, one per run. The measures take turns, so that other load affects all alike."""
    found: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(runs):
        for name, measure in measures.items():
            found[name].append(measure())
    return found


def rate(work: Callable[[], object], count: int) -> float:
    """Messages a second while `work` does `count` of them."""
    started = time.perf_counter()
    work()
    return count / (time.perf_counter() - started)


def cpu(work: Callable[[], object], count: int) -> float:
    """CPU milliseconds of this process per message, for `work` that does `count` messages."""
    started = time.process_time()
    work()
    return (time.process_time() - started) / count * 1000


def median_ms(work: Callable[[], object], times: int) -> float:
    """The median time of `work` in milliseconds."""
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken) * 1000
