"""The region and the time zones that a phone number allows."""

from __future__ import annotations

import csv
from functools import cache, lru_cache
from importlib.resources import files
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

# The contiguous zones of a calling code's main country, where all zones below the code share no hour.
CONTIGUOUS = {"1": frozenset({"America/New_York", "America/Chicago", "America/Denver", "America/Los_Angeles"})}
# Area codes that were added to the area of an older one of two zones; libphonenumber has one zone for the new code.
OVERLAYS = {"1364": "1270", "1448": "1850", "1458": "1541", "1930": "1812", "1986": "1208"}


@lru_cache(maxsize=4096)
def zones_of(to_number: str, stated: str | None) -> tuple[ZoneInfo, ...]:
    """The stated zone, or else every zone that the number allows."""
    if stated:
        try:
            return (ZoneInfo(stated),)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            # Postgres, which takes messages in, reads `america/new_york` too.
            if name := _by_lower_case().get(stated.lower()):
                return (ZoneInfo(name),)
    # The zone of a satellite phone is not known: UTC stands for it.
    return tuple(map(ZoneInfo, sorted(_names(to_number) or {"UTC"})))


@cache
def _by_lower_case() -> dict[str, str]:
    return {name.lower(): name for name in available_timezones()}


@lru_cache(maxsize=4096)
def region_of(to_number: str) -> str:
    """The region: a state such as `US-AL`, or a country; `US` for an area code of no known state; else empty."""
    if to_number.startswith("+1"):
        return area_codes().get(to_number[2:5], "US")
    from phonenumbers import COUNTRY_CODE_TO_REGION_CODE

    # No calling code begins another. The first region of a shared code is its main country.
    regions = (COUNTRY_CODE_TO_REGION_CODE.get(int(to_number[1:end])) for end in (2, 3, 4))
    return next((found[0] for found in regions if found and found[0] != "001"), "")


@cache
def area_codes() -> dict[str, str]:
    """The region of each area code below +1, by area_codes.csv."""
    rows = csv.DictReader((files("sms_retry") / "area_codes.csv").read_text().splitlines())
    return {code: row["region"] for row in rows for code in row["area_codes"].split()}


def _names(to_number: str) -> frozenset[str]:
    import phonenumbers
    from phonenumbers import timezone
    from phonenumbers.tzdata import TIMEZONE_DATA

    number = phonenumbers.parse(to_number)
    country = str(number.country_code)
    names = frozenset(timezone.time_zones_for_number(number))
    if timezone.UNKNOWN_TIMEZONE in names:
        names = frozenset(timezone.time_zones_for_geographical_number(number))
    if timezone.UNKNOWN_TIMEZONE in names:
        return frozenset()
    digits = to_number[1:]
    known = next(digits[:end] for end in range(len(digits), 0, -1) if digits[:end] in TIMEZONE_DATA)
    # libphonenumber does not know the exchange, and answers with one zone of the area code, or with the country's.
    if names == frozenset(TIMEZONE_DATA[known]):
        area_code = OVERLAYS.get(digits[:4], digits[:4]) if country == "1" and len(known) <= 4 else known
        names = _below(area_code) or names
    return CONTIGUOUS.get(country, names) if names == _below(country) else names


@cache
def _below(area: str) -> frozenset[str]:
    """All zones of the numbers that begin so."""
    from phonenumbers.tzdata import TIMEZONE_DATA

    return frozenset(name for begin, names in TIMEZONE_DATA.items() if begin.startswith(area) for name in names)
