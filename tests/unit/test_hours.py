"""The hours in which a person may be texted, by region and kind."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest

from sms_retry import hours
from sms_retry.hours import HORIZON, HoursRule, joint_window, next_window, rules_for, us_holidays

CHICAGO = ZoneInfo("America/Chicago")


def local(text: str, zone: str = "America/Chicago") -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)


def test_every_rule_has_a_region_that_numbers_have_and_hours_of_the_day() -> None:
    regions = set(hours._regions().values())
    for rule in hours.hours_rules():
        assert rule.region == "*" or rule.region in regions
        assert rule.kind in ("transactional", "marketing")
        for day in (rule.weekdays, rule.saturdays, rule.sundays):
            assert day is None or time(8) <= day[0] < day[1] <= time(21)


def test_no_area_code_is_in_two_regions() -> None:
    codes = [code for row in hours._rows("area_codes.csv") for code in row["area_codes"].split()]
    assert len(codes) == len(set(codes))
    assert all(len(code) == 3 and code.isdigit() for code in codes)


@pytest.mark.parametrize(
    ("number", "zone", "now", "opens"),
    [
        # Alabama: not on a Sunday, nor on a holiday.
        ("+12055550123", "America/Chicago", "2026-11-22T12:00", "2026-11-23T08:00"),
        ("+12055550123", "America/Chicago", "2026-11-26T12:00", "2026-11-27T08:00"),
        ("+12055550123", "America/Chicago", "2026-11-23T20:00", "2026-11-24T08:00"),
        # Texas: a later Sunday.
        ("+12145550123", "America/Chicago", "2026-11-22T09:30", "2026-11-22T12:00"),
        # Rhode Island: a short Saturday, and no Sunday.
        ("+14015550123", "America/New_York", "2026-11-21T17:00", "2026-11-23T09:00"),
        # Kentucky: late every day.
        ("+15025550123", "America/New_York", "2026-11-23T09:59", "2026-11-23T10:00"),
        # Germany has no rule: the common hours.
        ("+4915112345678", "Europe/Berlin", "2026-11-22T07:00", "2026-11-22T08:00"),
    ],
)
def test_marketing_keeps_the_hours_of_the_recipients_state(number: str, zone: str, now: str, opens: str) -> None:
    window = next_window(number, zone, "marketing", local(now, zone))
    assert window.opens == local(opens, zone)


def test_transactional_messages_keep_the_common_hours_everywhere() -> None:
    now = local("2026-11-22T09:00")
    assert next_window("+12055550123", None, "transactional", now).opens == now


def test_a_number_of_no_known_state_keeps_the_hours_of_every_state() -> None:
    toll_free = rules_for("+18005550123", "marketing")
    assert len(toll_free) == len([rule for rule in hours.hours_rules() if rule.kind == "marketing"])
    window = joint_window((CHICAGO,), toll_free, local("2026-11-21T18:00"))
    assert (window.opens, window.closes) == (local("2026-11-23T10:00"), local("2026-11-23T18:00"))


def test_zones_that_share_no_hour_of_the_day_have_no_window_before_the_horizon() -> None:
    opposite = (ZoneInfo("Pacific/Guam"), ZoneInfo("Atlantic/Azores"), ZoneInfo("America/Los_Angeles"))
    now = local("2026-11-23T12:00")
    assert joint_window(opposite, rules_for("+4915112345678", "transactional"), now).opens == now + HORIZON


def test_a_window_may_last_past_midnight() -> None:
    late = HoursRule("*", "transactional", (time(18), time(2)), (time(18), time(2)), (time(18), time(2)), False)
    for now, opens in [("01:59", "01:59"), ("02:00", "18:00"), ("23:30", "23:30")]:
        found = joint_window((CHICAGO,), (late,), local(f"2026-11-23T{now}"))
        assert found.opens == local(f"2026-11-23T{opens}")
        assert found.closes - found.opens <= timedelta(hours=8)


def test_federal_holidays_are_those_of_the_calendar() -> None:
    expected = ["01-01", "01-19", "02-16", "05-25", "06-19", "07-04", "09-07", "10-12", "11-11", "11-26", "12-25"]
    assert sorted(us_holidays(2026)) == [date.fromisoformat(f"2026-{day}") for day in expected]
