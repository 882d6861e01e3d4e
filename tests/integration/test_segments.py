"""SQL counts the segments of a text as Twilio bills them."""

from __future__ import annotations

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

# https://www.twilio.com/docs/glossary/what-is-gsm-7-character-encoding
BASIC = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿"
BASIC += "abcdefghijklmnopqrstuvwxyzäöñüà"
EXTENSION = "\f^{}\\[~]|€"


@pytest.mark.parametrize(
    ("body", "segments"),
    [
        ("Your code is 123456", 1),
        ("x" * 160, 1),
        ("x" * 161, 2),
        ("x" * 306, 2),
        ("x" * 307, 3),
        ("€" * 80, 1),
        ("€" * 81, 2),
        # Two extension characters would lie in two segments each, so 153 units carry 76 of them.
        ("€" * 153, 3),
        ("é" * 160, 1),
        ("`" + "x" * 69, 1),
        ("`" + "x" * 70, 2),
        ("`" + "x" * 133, 2),
        ("😀" * 35, 1),
        ("😀" * 66, 2),
        ("😀" * 67, 3),
        ("", 1),
    ],
)
def test_a_text_has_these_segments(db: psycopg.Connection, body: str, segments: int) -> None:
    assert _counted(db, body) == segments


@given(
    st.lists(st.sampled_from([*BASIC, *EXTENSION, *"€" * 20]), min_size=1, max_size=700).map("".join)
    | st.lists(st.sampled_from("abcé😀ж`"), min_size=1, max_size=400).map("".join)
)
def test_sql_counts_as_the_packing_of_one_unit_after_the_other(db: psycopg.Connection, body: str) -> None:
    assert _counted(db, body) == _packed(body)


def _counted(db: psycopg.Connection, body: str) -> int:
    row = db.execute("select sms_retry.sms_segments(%s)", [body]).fetchone()
    assert row
    return int(row[0])


def _packed(body: str) -> int:
    if set(body) <= set(BASIC + EXTENSION):
        units, single, several = [2 if character in EXTENSION else 1 for character in body], 160, 153
    else:
        units, single, several = [len(character.encode("utf-16-le")) // 2 for character in body], 70, 67
    if sum(units) <= single:
        return 1
    segments, used = 1, 0
    for unit in units:
        if used + unit > several:
            segments, used = segments + 1, 0
        used += unit
    return segments
