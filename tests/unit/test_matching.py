"""Twilio's list returns other texts than were sent, in an order of its own: which listed message can be ours?"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from sms_retry.matching import MOST_PAGES, Listed, NoAnswer, Page, Walk, own, unfailed, walk

CLAIMED = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
TRIAL = "Sent from your Twilio trial account - "


def listed(
    sid: str,
    body: str = "Hello.",
    status: str = "sent",
    created: int = 1,
    sent: int | None = 2,
    direction: str = "outbound-api",
    media: int = 0,
) -> Listed:
    """A listed message; `created` and `sent` are seconds after the claim."""
    sent_at = None if sent is None else CLAIMED + sent * SECOND
    return Listed(sid, status, None, "+14155550123", body, direction, CLAIMED + created * SECOND, sent_at, media)


def read(
    *pages: list[Listed] | NoAnswer, clock_of_twilio: datetime | None = None, time: bool = True
) -> Walk | NoAnswer:
    """A walk through these pages, at 12:00 by the database's clock."""
    answers = (page if isinstance(page, NoAnswer) else Page(tuple(page), clock_of_twilio) for page in pages)
    return walk(answers, CLAIMED, lambda: CLAIMED, lambda: time)


def sids(found: Walk | NoAnswer) -> list[str]:
    assert isinstance(found, Walk)
    return [message.sid for message in found.messages]


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        ("Your code is 1234\n", "Your code is 1234"),
        (" Your code is 1234", "Your code is 1234"),
        ("Don’t wait — it’s “here” …", "Don't wait - it's \"here\" ..."),
        ("10:30\N{NO-BREAK SPACE}Uhr", "10:30 Uhr"),
        ("1\N{NARROW NO-BREAK SPACE}000 €", "1 000 €"),
        ("Caf\N{LATIN SMALL LETTER E}\N{COMBINING ACUTE ACCENT}", "Café"),
        ("\N{FULLWIDTH LATIN CAPITAL LETTER O}\N{FULLWIDTH LATIN CAPITAL LETTER K}", "OK"),
        ("👍 ", "👍"),
        ("…", "..."),
        ("Hawai\N{MODIFIER LETTER TURNED COMMA}i", "Hawai'i"),
        ("man\N{COMBINING TILDE}ana", "man~ana"),
        ("mañana", "man\N{COMBINING TILDE}ana"),
    ],
)
def test_a_text_that_twilio_rewrote_is_ours(sent: str, stored: str) -> None:
    assert own(sent, [listed("SM1", stored)]) == listed("SM1", stored)


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        ("Your code is 1234", "Your code is 1243"),
        ("Your code is 1234", ""),
        ("Your code is 1234", TRIAL + "Your code is 1234"),
        ("👍", "👎"),
        ("👍", ""),
        ("👍", TRIAL + "👍"),
        ("—", "!"),
        ("", ""),
        (" ", "\n"),
    ],
)
def test_another_text_is_not_ours(sent: str, stored: str) -> None:
    assert own(sent, [listed("SM1", stored)]) is None


def test_the_same_text_with_another_number_of_files_is_not_ours() -> None:
    photo, plain = listed("SM1", media=1), listed("SM2")
    assert own("Hello.", [photo, plain]) == plain
    assert own("Hello.", [photo, plain], media=1) == photo
    assert own("", [listed("SM3", "", media=2)], media=2) == listed("SM3", "", media=2)


def test_the_oldest_of_several_equal_texts_is_ours() -> None:
    assert own("Hello.", [listed("SM2", created=9), listed("SM1", created=3)]) == listed("SM1", created=3)


def test_a_refused_post_is_not_an_accepted_message() -> None:
    refused, accepted = listed("SM1", status="failed"), listed("SM2", status="undelivered")
    assert unfailed([refused, accepted]) == [accepted]


def test_a_walk_has_the_outbound_messages_since_the_claim() -> None:
    page = [listed("SM3"), listed("SM2", direction="inbound"), listed("SM1", created=-6, sent=-6)]
    assert sids(read(page)) == ["SM3"]


# In each, the message of this claim is on the second page.
@pytest.mark.parametrize(
    "first_page",
    [
        # Twilio still holds an earlier message, and lists messages that are not sent yet first.
        [listed("SM0", created=-600, sent=None)],
        # An earlier message was sent after ours.
        [listed("SM0", created=-600, sent=30)],
        # A later message has an earlier date of sending, as no list should have.
        [listed("SM0", created=30, sent=-600)],
        # Only one of the messages is older.
        [listed("SM9", created=90, sent=90), listed("SM0", created=-600, sent=-600)],
        [],
    ],
)
def test_a_walk_goes_on_until_all_of_a_page_is_older_by_both_dates(first_page: list[Listed]) -> None:
    found = read(first_page, [listed("SM1")])
    assert "SM1" in sids(found)
    assert isinstance(found, Walk)
    assert found.complete


def test_a_walk_asks_for_no_page_behind_one_that_is_older_by_both_dates() -> None:
    def pages() -> Iterator[Page | NoAnswer]:
        yield Page((listed("SM1"),), None)
        yield Page((listed("SM0", created=-600, sent=-590),), None)
        pytest.fail("a third page was asked for")

    assert walk(pages(), CLAIMED, lambda: CLAIMED, lambda: True) == Walk((listed("SM1"),), complete=True)


@pytest.mark.parametrize(
    ("pages", "time"), [(MOST_PAGES, True), (1, False)], ids=["too many pages", "no time for another page"]
)
def test_a_walk_that_is_cut_short_is_not_complete(pages: int, time: bool) -> None:
    found = read(*[[listed(f"SM{n}")] for n in range(pages)], [listed("never read")], time=time)
    assert isinstance(found, Walk)
    assert not found.complete
    assert "never read" not in sids(found)


def test_a_page_without_an_answer_ends_the_walk_without_a_result() -> None:
    assert read([listed("SM1")], NoAnswer("HTTP 503")) == NoAnswer("HTTP 503")


def test_an_empty_list_is_complete() -> None:
    assert read() == read([]) == Walk((), complete=True)


@pytest.mark.parametrize(
    ("behind", "created", "is_seen"),
    [(0, -5, True), (0, -6, False), (8, -8, True), (8, -13, True), (8, -14, False), (30, -30, True), (-30, -5, True)],
)
def test_the_difference_of_the_clocks_widens_the_walk(behind: int, created: int, is_seen: bool) -> None:
    """Twilio's clock is `behind` the database's clock by so many seconds, or ahead of it."""
    page = [listed("SM1", created=created, sent=created)]
    assert sids(read(page, clock_of_twilio=CLAIMED - behind * SECOND)) == ["SM1"] * is_seen


def test_the_walk_is_complete_only_by_the_widened_time() -> None:
    """Ten seconds before the claim is since the claim, where Twilio's clock is eight seconds behind."""
    pages = [[listed("SM2", created=-10, sent=-10)], [listed("SM1", created=-9, sent=-9)]]
    found = read(*pages, clock_of_twilio=CLAIMED - 8 * SECOND)
    assert sids(found) == ["SM2", "SM1"]
