"""The checks before a POST: consent, holds, limits, the recipient's hours, and the expiry."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from sms_retry.attempt import Deferred, Expired, Go, NotSent, OptedOut, before_sending
from sms_retry.hours import release_hours
from sms_retry.values import Claim
from sms_retry.zones import zones_of

NUMBER = "+491761234567"
NEW_YORK = ZoneInfo("America/New_York")
NOW = datetime(2026, 6, 15, 16, 0, tzinfo=UTC)
MINUTES = [timedelta(minutes=n) for n in range(20)]


def least() -> float:
    return 0.0


def most() -> float:
    return 1 - 1e-9


def claim(**fields: Any) -> Claim:
    given: dict[str, Any] = {
        "id": 1,
        "attempt": 1,
        "message_id": 1,
        "business_id": "default",
        "to_number": NUMBER,
        "body": "Hello.",
        "kind": "transactional",
        "time_zone": None,
        "recipient_time_zone": None,
        "consent": "unknown",
        "expires_at": NOW + timedelta(days=3),
        "held_until": None,
        "limited_until": None,
        "claimed_at": NOW,
    }
    return Claim(**given | fields)


def new_york(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=NEW_YORK).astimezone(UTC)


def at(now: datetime, zone: str = "America/New_York", **fields: Any) -> Any:
    given: dict[str, Any] = {"claimed_at": now, "time_zone": zone, "expires_at": now + timedelta(days=3)}
    return before_sending(claim(**given | fields), now, release_hours(), least)


@pytest.mark.parametrize(
    ("local", "opens"),
    [
        ("2026-06-15T08:00:00", None),
        ("2026-06-15T12:00:00", None),
        ("2026-06-15T20:59:50", None),
        ("2026-06-15T07:59:50", "2026-06-15T08:00"),
        ("2026-06-15T20:59:51", "2026-06-16T08:00"),
        ("2026-06-15T21:00:00", "2026-06-16T08:00"),
        ("2026-06-15T23:59:59", "2026-06-16T08:00"),
        ("2026-06-15T00:00:00", "2026-06-15T08:00"),
        ("2026-03-07T21:00:00", "2026-03-08T08:00"),
        ("2026-03-08T01:59:59", "2026-03-08T08:00"),
        ("2026-10-31T21:00:00", "2026-11-01T08:00"),
        ("2026-11-01T01:30:00", "2026-11-01T08:00"),
    ],
)
def test_a_person_is_texted_between_8_and_21_local_time(local: str, opens: str | None) -> None:
    now = new_york(local)
    if opens:
        assert at(now) == Deferred(new_york(opens) - now, "quiet_hours")
    else:
        assert isinstance(at(now), Go)


@pytest.mark.parametrize(("evening", "hours"), [("2026-03-07T21:00", 10), ("2026-10-31T21:00", 12)])
def test_a_wait_across_a_clock_change_is_an_hour_shorter_or_longer(evening: str, hours: int) -> None:
    assert at(new_york(evening)).wait == timedelta(hours=hours)


@pytest.mark.parametrize(
    ("zone", "utc"),
    [
        ("Asia/Kolkata", "02:30"),
        ("Asia/Kathmandu", "02:15"),
        ("America/St_Johns", "10:30"),
        ("Pacific/Marquesas", "17:30"),
    ],
)
def test_zones_off_the_full_hour_open_at_8_local_time(zone: str, utc: str) -> None:
    opens = datetime.combine(NOW.date(), time.fromisoformat(utc), UTC)
    assert isinstance(at(opens, zone), Go)
    assert isinstance(at(opens - timedelta(seconds=1), zone), Deferred)


def test_messages_that_waited_are_spread_over_the_first_ten_minutes() -> None:
    now = new_york("2026-06-15T07:00")
    late = before_sending(claim(time_zone="America/New_York", claimed_at=now), now, release_hours(), most)
    assert isinstance(late, Deferred)
    assert timedelta(minutes=69) < late.wait < timedelta(minutes=70)


@pytest.mark.parametrize("to_number", ["+12085550123", "+18005550123", "+79161234567"])
@pytest.mark.parametrize("month", [1, 7])
def test_a_number_of_several_zones_is_texted_only_when_it_is_day_in_all_of_them(to_number: str, month: int) -> None:
    zones = zones_of(to_number, None)
    assert len(zones) > 1
    day = datetime(2026, month, 15, tzinfo=UTC)
    sent = 0
    for now in (day + n * timedelta(minutes=15) for n in range(96)):
        is_day = all(time(8) <= now.astimezone(zone).time() < time(21) for zone in zones)
        answer = before_sending(
            claim(to_number=to_number, claimed_at=now, expires_at=day + timedelta(9)), now, release_hours(), least
        )
        assert isinstance(answer, Go) == is_day
        if isinstance(answer, Go):
            last = now + answer.valid_for - timedelta(seconds=1)
            assert all(time(8) <= last.astimezone(zone).time() < time(21) for zone in zones)
        if isinstance(answer, Deferred):
            opens = now + answer.wait
            assert all(time(8) <= opens.astimezone(zone).time() < time(21) for zone in zones)
        sent += is_day
    assert sent


def test_the_zone_of_the_message_precedes_that_of_the_recipient_and_that_of_the_number() -> None:
    morning = datetime(2026, 6, 15, 3, 0, tzinfo=UTC)
    assert isinstance(at(morning, "Asia/Kolkata", recipient_time_zone="America/New_York"), Go)
    assert isinstance(at(morning, "", recipient_time_zone="Asia/Kolkata"), Go)
    assert at(morning, "") == Deferred(timedelta(hours=3), "quiet_hours")
    assert at(morning, "Nowhere/At_All") == at(morning, "../etc/passwd") == at(morning, "")


@pytest.mark.parametrize("kind", ["otp", "emergency"])
def test_otp_and_emergency_ignore_the_hours(kind: str) -> None:
    assert at(new_york("2026-06-15T03:00"), kind=kind) == Go(timedelta(hours=10))


def test_valid_for_ends_at_the_expiry_at_the_closing_or_after_ten_hours() -> None:
    assert at(new_york("2026-06-15T09:00")) == Go(timedelta(hours=10))
    assert at(new_york("2026-06-15T17:30")) == Go(timedelta(hours=3.5))
    soon = new_york("2026-06-15T09:20")
    assert at(new_york("2026-06-15T09:00"), expires_at=soon) == Go(timedelta(minutes=20))
    assert at(new_york("2026-06-15T03:00"), kind="otp", expires_at=new_york("2026-06-15T03:05")) == Go(MINUTES[5])


@pytest.mark.parametrize(("seconds", "expired"), [(-60, True), (0, True), (9, True), (10, False)])
def test_a_message_expires_ten_seconds_before_its_expiry(seconds: int, expired: bool) -> None:
    noon = new_york("2026-06-15T12:00")
    answer = at(noon, expires_at=noon + timedelta(seconds=seconds))
    assert answer == (Expired() if expired else Go(timedelta(seconds=10)))


@pytest.mark.parametrize("kind", ["transactional", "marketing", "otp", "emergency"])
@pytest.mark.parametrize("consent", ["opted_in", "opted_out", "unknown"])
def test_an_opt_out_blocks_every_kind_and_marketing_needs_an_opt_in(kind: str, consent: str) -> None:
    answer = at(new_york("2026-06-15T12:00"), kind=kind, consent=consent)
    refuses = consent == "opted_out" or (kind == "marketing" and consent != "opted_in")
    assert isinstance(answer, OptedOut if refuses else Go)


def test_a_hold_defers_otp_too() -> None:
    until = NOW + MINUTES[7]
    assert at(NOW, held_until=until, kind="otp") == Deferred(MINUTES[7], "hold")
    assert at(until, held_until=until, kind="otp") == Go(timedelta(hours=10))


def test_expiry_and_opt_out_are_checked_before_holds_and_hours() -> None:
    night = new_york("2026-06-15T23:00")
    assert at(night, expires_at=night, consent="opted_out", held_until=night + MINUTES[5]) == Expired("hold")
    assert at(night, consent="opted_out", held_until=night + MINUTES[5]) == OptedOut()
    assert at(night, held_until=night + MINUTES[5]) == Deferred(MINUTES[5], "hold")


@pytest.mark.parametrize(
    ("only_to", "allowed"),
    [((), True), ((NUMBER,), True), (("+1", "+49"), True), (("+1",), False), ((NUMBER + "0",), False)],
)
def test_only_listed_numbers_and_first_digits_may_get_a_message(only_to: tuple[str, ...], allowed: bool) -> None:
    checked = before_sending(claim(kind="emergency"), NOW, release_hours(), only_to=only_to)
    assert checked == (Go(timedelta(hours=10)) if allowed else NotSent("not_allowed"))


def test_a_number_that_is_not_listed_fails_before_its_consent_and_expiry_are_checked() -> None:
    unlisted = claim(consent="opted_out", expires_at=NOW)
    assert before_sending(unlisted, NOW, release_hours(), only_to=("+1",)) == NotSent("not_allowed")
