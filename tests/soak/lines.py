"""The rule of flatness: a line rises if the median of its last third is above that of its middle third.

The first third is left out: it fills the tables and the caches.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

# A third shorter than the retention of seven days, with its clean-up, compares full tables with tables that still fill.
LEAST = 30


@dataclass(frozen=True)
class Line:
    """One value for each day. It may rise by the factor `limit`, or by `floor` (in its unit) if that is more."""

    name: str
    unit: str
    values: Sequence[float]
    limit: float
    floor: float = 0.0

    @property
    def middle(self) -> float:
        third = len(self.values) // 3
        return statistics.median(self.values[third : 2 * third])

    @property
    def last(self) -> float:
        return statistics.median(self.values[-(len(self.values) // 3) :])

    @property
    def most(self) -> float:
        """The highest median of the last third that is flat."""
        return max(self.middle * self.limit, self.middle + self.floor)

    @property
    def rises(self) -> bool:
        return self.last > self.most


def faults(lines: Sequence[Line]) -> list[str]:
    """A sentence for each line that rises, and for lines that are too short."""
    short = [line for line in lines if len(line.values) < LEAST]
    if short:
        return [f"{short[0].name} has {len(short[0].values)} days, and the rule needs {LEAST}: run more MINUTES"]
    return [
        f"{line.name} rises: {line.middle:.4g} {line.unit} in the middle third of the days, and {line.last:.4g} in the"
        f" last; at most {line.most:.4g} is flat"
        for line in lines
        if line.rises
    ]
