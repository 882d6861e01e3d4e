"""The rules for Twilio's error codes: verdict, waits, and scope of a hold. An operator can override each rule."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from importlib.resources import files

# The waits after the first, the second and the third failure, where a code names no others.
SCHEDULE = (timedelta(minutes=1), timedelta(minutes=5), timedelta(minutes=15))


@dataclass(frozen=True, slots=True)
class CodeRule:
    """One row of error_policy.csv, or of sms_error_overrides, which has the same columns."""

    code: int
    verdict: str
    strategy: str
    base: timedelta
    retries: int
    scope: str
    spends: bool
    reason: str

    @property
    def waits(self) -> tuple[timedelta, ...]:
        """The waits that the rule grants, before a random extra spreads them."""
        match self.strategy:
            case "immediate":
                return (timedelta(0),) * self.retries
            case "linear":
                return tuple(self.base * n for n in range(1, self.retries + 1))
            case "exponential":
                return tuple(self.base * 2**n for n in range(self.retries))
            case _:
                return SCHEDULE


@cache
def code_rules() -> Mapping[int, CodeRule]:
    """The rules of this release, by code."""
    rows = csv.reader((files("sms_retry") / "error_policy.csv").read_text().splitlines()[1:])
    return parse(rows)


def parse(rows: Iterable[Sequence[object]]) -> Mapping[int, CodeRule]:
    """Rules by code, from rows in the order of the table's columns."""
    return {rule.code: rule for rule in map(_rule, rows)}


def _rule(row: Sequence[object]) -> CodeRule:
    code, verdict, strategy, base, retries, scope, spends, reason = map(str, row)
    return CodeRule(
        code=int(code),
        verdict=verdict,
        strategy=strategy,
        base=timedelta(seconds=int(base or 0)),
        retries=int(retries or 0),
        scope=scope,
        spends=spends not in ("no", "False"),
        reason=reason,
    )
