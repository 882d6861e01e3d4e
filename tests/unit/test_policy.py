"""The table of codes, the waits it grants, and the hours in which a person may be texted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from phonenumbers.tzdata import TIMEZONE_DATA

from sms_retry import policy
from sms_retry.hours import joint_window, lines_for, zones_of
from sms_retry.policy import before_sending, judge, judge_receipt
from sms_retry.values import (
    Ask,
    Claim,
    Deferred,
    Expired,
    Final,
    Go,
    Hold,
    OptedOut,
    Refused,
    Retry,
    StopSending,
    Unreached,
)

NUMBER = "+491761234567"
NEW_YORK, KOLKATA = ZoneInfo("America/New_York"), ZoneInfo("Asia/Kolkata")
NOW = datetime(2026, 6, 15, 16, 0, tzinfo=UTC)
MINUTES = [timedelta(minutes=n) for n in range(20)]


def least() -> float:
    return 0.0


def most() -> float:
    return 1 - 1e-9


def refused(code: int | None, http_status: int = 400, retry_after: timedelta | None = None) -> Refused:
    return Refused(http_status, code, "", retry_after)


def verdict(code: int, attempt: int = 1, roll: Callable[[], float] = least) -> Any:
    return judge(refused(code), attempt, NUMBER, NOW, roll)


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
    return before_sending(claim(**given | fields), now, least)


@pytest.mark.parametrize("line", policy.table().values(), ids=lambda line: str(line.code))
def test_every_line_of_the_table_gives_a_verdict(line: policy.Line) -> None:
    assert line.reason
    match line.verdict, verdict(line.code):
        case "retry", Retry(delays, _, spends):
            assert len(delays) == (line.retries if line.spends else 1)
            # A message has three retries: SQL would grant no fourth.
            assert 1 <= line.retries <= 3
            assert all(timedelta(0) <= wait <= policy.LONGEST_WAIT for wait in delays)
            assert spends == line.spends
        case "hold", Hold(scope, key, wait):
            assert (scope, key) in {("account", "*"), ("sender", "*"), ("country", "+49"), ("recipient", NUMBER)}
            assert wait > timedelta(0)
            assert not line.spends
        case "final", Final():
            assert not line.retries
        case ("opt_out", StopSending()) | ("unknown", Ask()):
            pass
        case other:
            pytest.fail(f"{other}")


@pytest.mark.parametrize(
    ("code", "minutes"), [(30001, (1, 2, 4)), (30003, (5, 10)), (30008, (15, 30)), (14107, (2,)), (30022, (5, 10, 15))]
)
def test_waits_grow_by_the_strategy_of_their_code(code: int, minutes: tuple[int, ...]) -> None:
    waits = tuple(timedelta(minutes=n) for n in minutes)
    assert verdict(code) == Retry(waits, f"error_{code}")

    for wait, longest in zip(waits, verdict(code, roll=most).delays, strict=True):
        spread = max(timedelta(seconds=90), wait / 2)
        assert wait + spread - timedelta(milliseconds=1) < longest <= wait + spread


@pytest.mark.parametrize(("strategy", "minutes"), [("schedule", (1, 5, 15)), ("immediate", (0, 0)), ("linear", (3, 6))])
def test_a_code_may_wait_by_the_common_schedule_or_not_at_all(
    monkeypatch: pytest.MonkeyPatch, strategy: str, minutes: tuple[int, ...]
) -> None:
    line = replace(policy.table()[30003], strategy=strategy, base=MINUTES[3])
    monkeypatch.setattr(policy, "table", lambda: {30003: line})
    assert verdict(30003).delays == tuple(MINUTES[n] for n in minutes)


def test_no_wait_is_longer_than_half_a_day_before_its_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    line = replace(policy.table()[63018], base=timedelta(hours=5))
    monkeypatch.setattr(policy, "table", lambda: {63018: line})
    assert verdict(63018).delays == tuple(timedelta(hours=n) for n in (5, 10, 12))


def test_what_twilio_asks_us_to_wait_is_the_least_we_wait() -> None:
    waits = judge(refused(30001, retry_after=MINUTES[3]), 1, NUMBER, NOW, least)
    assert waits == Retry((MINUTES[3], MINUTES[3], MINUTES[4]), "error_30001")

    hours = judge(refused(None, 429, timedelta(hours=2)), 1, NUMBER, NOW, least)
    assert hours == Retry((timedelta(hours=2),), "error_20429", spends=False)


def test_what_is_nobodys_fault_spends_nothing_and_waits_longer_each_time_up_to_five_minutes() -> None:
    for failure in (Unreached("no route"), refused(20429), refused(20503, 503), refused(70005)):
        granted = [judge(failure, attempt, NUMBER, NOW, least) for attempt in range(1, 99)]
        waits = [each.delays[0] for each in granted if isinstance(each, Retry) and not each.spends]
        assert len(waits) == 98
        assert waits == sorted(waits)
        assert waits[0] < waits[-1] == timedelta(minutes=5)


@pytest.mark.parametrize("code", [None, 1, 12345, 99999])
def test_a_code_that_is_not_listed_is_final(code: int | None) -> None:
    assert judge(refused(code), 1, NUMBER, NOW) == Final("unlisted")


@pytest.mark.parametrize(("status", "meant"), [(401, 20003), (403, 20403), (404, 20404), (429, 20429)])
def test_an_answer_without_a_code_means_what_its_status_says(status: int, meant: int) -> None:
    assert judge(refused(None, status), 1, NUMBER, NOW, least) == judge(refused(meant), 1, NUMBER, NOW, least)


@pytest.mark.parametrize("code", [21610, 30630])
def test_a_person_who_refused_is_not_asked_again(code: int) -> None:
    assert verdict(code) == StopSending()


@pytest.mark.parametrize(
    ("to_number", "key"), [("+447700900001", "+44"), ("+18765550123", "+1876"), ("+14155550123", "+1415")]
)
def test_a_country_is_held_by_its_prefix(to_number: str, key: str) -> None:
    assert judge(refused(21408), 1, to_number, NOW) == Hold("country", key, timedelta(hours=1), "error_21408")


@pytest.mark.parametrize(
    ("now", "hours"), [("2026-06-15T20:30", 3.5), ("2026-06-15T00:00", 24), ("2026-11-01T00:00", 25)]
)
def test_a_daily_cap_opens_at_midnight_pacific(now: str, hours: float) -> None:
    pacific = datetime.fromisoformat(now).replace(tzinfo=ZoneInfo("America/Los_Angeles"))
    assert judge(refused(30023), 1, NUMBER, pacific.astimezone(UTC)) == Hold(
        "sender", "*", timedelta(hours=hours), "error_30023"
    )


def test_a_receipt_is_judged_by_its_status_and_its_code_and_never_asked_about() -> None:
    for status in ("failed", "undelivered"):
        assert judge_receipt(status, 30003, 1, NUMBER, NOW, least) == verdict(30003)
        assert judge_receipt(status, None, 1, NUMBER, NOW) == Final("no_code")
    assert judge_receipt("undelivered", 20500, 1, NUMBER, NOW) == Final("error_20500")
    assert judge_receipt("failed", 20500, 1, NUMBER, NOW, least) == Retry(policy.SCHEDULE, "error_20500")
    assert verdict(20500) == Ask("error_20500")


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
def test_a_person_is_texted_between_eight_and_nine_at_their_place(local: str, opens: str | None) -> None:
    now = new_york(local)
    if opens:
        assert at(now) == Deferred(new_york(opens) - now, "quiet_hours")
    else:
        assert isinstance(at(now), Go)


@pytest.mark.parametrize(("evening", "hours"), [("2026-03-07T21:00", 10), ("2026-10-31T21:00", 12)])
def test_the_night_of_a_clock_change_is_as_long_as_it_is(evening: str, hours: int) -> None:
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
def test_half_hours_count(zone: str, utc: str) -> None:
    opens = datetime.combine(NOW.date(), time.fromisoformat(utc), UTC)
    assert isinstance(at(opens, zone), Go)
    assert isinstance(at(opens - timedelta(seconds=1), zone), Deferred)


def test_the_first_minutes_after_the_opening_are_spread() -> None:
    now = new_york("2026-06-15T07:00")
    late = before_sending(claim(time_zone="America/New_York", claimed_at=now), now, most)
    assert isinstance(late, Deferred)
    assert timedelta(minutes=69) < late.wait < timedelta(minutes=70)


@pytest.mark.parametrize("to_number", ["+12085550123", "+18005550123", "+79161234567"])
@pytest.mark.parametrize("month", [1, 7])
def test_somebody_who_may_be_in_several_zones_is_texted_only_when_it_is_day_in_all(to_number: str, month: int) -> None:
    zones = zones_of(to_number, None)
    assert len(zones) > 1
    day = datetime(2026, month, 15, tzinfo=UTC)
    sent = 0
    for now in (day + n * timedelta(minutes=15) for n in range(96)):
        is_day = all(time(8) <= now.astimezone(zone).time() < time(21) for zone in zones)
        answer = before_sending(claim(to_number=to_number, claimed_at=now, expires_at=day + timedelta(9)), now, least)
        assert isinstance(answer, Go) == is_day
        if isinstance(answer, Go):
            last = now + answer.valid_for - timedelta(seconds=1)
            assert all(time(8) <= last.astimezone(zone).time() < time(21) for zone in zones)
        if isinstance(answer, Deferred):
            opens = now + answer.wait
            assert all(time(8) <= opens.astimezone(zone).time() < time(21) for zone in zones)
        sent += is_day
    assert sent


def test_for_every_number_there_is_an_hour_that_is_day_in_all_its_zones() -> None:
    for names in set(TIMEZONE_DATA.values()):
        zones = tuple(ZoneInfo(name) for name in names)
        for month in (1, 4, 7, 10):
            now = datetime(2026, month, 15, 3, tzinfo=UTC)
            window = joint_window(zones, lines_for(NUMBER, "transactional"), now)
            assert window.opens - now < timedelta(days=2)


def test_a_zone_that_is_stated_outweighs_one_that_is_known_which_outweighs_the_number() -> None:
    morning = datetime(2026, 6, 15, 3, 0, tzinfo=UTC)
    assert isinstance(at(morning, "Asia/Kolkata", recipient_time_zone="America/New_York"), Go)
    assert isinstance(at(morning, "", recipient_time_zone="Asia/Kolkata"), Go)
    assert at(morning, "") == Deferred(timedelta(hours=3), "quiet_hours")
    assert at(morning, "Nowhere/At_All") == at(morning, "../etc/passwd") == at(morning, "")


@pytest.mark.parametrize("kind", ["otp", "emergency"])
def test_a_code_or_an_emergency_does_not_wait_for_the_morning(kind: str) -> None:
    assert at(new_york("2026-06-15T03:00"), kind=kind) == Go(timedelta(hours=10))


def test_twilio_may_deliver_until_the_first_of_expiry_closing_and_ten_hours() -> None:
    assert at(new_york("2026-06-15T09:00")) == Go(timedelta(hours=10))
    assert at(new_york("2026-06-15T17:30")) == Go(timedelta(hours=3.5))
    soon = new_york("2026-06-15T09:20")
    assert at(new_york("2026-06-15T09:00"), expires_at=soon) == Go(timedelta(minutes=20))
    assert at(new_york("2026-06-15T03:00"), kind="otp", expires_at=new_york("2026-06-15T03:05")) == Go(MINUTES[5])


@pytest.mark.parametrize(("seconds", "expired"), [(-60, True), (0, True), (9, True), (10, False)])
def test_what_could_not_arrive_in_time_has_expired(seconds: int, expired: bool) -> None:
    noon = new_york("2026-06-15T12:00")
    answer = at(noon, expires_at=noon + timedelta(seconds=seconds))
    assert answer == (Expired() if expired else Go(timedelta(seconds=10)))


@pytest.mark.parametrize("kind", ["transactional", "marketing", "otp", "emergency"])
@pytest.mark.parametrize("consent", ["opted_in", "opted_out", "unknown"])
def test_nobody_is_texted_who_refused_nor_advertised_to_who_did_not_agree(kind: str, consent: str) -> None:
    answer = at(new_york("2026-06-15T12:00"), kind=kind, consent=consent)
    refuses = consent == "opted_out" or (kind == "marketing" and consent != "opted_in")
    assert isinstance(answer, OptedOut if refuses else Go)


def test_a_hold_is_waited_for_even_by_a_code() -> None:
    until = NOW + MINUTES[7]
    assert at(NOW, held_until=until, kind="otp") == Deferred(MINUTES[7], "hold")
    assert at(until, held_until=until, kind="otp") == Go(timedelta(hours=10))


def test_what_has_expired_or_was_refused_does_not_wait_for_a_hold_or_the_morning() -> None:
    night = new_york("2026-06-15T23:00")
    assert at(night, expires_at=night, consent="opted_out", held_until=night + MINUTES[5]) == Expired()
    assert at(night, consent="opted_out", held_until=night + MINUTES[5]) == OptedOut()
    assert at(night, held_until=night + MINUTES[5]) == Deferred(MINUTES[5], "hold")
