"""The console's words for statuses, reasons and times, its fields and notices, and the last day as shapes."""

from __future__ import annotations

import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.aws.container import ROOT
from sms_retry import operate
from sms_retry.console import actions, csrf, fields, figures, plots, view
from sms_retry.readings import CurrentHold, EndedInHour

NOW = datetime(2026, 6, 1, 12, 34, 56, tzinfo=UTC)
FIGURES = {"success_rate": 0.97, "overdue": 0, "oldest_due_seconds": 0, "health_status": "healthy"}


def row(hours_ago: int = 0, status: str = "completed", code: int | None = None, messages: int = 1) -> EndedInHour:
    return EndedInHour(NOW.replace(minute=0, second=0) - timedelta(hours=hours_ago), status, code, messages)


@pytest.mark.parametrize(
    ("wait", "shown"),
    [
        (0, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (3599, "59 min"),
        (3600, "1 h"),
        (4000, "1 h 6 min"),
        (90_000, "1 d 1 h"),
    ],
)
def test_a_duration_is_shown_in_its_two_largest_units(wait: int, shown: str) -> None:
    assert view.duration(wait) == view.duration(timedelta(seconds=wait)) == shown


def test_an_instant_is_shown_relative_to_now() -> None:
    assert view.relative(NOW, NOW) == "now"
    assert view.relative(NOW - timedelta(minutes=3), NOW) == "3 min ago"
    assert view.relative(NOW + timedelta(hours=2), NOW) == "in 2 h"


def test_every_status_of_the_database_has_a_word_and_its_own_icon() -> None:
    tables = (ROOT / "sql" / "migrations" / "0001_tables.sql").read_text()
    known = {
        word
        for given in re.findall(
            r"status\s+(?:as )?text (?:not null )?check \((?:status|value) in\s*\((.*?)\)\)", tables, re.DOTALL
        )
        for word in re.findall(r"'(\w+)'", given)
    }
    assert len(known) == 11
    for word in known:
        assert view.STATUSES[word].icon in (ROOT / view.TEMPLATES / "icons.html").read_text()
    icons = {(status.icon, status.tone) for status in view.STATUSES.values()}
    assert len(icons) == len({icon for icon, _ in icons}), "an icon with two tones"


def test_the_reason_of_an_error_is_shown_in_the_words_of_the_table_of_codes() -> None:
    assert view.reason("error_30003") == "error 30003: The phone is off or out of reach; it may be back in some minutes"
    assert view.reason("error_1") == "error 1: not in the table of codes"
    assert view.reason("quiet_hours") == "outside the recipient's hours"
    for other in ("error_", "error_²", "", "because", "error_30003 & more"):
        assert view.reason(other) == other


def test_every_reason_in_the_code_has_words() -> None:
    written = set()
    for path in [
        *(ROOT / "sql" / "functions").rglob("*.sql"),
        *(ROOT / "layers/sms_retry/python/sms_retry").glob("*.py"),
    ]:
        written |= set(re.findall(r"""\breason ?=> ?'(\w+)'|\breason ?= ?['"](\w+)['"]""", path.read_text()))
    words = {sql or python for sql, python in written}
    assert {"called_off", "opted_out", "given_back", "hold"} <= words
    assert words <= view.REASONS.keys()


@pytest.mark.parametrize(
    ("changed", "hold", "word"),
    [
        ({}, None, "Healthy"),
        ({"success_rate": None}, None, "Healthy"),
        ({"health_status": "warning", "success_rate": 0.7}, None, "Warning"),
        ({"health_status": "critical", "success_rate": 0.5}, None, "Critical"),
        ({"overdue": 5, "oldest_due_seconds": 600}, None, "Behind"),
        ({"health_status": "critical", "overdue": 5}, "account", "On hold"),
        ({}, "recipient", "Healthy"),
    ],
)
def test_the_headline_shows_the_most_serious_state(changed: dict[str, Any], hold: str | None, word: str) -> None:
    holds = [CurrentHold(hold, "*", "*", NOW, "twilio_down", probing=False, opened_at=NOW)] if hold else []
    assert figures.headline(FIGURES | changed, holds).word == word


def test_a_day_is_twenty_four_full_hours_and_ends_with_the_current_one() -> None:
    day = plots.day([row(0), row(23, "failed", 30003, 3), row(5, messages=2), row(5, "expired")], NOW)
    assert len(day.bars) == 24
    assert [day.bars[0].hour, day.bars[-1].hour] == [
        NOW.replace(minute=0, second=0) - timedelta(hours=23),
        NOW.replace(minute=0, second=0),
    ]
    assert [bar.counts for bar in day.bars if bar.counts] == [
        Counter(failed=3),
        Counter(completed=2, expired=1),
        Counter(completed=1),
    ]
    assert day.total == Counter(completed=3, failed=3, expired=1)


@given(st.lists(st.tuples(st.integers(0, 23), st.sampled_from(plots.ENDINGS), st.integers(1, 10**7)), max_size=60))
def test_the_segments_of_a_bar_are_stacked_from_the_bottom_and_fit_the_plot(rows: list[tuple[int, str, int]]) -> None:
    day = plots.day([row(hours, status, messages=n) for hours, status, n in rows], NOW)
    for bar in day.bars:
        top = 100.0
        for _, y, height in bar.segments:
            assert y + height == pytest.approx(top, abs=0.05)
            top = y
        assert top >= 0
        assert 100 - top == pytest.approx(100 * bar.counts.total() / day.top, abs=0.1)
    assert day.top % 2 == 0
    assert day.top <= 4 or max(bar.counts.total() for bar in day.bars) > day.top * 2 // 5


def test_the_messages_of_a_code_are_counted_as_sent_later_or_not_sent() -> None:
    rows = [
        row(1, "completed", 30003, 5),
        row(2, "failed", 30003, 2),
        row(1, "expired", 30008),
        row(1, "completed", None, 9),
    ]
    assert plots.codes(rows) == [plots.Code(30003, 5, 2), plots.Code(30008, 0, 1)]
    assert plots.codes(rows, most=1) == [plots.Code(30003, 5, 2)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("+14155550123", "+14155550123"),
        (" +1 (415) 555-0123 ", "+14155550123"),
        ("0049 176/1234.5678", "+4917612345678"),
        ("+44 (0)7700 900123", "+447700900123"),
        ("+1 1 415 555 0123", "+14155550123"),
        ("+2105551234", "+2105551234"),
        ("4155550123", None),
        ("+", None),
        ("+0155550123", None),
        ("booking-7", None),
        ("", None),
    ],
)
def test_a_number_is_read_with_its_usual_punctuation(text: str, found: str | None) -> None:
    assert fields.number_in(text) == found


