"""`make cost`: the bill follows from the numbers of the template."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from deploy import callbacks, cost, prices
from deploy.section import read_template
from sms_retry import metrics, worker
from sms_retry.delivery import Recorded
from tests.unit.test_template_on_aws import counted

TEMPLATE = Path(__file__).parents[2] / "template.yaml"


@pytest.fixture
def template() -> dict[str, Any]:
    return read_template(TEMPLATE)


def dollars(lines: list[prices.Line], item: str) -> float:
    [found] = [line.dollars for line in lines if line.item.startswith(item)]
    return found


def test_a_million_messages_cost_what_their_callbacks_cost(template: dict[str, Any]) -> None:
    lines = cost.per_messages(template, 1_000_000)
    assert {line.item: round(line.dollars, 2) for line in lines} == {
        "worker: sending, beyond its lingering": 0.0,
        "callbacks: requests of the API": 3.0,
        "callbacks: requests of the webhook": 0.6,
        "callbacks: the webhook": 0.2,
        "callbacks: logs": 1.15,
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
    for price in prices.PRICES:
        assert re.fullmatch(r"https://aws\.amazon\.com/[a-z/-]+/pricing/", price.source), price


def test_the_functions_begin_no_trace(template: dict[str, Any]) -> None:
    # X-Ray is paid only where an application begins a trace, as the bill says.
    assert template["Globals"]["Function"]["Tracing"] == "PassThrough"


def dollars_by_way(template: dict[str, Any], messages: int) -> dict[str, float]:
    return {way: round(prices.total(lines), 2) for way, lines in callbacks.ways(template, messages).items()}


def test_the_receipts_of_a_million_messages_cost_by_each_way(template: dict[str, Any]) -> None:
    assert dollars_by_way(template, 1_000_000) == {
        "HTTP API: the default": 4.95,
        "the same, where the functions begin traces": 14.20,
        "the same, with `WebhookSystemLogs=WARN`": 4.39,
        "function URL: `WebhookFunctionUrl=true`": 1.68,
        "**the same, with `WebhookSystemLogs=WARN`**": 1.12,
        "the same with half the memory, if it takes no longer": 1.02,
        "HTTP API to SQS, in batches of 10": 4.58,
        "Event Streams to the HTTP API, in full batches": 0.05,
        "Event Streams to Kinesis": 11.00,
    }


def test_kinesis_costs_as_much_as_the_function_url_at_the_number_that_the_page_names(template: dict[str, Any]) -> None:
    number = callbacks.pays_from(template)
    for messages, is_cheaper in ((round(number * 0.98), False), (round(number * 1.02), True)):
        by_way = callbacks.ways(template, messages)
        kinesis, url = (
            prices.total(by_way[way])
            for way in ("Event Streams to Kinesis", "**the same, with `WebhookSystemLogs=WARN`**")
        )
        assert (kinesis < url) is is_cheaper
    assert f"{number:,} messages a month" in re.sub(r"\s+", " ", " ".join(callbacks.verdict(template, 1_000_000)))


def test_the_bill_counts_the_line_that_the_webhook_writes(capsys: pytest.CaptureFixture[str]) -> None:
    metrics.receipt(Recorded("settled", hold_set=False, unlisted=False))
    metrics.flush()
    [written] = capsys.readouterr().out.splitlines()
    [counted_line] = callbacks.OF_WEBHOOK
    assert len(written) == len(json.dumps(counted_line, separators=(",", ":")))
    assert json.loads(written).keys() == counted_line.keys()


def test_the_bill_counts_the_access_log_of_the_template(template: dict[str, Any]) -> None:
    line = json.loads(callbacks.access_line(template))
    assert (line["route"], line["status"]) == ("POST /twilio/status", "204")
    by_api, by_url = (callbacks.logged(template, by_api=is_api, of_lambda=True) for is_api in (True, False))
    assert (by_api - by_url) * callbacks.GIGABYTE == pytest.approx(len(callbacks.access_line(template)))


def test_a_batch_of_events_is_no_larger_than_twilio_makes_it() -> None:
    events = callbacks.CALLBACKS * 1_000_000 / callbacks.in_batches(1_000_000)
    size = len(json.dumps(callbacks.EVENT, separators=(",", ":")))
    assert events * size <= 64 * 1024 < (events + 1) * size


def test_the_pages_round_the_bill(template: dict[str, Any]) -> None:
    by_api = prices.total(cost.per_messages(template, 1_000_000))
    by_url = prices.total(callbacks.by_function_url(template, 1_000_000, of_lambda=False))
    month = prices.total(cost.per_month(template))
    page = (TEMPLATE.parent / "docs/deploying.md").read_text()
    assert f"About ${by_api:.0f} for a million messages, or ${by_url:.0f} with [callbacks for less]" in page
    assert (
        f"${by_api:.0f} for a million messages and ${month:.0f} a month" in (TEMPLATE.parent / "README.md").read_text()
    )
