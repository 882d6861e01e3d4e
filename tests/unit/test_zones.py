"""The region and the time zones of a phone number."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.resources import files
from itertools import groupby

import phonenumbers
import pytest
from phonenumbers.geodata import GEOCODE_DATA
from phonenumbers.tzdata import TIMEZONE_DATA

from sms_retry.hours import joint_window, release_hours, rules_for
from sms_retry.zones import CONTIGUOUS, area_codes, region_of, zones_of

# libphonenumber names a state in full for a whole area code, and by its letters behind the name of a town.
STATES = dict(
    line.rsplit(" ", 1)
    for line in """Alabama AL;Alaska AK;Arizona AZ;Arkansas AR;California CA;Colorado CO;Connecticut CT;Delaware DE;
Florida FL;Georgia GA;Hawaii HI;Idaho ID;Illinois IL;Indiana IN;Iowa IA;Kansas KS;Kentucky KY;Louisiana LA;Maine ME;
Maryland MD;Massachusetts MA;Michigan MI;Minnesota MN;Mississippi MS;Missouri MO;Montana MT;Nebraska NE;Nevada NV;
New Hampshire NH;New Jersey NJ;New Mexico NM;New York NY;North Carolina NC;North Dakota ND;Ohio OH;Oklahoma OK;
Oregon OR;Pennsylvania PA;Rhode Island RI;South Carolina SC;South Dakota SD;Tennessee TN;Texas TX;Utah UT;
Vermont VT;Virginia VA;Washington State WA;Washington D.C. DC;West Virginia WV;Wisconsin WI;Wyoming WY""".replace(
        "\n", ""
    ).split(";")
)


def names(number: str, stated: str | None = None) -> set[str]:
    return {zone.key for zone in zones_of(number, stated)}


def states_by_area_code() -> Iterator[tuple[str, str]]:
    """Each area code for which libphonenumber names a state of the US, with the state that it names most often."""
    american = sorted(prefix for prefix in GEOCODE_DATA if prefix[0] == "1" and len(prefix) >= 4)
    for area_code, prefixes in groupby(american, lambda prefix: prefix[1:4]):
        places = [GEOCODE_DATA[prefix].get("en", "") for prefix in prefixes]
        letters = (STATES.get(place) or (re.findall(r", ([A-Z]{2})$", place) or [""])[0] for place in places)
        if found := Counter(state for state in letters if state in STATES.values()):
            yield area_code, found.most_common(1)[0][0]


def test_the_area_codes_of_each_state_are_those_of_libphonenumber() -> None:
    theirs = dict(states_by_area_code())
    ours = {code: region.removeprefix("US-") for code, region in area_codes().items() if region.startswith("US-")}
    assert len(theirs) > 300
    assert {code: (ours.get(code), state) for code, state in theirs.items() if ours.get(code) != state} == {}
    assert ours.keys() == theirs.keys()


def test_the_area_codes_outside_the_us_are_those_of_libphonenumber() -> None:
    for code, region in area_codes().items():
        if region.startswith("US-"):
            continue
        number = phonenumbers.parse(f"+1{code}5550123")
        assert phonenumbers.region_code_for_number(number) in (region, None), code


@pytest.mark.parametrize(
    ("number", "region"),
    [
        ("+12035550123", "US-CT"),
        ("+13105550123", "US-CA"),
        ("+17135550123", "US-TX"),
        ("+17185550123", "US-NY"),
        ("+14165550123", "CA"),
        ("+18005550123", "US"),
        ("+14575550123", "US"),
        ("+33612345678", "FR"),
        ("+447700900123", "GB"),
        ("+79161234567", "RU"),
        ("+35312345678", "IE"),
        ("+8816123456", ""),
        ("+9991234567", ""),
    ],
)
def test_the_calling_code_and_below_1_the_area_code_give_the_region(number: str, region: str) -> None:
    assert region_of(number) == region


def test_no_area_code_is_in_two_regions() -> None:
    lines = (files("sms_retry") / "area_codes.csv").read_text().splitlines()[1:]
    codes = [code for line in lines for code in line.split(",")[1].split()]
    assert len(codes) == len(set(codes)) == len(area_codes())
    assert all(len(code) == 3 and code.isdigit() for code in codes)


@pytest.mark.parametrize(
    ("number", "zone"),
    [
        # Exchanges that libphonenumber does not know, in area codes of two zones.
        ("+12195550123", "America/Chicago"),
        ("+12705550123", "America/Chicago"),
        ("+13645550123", "America/Chicago"),
        ("+14235550123", "America/New_York"),
        ("+13085550123", "America/Denver"),
        ("+18505550123", "America/Chicago"),
        ("+18125550123", "America/Chicago"),
        ("+19305550123", "America/Chicago"),
        ("+14485550123", "America/Chicago"),
        ("+14585550123", "America/Denver"),
        ("+18675550123", "America/Toronto"),
        # An area code without a line of its own.
        ("+12085550123", "America/Los_Angeles"),
    ],
)
def test_an_unknown_exchange_allows_every_zone_of_its_area_code(number: str, zone: str) -> None:
    assert zone in names(number)
    assert 1 < len(names(number)) < 6


def test_a_known_exchange_has_its_own_zone() -> None:
    assert names("+14157770123") == {"America/Los_Angeles"}
    assert names("+442079460123") == {"Europe/London"}


@pytest.mark.parametrize("number", ["+18005550123", "+14575550123", "+16795550123", "+18615550123"])
def test_a_number_of_no_known_area_has_the_contiguous_zones_of_the_country(number: str) -> None:
    assert names(number) == CONTIGUOUS["1"]


def test_a_stated_zone_is_read_without_its_case_as_postgres_does() -> None:
    assert names("+447700900123", "america/new_york") == {"America/New_York"}


def test_a_stated_zone_precedes_the_number_and_an_unreadable_one_does_not_count() -> None:
    assert names("+14157770123", "Asia/Kolkata") == {"Asia/Kolkata"}
    assert names("+14157770123", "Mars/Olympus") == names("+14157770123", "") == {"America/Los_Angeles"}


def test_the_zone_of_a_satellite_phone_is_utc() -> None:
    assert names("+8816123456") == {"UTC"}


def test_every_number_has_hours_within_two_days() -> None:
    """One number for each beginning that libphonenumber knows a zone for, and each country's example."""
    numbers = {f"+{prefix:0<10}" for prefix in TIMEZONE_DATA}
    for code in phonenumbers.COUNTRY_CODE_TO_REGION_CODE:
        for region in phonenumbers.region_codes_for_country_code(code):
            if example := phonenumbers.example_number(region):
                numbers.add(phonenumbers.format_number(example, phonenumbers.PhoneNumberFormat.E164))
    rules = rules_for(release_hours(), "ES", "transactional")
    for zones in {zones_of(number, None) for number in numbers}:
        for month in (1, 4, 7, 10):
            now = datetime(2026, month, 15, 3, tzinfo=UTC)
            assert (joint_window(zones, rules, now).opens - now).days < 2, zones
