"""`make cost`: the bill follows from the numbers of the template."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from samcli.yamlhelper import yaml_parse

from deploy import cost
from sms_retry import worker
from tests.unit.test_template_on_aws import counted

TEMPLATE = Path(__file__).parents[2] / "template.yaml"


@pytest.fixture
def template() -> dict[str, Any]:
    parsed: dict[str, Any] = yaml_parse(TEMPLATE.read_text())
    return parsed


def dollars(lines: list[cost.Line], item: str) -> float:
    [found] = [line.dollars for line in lines if line.item.startswith(item)]
    return found


def test_a_million_messages_cost_what_their_callbacks_cost(template: dict[str, Any]) -> None:
    lines = cost.per_messages(template, 1_000_000)
    assert {line.item: round(line.dollars, 2) for line in lines} == {
        "worker: sending, beyond its lingering": 0.0,
        "callbacks: requests of the API": 3.0,
        "callbacks: requests of the webhook": 0.6,
        "callbacks: the webhook": 0.2,
        "callbacks: logs": 1.5,
    }


def test_a_worker_that_does_not_linger_is_paid_for_what_it_sends(template: dict[str, Any]) -> None:
    template["Parameters"]["LingerSeconds"]["Default"] = 0
    assert dollars(cost.per_month(template), "process_retries") == pytest.approx(0.0146, abs=0.0001)
    # 100 million POSTs of 0.2 s, 20 at once: a million seconds, of which the ticks pay for 2,190.
    sending = dollars(cost.per_messages(template, 100_000_000), "worker")
    assert sending == pytest.approx((1_000_000 - 2_190) * 0.5 * 0.0000133334)


@pytest.mark.parametrize(("seconds", "month"), [(50, 14.60), (25, 7.30)])
def test_a_worker_that_lingers_is_paid_for_these_seconds_of_each_minute(
    template: dict[str, Any], seconds: int, month: float
) -> None:
    template["Parameters"]["LingerSeconds"]["Default"] = seconds
    assert dollars(cost.per_month(template), "process_retries") == pytest.approx(month, abs=0.01)


@pytest.mark.parametrize(
    ("function", "memory", "item"),
    [("ProcessRetriesFunction", 1024, "process_retries"), ("ReconcileFunction", 1024, "reconcile")],
)
def test_twice_the_memory_costs_twice_as_much(template: dict[str, Any], function: str, memory: int, item: str) -> None:
    before = dollars(cost.per_month(template), item)
    template["Resources"][function]["Properties"]["MemorySize"] = memory
    assert dollars(cost.per_month(template), item) == pytest.approx(2 * before)


def test_the_bill_counts_each_metric_that_an_alarm_reads(template: dict[str, Any]) -> None:
    before = dollars(cost.per_month(template), "alarms")
    # The two metrics of an expression, and an alarm on one metric.
    del template["Resources"]["FinalErrors"], template["Resources"]["Backlog"]
    assert before - dollars(cost.per_month(template), "alarms") == pytest.approx(3 * 0.10)


def test_the_bill_counts_each_metric_that_a_function_can_send() -> None:
    assert len(counted()) == cost.METRICS


def test_the_bill_takes_the_time_of_a_post_from_the_worker() -> None:
    assert cost.SEND == worker.USUAL_SEND


def test_every_schedule_of_the_template_is_paid(template: dict[str, Any]) -> None:
    assert cost.schedules(template) == {
        "ProcessRetriesFunction": 43_800,
        "ReconcileFunction": 8_760,
        "HealthCheckFunction": 2_920,
        "PublishEventsFunction": 43_800,
        "CleanupRetriesFunction": 730,
    }


def test_each_price_has_a_page_of_aws_as_its_source() -> None:
    for price in cost.PRICES:
        assert re.fullmatch(r"https://aws\.amazon\.com/[a-z/-]+/pricing/", price.source), price


def test_the_functions_begin_no_trace(template: dict[str, Any]) -> None:
    # X-Ray is paid only where an application begins a trace, as the bill says.
    assert template["Globals"]["Function"]["Tracing"] == "PassThrough"
