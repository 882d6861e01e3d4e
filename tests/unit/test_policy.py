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
    match rule.verdict, verdict(rule.code):
        case "retry", Retry(delays, _, spends):
            assert len(delays) == (rule.retries if rule.spends else 1)
            # A message has three retries: SQL would grant no fourth.
            assert 1 <= rule.retries <= 3
            assert all(timedelta(0) <= wait <= policy.LONGEST_WAIT for wait in delays)
            assert spends == rule.spends
        case "hold", Hold(scope, key, wait):
            assert (scope, key) in {("account", "*"), ("sender", "*"), ("country", "+49"), ("recipient", NUMBER)}
            assert wait > timedelta(0)
            assert not rule.spends
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
    ("code", "minutes"), [(30001, (1, 2, 4)), (30003, (5, 10)), (30008, (15, 30)), (14107, (2,)), (30022, (5, 10, 15))]
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
    waits = RELEASE.judge(refused(30001, retry_after=MINUTES[3]), 1, NUMBER, NOW, least)
    assert waits == Retry((MINUTES[3], MINUTES[3], MINUTES[4]), "error_30001")

    hours = RELEASE.judge(refused(None, 429, timedelta(hours=2)), 1, NUMBER, NOW, least)
    assert hours == Retry((timedelta(hours=2),), "error_20429", spends=False)


def test_a_free_retry_waits_longer_each_time_up_to_five_minutes() -> None:
    for failure in (Unreached("no route"), refused(20429), refused(20503, 503), refused(70005)):
        granted = [RELEASE.judge(failure, attempt, NUMBER, NOW, least) for attempt in range(1, 99)]
        waits = [each.delays[0] for each in granted if isinstance(each, Retry) and not each.spends]
        assert len(waits) == 98
        assert waits == sorted(waits)
        assert waits[0] < waits[-1] == timedelta(minutes=5)


@pytest.mark.parametrize("code", [None, 1, 12345, 99999])
def test_a_code_without_a_rule_is_final(code: int | None) -> None:
    assert RELEASE.judge(refused(code), 1, NUMBER, NOW) == Final("unlisted")


@pytest.mark.parametrize(("status", "meant"), [(401, 20003), (403, 20403), (404, 20404), (429, 20429)])
def test_an_answer_without_a_code_is_judged_by_its_status(status: int, meant: int) -> None:
    assert RELEASE.judge(refused(None, status), 1, NUMBER, NOW, least) == RELEASE.judge(
        refused(meant), 1, NUMBER, NOW, least
    )


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
        "sender", "*", timedelta(hours=hours), "error_30023"
    )


def test_a_receipt_is_judged_by_its_status_and_code_without_another_question() -> None:
    for status in ("failed", "undelivered"):
        assert RELEASE.judge_receipt(receipt(status, 30003), NOW, least) == verdict(30003)
        assert RELEASE.judge_receipt(receipt(status, None), NOW) == Final("no_code")
    assert RELEASE.judge_receipt(receipt("undelivered", 20500), NOW) == Final("error_20500")
    assert RELEASE.judge_receipt(receipt("failed", 20500), NOW, least) == Retry(SCHEDULE, "error_20500")
    assert verdict(20500) == Ask("error_20500")
