"""The verdict on each failure, and the waits that it grants."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from sms_retry import policy
from sms_retry.codes import SCHEDULE, CodeRule, code_rules
from sms_retry.policy import Policy
from sms_retry.values import Ask, Final, Hold, Receipt, Refused, Retry, StopSending, Ticket, Unreached, Verdict

NUMBER = "+491761234567"
NOW = datetime(2026, 6, 15, 16, 0, tzinfo=UTC)
MINUTES = [timedelta(minutes=n) for n in range(20)]
RELEASE = Policy.of()


def least() -> float:
    return 0.0


def most() -> float:
    return 1 - 1e-9


def refused(code: int | None, http_status: int = 400, retry_after: timedelta | None = None) -> Refused:
    return Refused(http_status, code, "", retry_after)


def verdict(code: int, rules: Policy = RELEASE, roll: policy.Roll = least) -> Any:
    return rules.judge(refused(code), 1, NUMBER, NOW, roll)


def receipt(status: str, code: int | None) -> Receipt:
    return Receipt("SM1", status, code, Ticket(17, 1), NUMBER)


@pytest.mark.parametrize("rule", code_rules().values(), ids=lambda rule: str(rule.code))
def test_every_rule_gives_its_verdict(rule: CodeRule) -> None:
    assert rule.reason
    judged = verdict(rule.code)
    assert judged.spends == rule.spends
    match rule.verdict, judged:
        case "retry", Retry(delays, _, spends):
            assert len(delays) == (rule.retries if rule.spends else 1)
            # A message has three retries: SQL would grant no fourth.
            assert 1 <= rule.retries <= 3
            assert all(timedelta(0) <= wait <= policy.LONGEST_WAIT for wait in delays)
            assert spends == rule.spends
        case "hold", Hold(scope, key, wait):
            assert (scope, key) in {("account", "*"), ("sender", "*"), ("country", "+49"), ("recipient", NUMBER)}
            assert wait > timedelta(0)
            # Only a message that may be the cause spends its retries, and then no other country waits for it.
            assert rule.spends == bool(rule.retries) == (rule.code in (21606, 21659))
        case "final", Final():
            assert not rule.retries
        case ("opt_out", StopSending()) | ("unknown", Ask()):
            pass
        case other:
            pytest.fail(f"{other}")


@pytest.mark.parametrize(
    ("verdict", "delays", "spends", "reason"),
    [
        (Retry((MINUTES[1],), "error_30001"), (MINUTES[1],), True, "error_30001"),
        (Retry((MINUTES[1],), "not_connected", spends=False), (MINUTES[1],), False, "not_connected"),
        (Hold("account", "*", MINUTES[5], "error_20003"), (MINUTES[5],), False, "error_20003"),
        (Final("unlisted"), (), True, "unlisted"),
        (StopSending(), (), True, "opted_out"),
        (Ask("error_20500"), (), True, "error_20500"),
    ],
)
def test_every_verdict_has_the_same_fields(verdict: Verdict, delays: object, spends: bool, reason: str) -> None:
    assert (verdict.delays, verdict.spends, verdict.reason) == (delays, spends, reason)
    assert verdict.hold is (verdict if isinstance(verdict, Hold) else None)


@pytest.mark.parametrize(
    ("code", "minutes"),
    [
        (30001, (20, 40, 60)),
        (21611, (20, 40, 60)),
        (30003, (5, 10)),
        (30008, (15, 30)),
        (14107, (2,)),
        (30022, (5, 10, 15)),
    ],
)
def test_waits_grow_by_the_strategy_of_the_rule(code: int, minutes: tuple[int, ...]) -> None:
    waits = tuple(timedelta(minutes=n) for n in minutes)
    assert verdict(code) == Retry(waits, f"error_{code}")

    for wait, longest in zip(waits, verdict(code, roll=most).delays, strict=True):
        spread = max(timedelta(seconds=90), wait / 2)
        assert wait + spread - timedelta(milliseconds=1) < longest <= wait + spread


@pytest.mark.parametrize(("strategy", "minutes"), [("schedule", (1, 5, 15)), ("immediate", (0, 0)), ("linear", (3, 6))])
def test_a_rule_may_grant_the_common_schedule_or_no_wait(strategy: str, minutes: tuple[int, ...]) -> None:
    rule = replace(code_rules()[30003], strategy=strategy, base=MINUTES[3])
    assert verdict(30003, Policy({30003: rule})).delays == tuple(MINUTES[n] for n in minutes)


def test_a_wait_is_at_most_half_a_day_before_its_spread() -> None:
    rule = replace(code_rules()[63018], base=timedelta(hours=5))
    assert verdict(63018, Policy({63018: rule})).delays == tuple(timedelta(hours=n) for n in (5, 10, 12))


def test_a_wait_is_at_least_twilios_retry_after() -> None:
    waits = RELEASE.judge(refused(30020, retry_after=MINUTES[7]), 1, NUMBER, NOW, least)
    assert waits == Retry((MINUTES[7], MINUTES[10], timedelta(minutes=20)), "error_30020")

    hours = RELEASE.judge(refused(None, 429, timedelta(hours=2)), 1, NUMBER, NOW, least)
    assert hours == Retry((timedelta(hours=2),), "error_20429", spends=False)


def test_a_free_retry_waits_longer_each_time_up_to_five_minutes() -> None:
    for failure in (Unreached("no route"), refused(20429), refused(20503, 503), refused(70005)):
        granted = [RELEASE.judge(failure, attempt, NUMBER, NOW, least) for attempt in range(1, 99)]
        waits = [each.delays[0] for each in granted if isinstance(each, Retry) and not each.spends]
        assert len(waits) == 98
        assert waits == sorted(waits)
        assert waits[0] < waits[-1] == timedelta(minutes=5)


@pytest.mark.parametrize("code", [1, 12345, 99999])
def test_a_code_without_a_rule_is_final(code: int) -> None:
    assert RELEASE.judge(refused(code), 1, NUMBER, NOW) == Final("unlisted")


@pytest.mark.parametrize(("status", "meant"), [(401, 20003), (403, 20403), (404, 20404), (429, 20429)])
def test_an_answer_without_a_code_is_judged_by_its_status(status: int, meant: int) -> None:
    assert RELEASE.judge(refused(None, status), 1, NUMBER, NOW, least) == RELEASE.judge(
        refused(meant), 1, NUMBER, NOW, least
    )


@pytest.mark.parametrize("status", [n for n in range(400, 500) if n not in policy.CODES_OF_STATUSES])
def test_an_answer_without_a_code_says_nothing_about_the_message(status: int) -> None:
    waits = [RELEASE.judge(refused(None, status), attempt, NUMBER, NOW, least) for attempt in (1, 2, 3, 99)]
    assert waits == [Retry((timedelta(seconds=n),), "no_twilio_code", spends=False) for n in (5, 10, 20, 300)]


@pytest.mark.parametrize("code", [21606, 21659])
def test_a_message_for_the_wrong_destination_spends_its_retries_and_holds_its_country(code: int) -> None:
    assert verdict(code) == Hold(
        "country", "+49", MINUTES[15], f"error_{code}", (MINUTES[15], timedelta(minutes=30), timedelta(minutes=45))
    )


@pytest.mark.parametrize("code", [30032, 30033, 30034, 30035])
@pytest.mark.parametrize(("to_number", "key"), [("+14155550123", "+1"), ("+18765550123", "+1"), (NUMBER, "+49")])
def test_a_missing_registration_in_the_us_holds_the_calling_code(code: int, to_number: str, key: str) -> None:
    held = RELEASE.judge(refused(code), 1, to_number, NOW)
    assert isinstance(held, Hold)
    assert (held.scope, held.key, held.spends) == ("country", key, False)


@pytest.mark.parametrize(
    ("code", "scope"),
    [(10001, "account"), (10002, "account"), (30047, "recipient"), (30610, "recipient"), (30023, "recipient")],
)
def test_a_hold_is_as_narrow_as_its_code(code: int, scope: str) -> None:
    assert verdict(code).scope == scope


@pytest.mark.parametrize("code", [20011, 20413, 30045, 30046, 30640, 90009, *range(572001, 572007), 21608])
def test_a_known_final_code_is_not_unlisted(code: int) -> None:
    assert verdict(code) == Final(f"error_{code}")


def test_twilios_own_failures_of_a_message_are_tried_again_alike() -> None:
    assert verdict(12400).delays == verdict(30500).delays
    assert "primary compliance profile" in code_rules()[21608].reason


def test_an_operators_hold_spends_no_retry_unless_it_grants_some() -> None:
    row = ("30005", "hold", "", 600, 0, "recipient", True, "by hand")
    assert verdict(30005, Policy.of([row])).spends is False


@pytest.mark.parametrize("code", [21610, 30630])
def test_an_opt_out_is_final(code: int) -> None:
    assert verdict(code) == StopSending()


@pytest.mark.parametrize(
    ("to_number", "key"), [("+447700900001", "+44"), ("+18765550123", "+1876"), ("+14155550123", "+1415")]
)
def test_the_key_of_a_country_hold_is_its_prefix(to_number: str, key: str) -> None:
    assert RELEASE.judge(refused(21408), 1, to_number, NOW) == Hold("country", key, timedelta(hours=1), "error_21408")


@pytest.mark.parametrize(
    ("now", "hours"), [("2026-06-15T20:30", 3.5), ("2026-06-15T00:00", 24), ("2026-11-01T00:00", 25)]
)
def test_the_hold_of_a_daily_cap_ends_at_midnight_pacific(now: str, hours: float) -> None:
    pacific = datetime.fromisoformat(now).replace(tzinfo=ZoneInfo("America/Los_Angeles"))
    assert RELEASE.judge(refused(30023), 1, NUMBER, pacific.astimezone(UTC)) == Hold(
        "recipient", NUMBER, timedelta(hours=hours), "error_30023"
    )


def test_a_receipt_is_judged_by_its_status_and_code_without_another_question() -> None:
    for status in ("failed", "undelivered"):
        assert RELEASE.judge_receipt(receipt(status, 30003), NOW, least) == verdict(30003)
        assert RELEASE.judge_receipt(receipt(status, None), NOW) == Final("no_code")
    assert RELEASE.judge_receipt(receipt("undelivered", 20500), NOW) == Final("error_20500")
    assert RELEASE.judge_receipt(receipt("failed", 20500), NOW, least) == Retry(SCHEDULE, "error_20500")
    assert verdict(20500) == Ask("error_20500")
