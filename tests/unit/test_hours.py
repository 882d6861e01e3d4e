"""The hours in which a person may be texted: the rules by region and kind, and the windows that they leave open."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest

from sms_retry import hours
from sms_retry.holidays import all_holidays
from sms_retry.hours import HORIZON, HoursRule, SendingHours, joint_window, release_hours, rules_for
from sms_retry.zones import area_codes, region_of
from tests.pages import OBSERVED

CHICAGO, NEW_YORK = ZoneInfo("America/Chicago"), ZoneInfo("America/New_York")
DAYTIME = (time(8), time(21))
# The evenings before the clocks of New York change, the next opening, and the hours until then.
CHANGES = [("2026-03-07T23:30", "2026-03-08T08:00", 7.5), ("2026-10-31T23:30", "2026-11-01T08:00", 9.5)]


def local(text: str, zone: str = "America/Chicago") -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)


def opens(number: str, zone: str | None, now: datetime, kind: str = "marketing") -> datetime:
    return release_hours().next_window(number, zone, kind, now).opens


def test_every_rule_has_hours_of_the_day_and_a_source() -> None:
    regions = {*area_codes().values(), "*", "US", "AU", "BR", "DE", "FR", "GB", "IN"}
    for rule in hours.hours_rules():
        assert rule.region in regions
        assert rule.kind in ("transactional", "marketing")
        assert len(rule.source) > 3, f"the line of {rule.region} has no source"
        for day in (rule.weekdays, rule.saturdays, rule.sundays):
            assert day is None or time(8) <= day[0] < day[1] <= time(22)


def test_every_region_that_closes_on_holidays_has_holidays() -> None:
    known = {holiday.region for holiday in all_holidays()}
    for rule in hours.hours_rules():
        assert rule.holidays == "open" or {rule.region, rule.region.partition("-")[0]} & known
        assert rule.holidays in OBSERVED


@pytest.mark.parametrize(
    ("number", "zone", "now", "then"),
    [
        # Alabama: not on a Sunday, nor on a holiday.
        ("+12055550123", "America/Chicago", "2026-11-22T12:00", "2026-11-23T08:00"),
        ("+12055550123", "America/Chicago", "2026-11-26T12:00", "2026-11-27T08:00"),
        ("+12055550123", "America/Chicago", "2026-11-23T20:00", "2026-11-24T08:00"),
        # Texas: a later Sunday.
        ("+12145550123", "America/Chicago", "2026-11-22T09:30", "2026-11-22T12:00"),
        # Rhode Island: a short Saturday, no Sunday, and no holiday: Victory Day is the second Monday in August.
        ("+14015550123", "America/New_York", "2026-11-21T17:00", "2026-11-23T09:00"),
        ("+14015550123", "America/New_York", "2026-08-10T12:00", "2026-08-11T09:00"),
        # Kentucky: late every day.
        ("+15025550123", "America/New_York", "2026-11-23T09:59", "2026-11-23T10:00"),
        # Oregon and Wyoming: until 20:00.
        ("+15035550123", "America/Los_Angeles", "2026-11-23T20:00", "2026-11-24T08:00"),
        ("+13075550123", "America/Denver", "2026-11-23T20:00", "2026-11-24T08:00"),
        # Pennsylvania: no holiday of the country or of the state, here Thanksgiving and Flag Day, which was a Sunday.
        ("+12155550123", "America/New_York", "2026-11-26T12:00", "2026-11-27T08:00"),
        ("+12155550123", "America/New_York", "2026-06-15T12:00", "2026-06-16T08:00"),
        ("+12155550123", "America/New_York", "2026-04-03T12:00", "2026-04-04T08:00"),
        # Utah: no Sunday and no holiday; Pioneer Day of 2027 is a Saturday.
        ("+18015550123", "America/Denver", "2026-11-22T12:00", "2026-11-23T08:00"),
        ("+18015550123", "America/Denver", "2027-07-23T12:00", "2027-07-26T08:00"),
        # France: no Sunday and no holiday. India, Brazil, Germany and the United Kingdom: their providers' hours.
        ("+33612345678", "Europe/Paris", "2026-07-14T12:00", "2026-07-15T08:00"),
        ("+33612345678", "Europe/Paris", "2026-11-22T12:00", "2026-11-23T08:00"),
        ("+919876543210", "Asia/Kolkata", "2026-11-23T08:00", "2026-11-23T10:00"),
        ("+5511999999999", "America/Sao_Paulo", "2026-11-20T12:00", "2026-11-21T09:00"),
        ("+5511999999999", "America/Sao_Paulo", "2026-11-21T13:00", "2026-11-23T09:00"),
        ("+4915112345678", "Europe/Berlin", "2026-11-23T20:00", "2026-11-24T08:00"),
        ("+447700900123", "Europe/London", "2026-11-23T08:00", "2026-11-23T09:00"),
        ("+61412345678", "Australia/Sydney", "2026-11-23T08:00", "2026-11-23T11:00"),
        # Spain has no rule: the common hours.
        ("+34612345678", "Europe/Madrid", "2026-11-22T07:00", "2026-11-22T08:00"),
    ],
)
def test_marketing_keeps_the_hours_of_the_recipients_region(number: str, zone: str, now: str, then: str) -> None:
    assert opens(number, zone, local(now, zone)) == local(then, zone)


@pytest.mark.parametrize(
    ("number", "day", "is_closed"),
    [
        # 4 July 2026 is a Saturday; 4 July 2027 is a Sunday.
        ("+12055550123", "2026-07-03", True),
        ("+15045550123", "2026-07-03", True),
        ("+16015550123", "2026-07-03", False),
        ("+12055550123", "2027-07-05", True),
        ("+16015550123", "2027-07-05", True),
        ("+15045550123", "2027-07-05", True),
        ("+14015550123", "2026-07-03", False),
        ("+14015550123", "2026-07-06", True),
        # 1 January 2028 is a Saturday.
        ("+12055550123", "2027-12-31", True),
        # Mardi Gras, and the day after Thanksgiving.
        ("+15045550123", "2027-02-09", True),
        ("+15045550123", "2026-11-27", True),
        ("+16015550123", "2027-02-09", False),
    ],
)
def test_the_day_that_observes_a_holiday_is_closed_where_the_law_says_so(
    number: str, day: str, is_closed: bool
) -> None:
    now = local(f"{day}T12:00")
    assert (opens(number, "America/Chicago", now) > now) == is_closed


def test_transactional_messages_keep_the_common_hours_everywhere() -> None:
    now = local("2026-11-22T09:00")
    assert opens("+12055550123", None, now, "transactional") == now


def test_a_number_of_no_known_state_keeps_the_hours_of_every_state() -> None:
    toll_free = rules_for(release_hours(), region_of("+18005550123"), "marketing")
    states = [rule for rule in hours.hours_rules() if rule.region.startswith("US-")]
    assert {rule.region for rule in toll_free} == {"*", *(rule.region for rule in states)}
    window = joint_window((CHICAGO,), toll_free, local("2026-11-21T18:00"))
    assert (window.opens, window.closes) == (local("2026-11-23T10:00"), local("2026-11-23T18:00"))


@pytest.mark.parametrize("number", ["+18005550123", "+14575550123", "+16795550123", "+18615550123"])
def test_a_number_of_no_known_area_has_hours_for_every_kind(number: str) -> None:
    now = local("2026-11-24T03:00", "America/New_York")
    window = release_hours().next_window(number, None, "transactional", now)
    assert (window.opens, window.closes) == (
        local("2026-11-24T11:00", "America/New_York"),
        local("2026-11-24T21:00", "America/New_York"),
    )
    assert opens(number, None, now) == local("2026-11-24T13:00", "America/New_York")


def test_zones_that_share_no_hour_of_the_day_have_no_window_before_the_horizon() -> None:
    opposite = (ZoneInfo("Pacific/Guam"), ZoneInfo("Atlantic/Azores"), ZoneInfo("America/Los_Angeles"))
    now = local("2026-11-23T12:00")
    assert joint_window(opposite, rules_for(release_hours(), "ES", "transactional"), now).opens == now + HORIZON


def test_a_window_may_last_past_midnight() -> None:
    late = HoursRule("*", "transactional", (time(18), time(2)), (time(18), time(2)), (time(18), time(2)))
    for now, opening in [("01:59", "01:59"), ("02:00", "18:00"), ("23:30", "23:30")]:
        found = joint_window((CHICAGO,), (late,), local(f"2026-11-23T{now}"))
        assert found.opens == local(f"2026-11-23T{opening}")
        assert found.closes - found.opens <= timedelta(hours=8)


@pytest.mark.parametrize(("now", "then", "wait"), CHANGES)
@pytest.mark.parametrize("given", [UTC, NEW_YORK, ZoneInfo("Europe/Berlin")])
def test_the_zone_in_which_now_is_given_does_not_change_the_window(
    now: str, then: str, wait: float, given: ZoneInfo
) -> None:
    """A database, a role or a server may have any time zone, and its instants come in that zone."""
    rule = HoursRule("*", "transactional", DAYTIME, DAYTIME, DAYTIME)
    instant = local(now, "America/New_York")
    window = joint_window((NEW_YORK,), (rule,), instant.astimezone(given))
    assert window.opens == local(then, "America/New_York")
    assert window.opens.tzinfo is window.closes.tzinfo is UTC
    assert window.opens - instant == timedelta(hours=wait)
    closed = HoursRule("*", "transactional", None, None, None)
    never = joint_window((NEW_YORK,), (closed,), instant.astimezone(given))
    assert never.opens - instant == HORIZON


def test_an_override_replaces_the_line_of_its_region_and_kind_alone() -> None:
    later = SendingHours.of([("US-TX", "marketing", "10:00-20:00", "10:00-20:00", "", "closed sun>mon", "our lawyer")])
    for day, then in [("2026-11-23", "2026-11-23"), ("2026-11-22", "2026-11-23"), ("2026-11-26", "2026-11-27")]:
        window = later.next_window("+12145550123", "America/Chicago", "marketing", local(f"{day}T08:00"))
        assert window.opens == local(f"{then}T10:00")
    assert len(later.rules) == len(release_hours().rules)
    transactional = later.next_window("+12145550123", "America/Chicago", "transactional", local("2026-11-23T08:00"))
    assert transactional.opens == local("2026-11-23T08:00")


def test_an_override_adds_a_line_for_any_country_and_a_countrys_line_holds_in_its_states() -> None:
    both = SendingHours.of(
        [
            ("ES", "marketing", "10:00-20:00", "", "", "open", "x"),
            ("US", "marketing", "12:00-13:00", "", "", "open", "x"),
        ]
    )
    friday = local("2026-11-20T21:00", "Europe/Madrid")
    assert both.next_window("+34612345678", "Europe/Madrid", "marketing", friday).opens == local(
        "2026-11-23T10:00", "Europe/Madrid"
    )
    monday = local("2026-11-23T09:00")
    assert both.next_window("+12145550123", "America/Chicago", "marketing", monday).opens == local("2026-11-23T12:00")


def test_without_overrides_the_rules_are_those_of_the_release() -> None:
    assert SendingHours.of([]) is release_hours()