def test_every_result_of_a_form_has_a_notice() -> None:
    source = (ROOT / "layers/sms_retry/python/sms_retry/console/actions.py").read_text()
    results = {word for line in re.findall(r"return Done\(.*", source) for word in re.findall('"([a-z_]+)"', line)}
    assert {"due", "not_due", "too_late", "hold_set", "erasing"} <= results <= actions.NOTICES.keys()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("+14155559876 is off", "+1415*****76 is off"),
        ("call (415) 555-9876", "call (415) 5**-**76"),
        ("415-555-9876", "415-5**-**76"),
        ("+1 415 555 9876", "+1 415 *** **76"),
        ("+1.415.555.9876", "+1.415.***.**76"),
        ("cart-+14155559876-7", "cart-+1415******6-7"),
        ("order-1234", "order-1234"),
        ("error 30003", "error 30003"),
    ],
)
def test_a_number_is_masked_in_every_spelling(text: str, shown: str) -> None:
    assert operate.without_numbers(text) == shown


def test_a_notice_is_shown_only_to_the_browser_and_the_person_that_it_was_made_for() -> None:
    nonce = csrf.new_nonce()
    given = csrf.noticed(nonce, "anna", "Messages erased: 3.")
    assert csrf.notice(nonce, "anna", given) == "Messages erased: 3."
    assert csrf.notice(nonce, "anna", given.replace("3", "99999")) == ""
    assert csrf.notice(csrf.new_nonce(), "anna", given) == csrf.notice(nonce, "ben", given) == ""
    assert csrf.notice(None, None, given) == csrf.notice(nonce, "anna", "Messages erased: 3.") == ""


def test_a_recorded_result_that_looks_like_json_is_shown_as_it_is() -> None:
    assert view.result('{"messages": 1200}') == "messages erased: 1,200"
    assert view.result("{see the wiki}") == "{see the wiki}"
    assert view.result('{"messages": "all"}') == '{"messages": "all"}'
