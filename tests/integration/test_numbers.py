"""SQL and Python give one person the same spelling, and call the same numbers impossible."""

from __future__ import annotations

import json
from collections.abc import Iterator

import phonenumbers
import psycopg
import pytest
from hypothesis import given as examples_of
from hypothesis import strategies as st
from phonenumbers import COUNTRY_CODE_TO_REGION_CODE, PhoneMetadata

from sms_retry import numbers
from tests import calling_codes

KINDS = ("fixed_line", "mobile", "toll_free", "premium_rate", "shared_cost", "personal_number", "voip", "pager", "uan")


def in_sql(db: psycopg.Connection, given: list[str]) -> list[str | None]:
    statement = "select sms_retry.sms_number(g) from unnest(%s::text[]) with ordinality as u (g, n) order by n"
    return [number for (number,) in db.execute(statement, [given])]


def examples() -> Iterator[tuple[int, str, str]]:
    """Each example number of libphonenumber: its calling code, its region's trunk prefix, and the national number."""
    for code, regions in COUNTRY_CODE_TO_REGION_CODE.items():
        for region in regions:
            metadata = PhoneMetadata.metadata_for_region_or_calling_code(code, region)
            for kind in KINDS:
                description = getattr(metadata, kind)
                if description and description.example_number:
                    yield code, metadata.national_prefix or "0", description.example_number


def numbers_of_every_region() -> list[str]:
    return [
        f"+{code}{national}"
        for code, trunk, example in examples()
        for national in (
            example,
            trunk + example,
            example[:-1],
            example + "5",
            trunk + example[:-1],
            trunk + example + "5",
        )
    ]


def test_sql_and_python_agree_on_the_example_numbers_of_every_region(db: psycopg.Connection) -> None:
    given = numbers_of_every_region()
    assert len(given) > 5_000
    expected = [numbers.e164(number) for number in given]
    assert 0 < expected.count(None) < len(given) / 2
    assert in_sql(db, given) == expected


@examples_of(st.sampled_from(sorted(COUNTRY_CODE_TO_REGION_CODE)), st.text("0123456789", min_size=2, max_size=12))
def test_python_and_libphonenumber_agree_on_any_digits(code: int, national: str) -> None:
    parsed = phonenumbers.parse(f"+{code}{national}")
    spelled = phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)
    is_possible = phonenumbers.is_possible_number(parsed) and len(spelled) <= numbers.LONGEST_E164
    assert numbers.e164(f"+{code}{national}") == (spelled if is_possible else None)


def test_a_batch_spells_the_numbers_of_every_region_as_a_single_message(db: psycopg.Connection) -> None:
    given = numbers_of_every_region()
    ids: list[int | None] = []
    for first in range(0, len(given), 10_000):
        messages = json.dumps([{"to": number, "body": "Hello."} for number in given[first : first + 10_000]])
        ids += [id for (id,) in db.execute("select message_id from sms_retry.queue_sms_retries(%s)", [messages])]
    stored = dict(db.execute("select id, to_number from sms_retry.sms_messages").fetchall())
    found = [stored[id] if id else None for id in ids]
    assert found == in_sql(db, given)


@pytest.mark.parametrize(
    ("given", "spelled"),
    [
        ("+447700900123", "+447700900123"),
        ("+4407700900123", "+447700900123"),
        ("+49017612345678", "+4917612345678"),
        ("+330631966543", "+33631966543"),
        ("+610403745123", "+61403745123"),
        ("+114155550123", "+14155550123"),
        # Italy's zero belongs to the number.
        ("+390612345678", "+390612345678"),
        # Argentina's mobile prefix moves from 15 after the area code to 9 before it.
        ("+54111523456789", "+5491123456789"),
        ("+2105551234", None),
        ("+999123456789", None),
        ("+12", None),
        ("+44", None),
        ("+8001", None),
        ("4155550123", None),
        ("+44 7700 900123", None),
        ("rcs:+14155550123", None),
        ("", None),
    ],
)
def test_a_number_has_one_spelling_or_is_impossible(db: psycopg.Connection, given: str, spelled: str | None) -> None:
    assert in_sql(db, [given]) == [spelled]
    assert numbers.e164(given) == spelled


@pytest.mark.parametrize(
    "text", ["+44 (0)7700 900123", "0044 7700 900123", "+44-7700-900-123", "+44 7700.900.123", "  +447700900123\n"]
)
def test_a_number_as_people_write_it_has_the_same_spelling(text: str) -> None:
    assert numbers.from_text(text) == "+447700900123"


@pytest.mark.parametrize("text", ["07700 900123", "anna", "+44", "", "+1 415 555 0123 ext. 5"])
def test_a_text_that_is_no_international_number_is_refused(text: str) -> None:
    assert numbers.from_text(text) is None


def test_the_calling_codes_are_those_of_the_installed_library() -> None:
    assert calling_codes.FILE.read_text() == calling_codes.calling_codes(), "run `make data`"
