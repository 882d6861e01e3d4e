"""The rule of flatness of `make soak`, and the time since which it needs Twilio's record."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random

import pytest

from tests.simulation.plan import Text
from tests.soak.lines import LEAST, Line, faults
from tests.soak.proof import Proof
from tests.soak.traffic import PEOPLE

DAYS = 120


def line(values: list[float], limit: float = 1.05, floor: float = 0.0) -> Line:
    return Line("memory of the worker", "MiB", values, limit, floor)


def noise(seed: int) -> float:
    return Random(seed).uniform(-5, 5)


@pytest.mark.parametrize("a_day", [0.2, 1.0, 10.0])
def test_a_rising_line_is_found_in_noise(a_day: float) -> None:
    rising = line([100 + noise(day) + a_day * day for day in range(DAYS)])

    assert rising.rises
    assert faults([rising])[0].startswith("memory of the worker rises: ")


@pytest.mark.parametrize("seed", range(20))
def test_a_flat_noisy_line_is_not_found(seed: int) -> None:
    assert faults([line([100 + noise(1000 * seed + day) for day in range(DAYS)])]) == []


def test_a_line_that_rises_only_in_its_first_third_is_flat() -> None:
    assert faults([line([float(min(day, DAYS // 3)) for day in range(DAYS)])]) == []


def test_a_few_high_days_do_not_make_a_line_rise() -> None:
    assert faults([line([1000.0 if day % 10 == 9 else 100.0 for day in range(DAYS)])]) == []


def test_a_small_line_may_rise_by_its_floor() -> None:
    values = [1.0] * (2 * DAYS // 3) + [2.0] * (DAYS // 3)

    assert line(values).rises
    assert not line(values, floor=1.0).rises


def test_a_line_of_few_days_is_no_proof() -> None:
    assert "run more MINUTES" in faults([line([1.0] * (LEAST - 1))])[0]


def test_the_record_of_twilio_is_needed_since_the_first_text_that_is_not_compared() -> None:
    now = datetime(2026, 11, 27, 12, tzinfo=UTC)
    proof = Proof()
    proof.expect([Text(now - timedelta(days=n), PEOPLE[n], "Notice.", "otp", "bank", "sql") for n in (2, 12, 7)])

    assert proof.needed_since(now) == now - timedelta(days=12)


def test_the_record_of_twilio_is_not_needed_when_every_text_is_compared() -> None:
    now = datetime(2026, 11, 27, 12, tzinfo=UTC)

    assert Proof().needed_since(now) == now
