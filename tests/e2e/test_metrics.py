"""What the handlers count, as CloudWatch reads it off their standard output."""

from __future__ import annotations

import io
import json

import pytest

from tests.e2e.messages import call_back, number, queue
from tests.local.stack import Stack
from tests.local.twilio import Accept, Refuse


def read(log: io.StringIO, capsys: pytest.CaptureFixture[str], since: int) -> dict[str, float]:
    """Every metric that was put out since then, summed."""
    sums: dict[str, float] = {}
    for line in (log.getvalue()[since:] + capsys.readouterr().out).splitlines():
        if not line.startswith('{"_aws"'):
            continue
        emf = json.loads(line)
        assert emf["service"] == "sms-retry"
        for metric in emf["_aws"]["CloudWatchMetrics"][0]["Metrics"]:
            sums[metric["Name"]] = sums.get(metric["Name"], 0) + sum(emf[metric["Name"]])
    return sums


def test_outcomes_and_codes_that_the_table_lacks_are_counted(
    stack: Stack, log: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    since = len(log.getvalue())
    stack.twilio.plan(number(1), Refuse(400, 29999))
    for n in range(3):
        queue(stack, n)
    stack.invoke("process_retries")

    counted = read(log, capsys, since)
    assert (counted["SuccessMessages"], counted["FailedMessages"], counted["UnlistedMessages"]) == (2, 1, 1)
    assert (counted["StaleMessages"], counted["UnknownMessages"]) == (0, 0)


def test_forged_callbacks_and_unlisted_receipts_are_counted(
    stack: Stack, log: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    since = len(log.getvalue())
    stack.twilio.plan(number(0), Accept(receipts=(("failed", 39999),)))
    queue(stack)
    stack.invoke("process_retries")
    stack.twilio.deliver_callbacks()
    assert call_back(stack, "/twilio/status?t=1-1", {"MessageSid": "SM1", "MessageStatus": "sent"}, "guessed") == (403,)

    counted = read(log, capsys, since)
    assert (counted["SettledCallbacks"], counted["UnlistedMessages"], counted["ForgedCallbacks"]) == (1, 1, 1)
