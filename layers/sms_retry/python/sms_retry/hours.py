"""The hours in which a person may be texted: windows by region and kind, in every zone that the number allows."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cache, lru_cache
from importlib.resources import files
from zoneinfo import ZoneInfo

from sms_retry.holidays import is_holiday
from sms_retry.zones import region_of, zones_of

# The search for a window ends here: a message without any window until then waits past its expiry.
HORIZON = timedelta(days=14)
# Kinds that ignore the recipient's hours.
ALWAYS_OPEN = ("otp", "emergency")

Hours = tuple[time, time] | None


@dataclass(frozen=True, slots=True)
class Window:
    """A period, in UTC, in which a person may be texted."""

    opens: datetime
    closes: datetime


@dataclass(frozen=True, slots=True)
class HoursRule:
    """One row of sending_hours.csv, or of sms_hours_overrides, which has the same columns; None is closed.

    `holidays` is `open`, `closed`, or `closed` with the days that observe a weekend's holiday, such as `sun>mon`.
    """

    region: str
    kind: str
    weekdays: Hours
    saturdays: Hours
    sundays: Hours
    holidays: str = "open"
    source: str = ""

    def on(self, day: date) -> Hours:
        if self.holidays != "open" and is_holiday(self.region, day, observed=self.holidays):
            return None
        return (self.weekdays, self.saturdays, self.sundays)[max(0, day.weekday() - 4)]

    def applies_to(self, region: str) -> bool:
        """A state has the rules of its country as well; `US` is a number of no known state and has those of all."""
        return (
            self.region in ("*", region)
            or region.startswith(f"{self.region}-")
            or (region == "US" and self.region.startswith("US-"))
        )


# Compared by identity, so that the rules of a number are found quickly.
@dataclass(frozen=True, slots=True, eq=False)
class SendingHours:
    """The rules that apply: those of the release, and an operator's in place of some of them."""

    rules: tuple[HoursRule, ...]

    @classmethod
    def of(cls, overrides: Iterable[Sequence[object]] = ()) -> SendingHours:
        """`overrides` are rows in the order of the table's columns."""
        own = {(rule.region, rule.kind): rule for rule in map(_rule, overrides)}
        return cls(tuple(({_key(rule): rule for rule in hours_rules()} | own).values())) if own else release_hours()

    def next_window(
        self, to_number: str, stated_zone: str | None, kind: str, now: datetime, stated_region: str | None = None
    ) -> Window:
        """The window that is open for this number at `now`, or else the next one."""
        region = stated_region or region_of(to_number)
        return joint_window(zones_of(to_number, stated_zone), rules_for(self, region, kind), now)


@cache
def release_hours() -> SendingHours:
    """The rules of this release alone."""
    return SendingHours(hours_rules())


def joint_window(zones: tuple[ZoneInfo, ...], rules: tuple[HoursRule, ...], now: datetime) -> Window:
    """The window that is open at `now`, or else the next one, by every rule and in every zone.

    Without a window before the HORIZON, the result opens and closes at the HORIZON.
    """
    # All instants are in UTC: a sum or a difference in a zone with daylight saving time is an hour wrong at a change.
    now = at = now.astimezone(UTC)
    while at - now < HORIZON:
        windows = [_next_by(zone, rule, at) for zone in zones for rule in rules]
        opens = max(window.opens for window in windows)
        if opens <= at:
            return Window(at, min(window.closes for window in windows))
        at = opens
    return Window(now + HORIZON, now + HORIZON)


@lru_cache(maxsize=4096)
def rules_for(hours: SendingHours, region: str, kind: str) -> tuple[HoursRule, ...]:
    """The rules that apply to a region."""
    return tuple(rule for rule in hours.rules if rule.kind == kind and rule.applies_to(region))


@cache
def hours_rules() -> tuple[HoursRule, ...]:
    """The rules of this release. Their sources are mostly third parties' readings of a law, the strictest one."""
    rows = csv.reader((files("sms_retry") / "sending_hours.csv").read_text().splitlines()[1:])
    return tuple(map(_rule, rows))


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


def _key(rule: HoursRule) -> tuple[str, str]:
    return rule.region, rule.kind


def _rule(row: Sequence[object]) -> HoursRule:
    region, kind, weekdays, saturdays, sundays, holidays, source = map(str, row)
    return HoursRule(region, kind, _hours(weekdays), _hours(saturdays), _hours(sundays), holidays, source)


def _hours(text: str) -> Hours:
    if not text:
        return None
    opens, closes = map(time.fromisoformat, text.split("-"))
    return opens, closes
