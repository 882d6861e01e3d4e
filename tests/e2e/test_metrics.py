"""The metrics of the handlers, as CloudWatch reads them from standard output."""

from __future__ import annotations

import io
import json
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta

import pytest

from local.stack import Stack
from local.twilio.stand_in import Accept, BadAnswer, Refuse
from local.waiting import let_time_pass
from tests.e2e.messages import call_back, message, number, queue

NAMES = ("ticket", "message_id", "code", "reason", "http_status", "twilio_request_id")


def read(log: io.StringIO, capsys: pytest.CaptureFixture[str], since: int) -> dict[str, float]:
    """The sum of each metric printed after position `since`."""
    sums: dict[str, float] = {}
    for line in _printed(log, capsys, since):
        if not line.startswith('{"_aws"'):
            continue
        emf = json.loads(line)
        assert emf["service"] == "sms-retry"
        assert emf["_aws"]["CloudWatchMetrics"][0]["Dimensions"] == [["service"]]
        for metric in emf["_aws"]["CloudWatchMetrics"][0]["Metrics"]:
            sums[metric["Name"]] = sums.get(metric["Name"], 0) + sum(emf[metric["Name"]])
    return sums


def test_outcomes_and_unlisted_codes_are_counted(
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


def test_forged_and_unsigned_callbacks_and_unlisted_receipts_are_counted(
    stack: Stack, log: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    since = len(log.getvalue())
    stack.twilio.plan(number(0), Accept(receipts=(("failed", 39999),)))
    queue(stack)
    stack.invoke("process_retries")
    stack.twilio.deliver_callbacks()
    assert call_back(stack, "/twilio/status?t=1-1", {"MessageSid": "SM1", "MessageStatus": "sent"}, "guessed") == (403,)
    for _ in range(10):
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(f"{stack.front.url}/twilio/status", b"MessageSid=SM1", timeout=10)

    counted = read(log, capsys, since)
    assert (counted["SettledCallbacks"], counted["UnlistedMessages"], counted["ForgedCallbacks"]) == (1, 1, 1)
    assert counted["UnsignedCallbacks"] == 10


def test_accepted_messages_are_counted_in_every_function_that_sends(
    stack: Stack, log: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    since = len(log.getvalue())
    stack.twilio.plan(number(1), Refuse(400, 21211))
    stack.invoke("send_sms", message(0))
    failed = stack.invoke("send_sms", message(1))
    stack.invoke("retry_sms", {"message_id": failed["message_id"]})
    queue(stack, 2)
    stack.invoke("process_retries")

    counted = read(log, capsys, since)
    assert (counted["SentMessages"], counted["ProcessedMessages"]) == (3, 4)
    assert (counted["SuccessMessages"], counted["FailedMessages"]) == (3, 1)


def test_the_duration_of_a_tick_starts_at_its_scheduled_time(
    stack: Stack, log: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    since = len(log.getvalue())
    stack.invoke("process_retries", {"scheduled_time": (datetime.now(UTC) - timedelta(seconds=90)).isoformat()})
    assert 90 <= read(log, capsys, since)["TickSeconds"] < 120

    since = len(log.getvalue())
    returned = stack.invoke("process_retries")
    assert 0 <= read(log, capsys, since)["TickSeconds"] - returned["duration_ms"] / 1000 < 0.01


def test_a_list_that_lacks_an_accepted_message_is_counted(
    stack: Stack, log: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    stack.twilio.plan(number(0), BadAnswer(502, accepted=None))
    stack.twilio.plan(number(1), Accept(receipts=(), list_lag=3600))
    for n in range(2):
        stack.invoke("send_sms", message(n))
    let_time_pass(stack.db, minutes=35)
    since = len(log.getvalue())

    assert stack.invoke("reconcile")["released"] == 0

    assert read(log, capsys, since)["DistrustedLists"] == 1


def test_deferrals_are_counted_by_reason(stack: Stack, log: io.StringIO, capsys: pytest.CaptureFixture[str]) -> None:
    stack.db.execute(
        "insert into sms_retry.sms_holds values ('country', '+49176', now() + interval '1 hour', '1 hour', 'test')"
    )
    stack.db.execute("insert into sms_retry.sms_limits values ('limited', 1)")
    since = len(log.getvalue())
    queue(stack, 0)
    queue_one = "select sms_retry.queue_sms_retry(%s, 'Hello.', kind => %s, business_id => %s, time_zone => %s)"
    stack.db.execute(queue_one, ["+14155550001", "transactional", "default", _zone_at_night()])
    for _ in range(2):
        stack.db.execute(queue_one, ["+14155550002", "otp", "limited", None])
    stack.invoke("process_retries")

    counted = read(log, capsys, since)
    reasons = ("HoldDeferrals", "QuietHoursDeferrals", "DailyLimitDeferrals", "GivenBackDeferrals")
    assert [counted[reason] for reason in reasons] == [1, 1, 1, 0]
    assert counted["DeferredMessages"] == 3


def test_a_hold_is_counted_when_it_is_set(stack: Stack, log: io.StringIO, capsys: pytest.CaptureFixture[str]) -> None:
    since = len(log.getvalue())
    stack.twilio.plan(number(0), Refuse(401, 20003))
    stack.invoke("send_sms", message(0))
    assert read(log, capsys, since)["OpenedHolds"] == 1

    stack.db.execute("delete from sms_retry.sms_holds")
    stack.twilio.plan(number(1), Accept(receipts=(("failed", 20003),)))
    stack.invoke("send_sms", message(1))
    since = len(log.getvalue())
    stack.twilio.deliver_callbacks()
    assert read(log, capsys, since)["OpenedHolds"] == 1


def test_each_post_that_was_not_accepted_has_a_log_line_with_its_ticket(
    stack: Stack, log: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    since = len(log.getvalue())
    stack.twilio.plan(number(1), Refuse(400, 21211))
    stack.twilio.plan(number(2), BadAnswer(500))
    for n in range(3):
        queue(stack, n)
    stack.invoke("process_retries")

    lines = [json.loads(line) for line in _printed(log, capsys, since) if '"ticket"' in line]
    logged = {line["message"]: [line.get(name) for name in NAMES] for line in lines}
    statement = "select outcome, twilio_request_id from sms_retry.sms_attempts where outcome <> 'accepted'"
    request_ids = dict(stack.db.execute(statement).fetchall())
    assert logged == {
        "refused": ["2-1", 2, 21211, "error_21211", 400, request_ids["refused"]],
        "unknown": ["3-1", 3, None, None, 500, request_ids["unknown"]],
    }


def test_a_receipt_of_a_failure_has_a_log_line_with_its_ticket(stack: Stack, caplog: pytest.LogCaptureFixture) -> None:
    stack.twilio.plan(number(0), Accept(receipts=("sent", ("undelivered", 30005))))
    stack.invoke("send_sms", message(0))
    stack.twilio.deliver_callbacks()

    [line] = [vars(record) for record in caplog.records if record.name == "sms-retry"]
    assert (line["msg"], line["ticket"], line["code"], line["answer"]) == ("undelivered", "1-1", 30005, "settled")


def test_the_health_check_publishes_its_figures_with_units(
    stack: Stack, log: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    stack.twilio.plan(number(0), Refuse(400, 21211))
    for n in range(2):
        stack.invoke("send_sms", message(n))
    queue(stack, 2)
    let_time_pass(stack.db, minutes=3)
    since = len(log.getvalue())
    stack.invoke("health_check")

    emf = json.loads(_printed(log, capsys, since)[-1])
    units = {metric["Name"]: metric["Unit"] for metric in emf["_aws"]["CloudWatchMetrics"][0]["Metrics"]}
    assert (emf["SuccessRate"], units["SuccessRate"]) == ([50.0], "Percent")
    assert (emf["OverdueMessages"], units["OverdueMessages"]) == ([1.0], "Count")
    assert units["OldestDueSeconds"] == "Seconds"
    assert 180 <= emf["OldestDueSeconds"][0] <= 185


def _printed(log: io.StringIO, capsys: pytest.CaptureFixture[str], since: int) -> list[str]:
    return (log.getvalue()[since:] + capsys.readouterr().out).splitlines()


def _zone_at_night() -> str:
    """A time zone in which it is about 2 a.m."""
    hours = (2 - datetime.now(UTC).hour + 12) % 24 - 12
    return f"Etc/GMT{-hours:+d}"
