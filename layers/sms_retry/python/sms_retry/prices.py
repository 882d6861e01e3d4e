"""The user's own prices of a segment, and the estimate that they give.

Twilio's bill has other items too, such as media, carrier fees and monthly numbers.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path

from sms_retry.readings import CountrySegments

Prices = Mapping[str, Decimal]


class InvalidPrices(ValueError):
    """A price table that cannot be read; the message names the line and how to write it."""


def read(path: Path) -> Prices:
    """A CSV file: each line has the first digits of a country, such as +44, and the price of one segment."""
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError):
        raise InvalidPrices(f"the price table {path} cannot be read") from None
    prices = {}
    for n, line in enumerate(csv.reader(lines), 1):
        if not line or (n == 1 and line[0] == "prefix"):
            continue
        try:
            prefix, price = line[0].strip(), Decimal(line[1].strip())
        except (IndexError, InvalidOperation):
            prefix, price = "", Decimal(0)
        if not (re.fullmatch(r"\+[1-9][0-9]{0,6}", prefix) and price.is_finite() and price >= 0):
            raise InvalidPrices(f"line {n} of the price table must be a prefix and a price, such as +44,0.0463")
        prices[prefix] = price
    if not prices:
        raise InvalidPrices(f"the price table {path} has no line with a prefix and a price, such as +44,0.0463")
    return prices


def estimates(counts: Sequence[CountrySegments], prices: Prices) -> tuple[dict[str, Decimal], set[str]]:
    """The estimated price by name, and the countries without a price. The longest prefix of a country counts."""
    found: dict[str, Decimal] = {}
    missing = set()
    for each in counts:
        prefix = max((known for known in prices if each.country.startswith(known)), key=len, default=None)
        if prefix is None:
            missing.add(each.country)
        else:
            found[each.name] = found.get(each.name, Decimal(0)) + each.segments * prices[prefix]
    return found, missing
