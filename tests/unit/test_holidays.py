"""Holidays: the days that holidays.csv spells, by region and year."""

from __future__ import annotations

from datetime import date

import pytest

from sms_retry.holidays import all_holidays, date_of, easter, holidays


def days(year: int, *spelled: str) -> list[date]:
    return [date.fromisoformat(f"{year}-{day}") for day in spelled]


def test_federal_holidays_are_those_of_the_calendar() -> None:
    expected = ["01-01", "01-19", "02-16", "05-25", "06-19", "07-04", "09-07", "10-12", "11-11", "11-26", "12-25"]
    assert sorted(holidays("US", 2026)) == days(2026, *expected)


def test_a_state_has_the_holidays_of_its_country_and_its_own() -> None:
    assert holidays("US-WA", 2026) == holidays("US", 2026)
    own = days(2026, "02-12", "04-03", "06-14", "11-03", "12-15")
    assert holidays("US-PA", 2026) == holidays("US", 2026) | set(own)


def test_french_holidays_are_those_of_the_calendar() -> None:
    fixed = ["01-01", "05-01", "05-08", "07-14", "08-15", "11-01", "11-11", "12-25"]
    assert holidays("FR", 2027) == set(days(2027, *fixed, "03-29", "05-06", "05-17"))


def test_a_region_without_lines_has_no_holidays() -> None:
    assert holidays("ES", 2026) == frozenset()


# https://www.census.gov/data/software/x13as/genhol/easter-dates.html
@pytest.mark.parametrize(
    "day",
    ["2000-04-23", "2008-03-23", "2011-04-24", "2024-03-31", "2025-04-20", "2026-04-05", "2027-03-28", "2038-04-25"],
)
def test_easter_is_the_day_of_the_calendar(day: str) -> None:
    assert easter(int(day[:4])) == date.fromisoformat(day)


@pytest.mark.parametrize(
    ("spelled", "year", "day"),
    [
        ("07-04", 2026, "07-04"),
        ("11-thu-4", 2026, "11-26"),
        ("11-thu-4+1", 2026, "11-27"),
        ("11-mon-1+1", 2027, "11-02"),
        ("05-mon-last", 2027, "05-31"),
        ("12-mon-last", 2026, "12-28"),
        ("easter-47", 2027, "02-09"),
        # Utah's Juneteenth: from Tuesday to Friday the Monday before, at a weekend the Monday after.
        ("06-19~mon", 2026, "06-15"),
        ("06-19~mon", 2027, "06-21"),
        ("06-19~mon", 2028, "06-19"),
        ("06-19~mon", 2029, "06-18"),
    ],
)
def test_a_spelling_is_a_day_of_each_year(spelled: str, year: int, day: str) -> None:
    assert date_of(spelled, year) == date.fromisoformat(f"{year}-{day}")


@pytest.mark.parametrize("spelled", ["", "7-4", "07-04-2026", "11-thu-6", "pentecost", "07-04 +1"])
def test_a_misspelled_day_is_reported(spelled: str) -> None:
    with pytest.raises(ValueError, match="not the spelling of a day"):
        date_of(spelled, 2026)


def test_every_holiday_has_a_date_each_year_and_a_source() -> None:
    for holiday in all_holidays():
        assert holiday.name
        assert len(holiday.source) > 8
        for year in range(2024, 2040):
            assert date_of(holiday.day, year).year == year
