"""The life of some messages from the first send to the clean-up, as text that is the same at each run."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from local.stack import Stack
from local.twilio.plan import Accept, BadAnswer, Callbacks, Refuse
from local.waiting import let_time_pass
from tests.e2e.messages import call_back, message, number, posts_to, queue
from tests.shell import command

# As Twilio words it: the apostrophe is in no encoding of one byte.
REFUSED = json.dumps({"code": 21211, "message": "The ‘To’ number isn’t valid \N{THUMBS UP SIGN}", "status": 400})

# These differ from life to life. An instant's offset from UTC stays.
CHANGES = re.compile(
    r"""SM[0-9a-f]{32} | [0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9:.]+ | (?<=_ms":[ ])[0-9]+
    | (seconds|dead_tuples)\\*":[ ][0-9.]+""",
    re.VERBOSE,
)

MESSAGES = """
select m.id, m.status, m.error_code, m.error_message, m.retry_count, q.status, q.attempt, q.reason
from sms_retry.sms_messages m join sms_retry.sms_retry_queue q on q.message_id = m.id order by m.id
"""
ATTEMPTS = """
select queue_id, attempt, outcome, error_code, error_message, http_status from sms_retry.sms_attempts order by 1, 2, 3
"""


def life(stack: Stack, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """First sends, worker, receipts, STOP, reconcile, retry, health, command line and clean-up, with their results."""
    stack.twilio.plan(number(3), Refuse(400, 21611))
    stack.twilio.plan(number(4), BadAnswer(500, accepted=Accept(callbacks=Callbacks(lost=1.0))))
    stack.twilio.plan(number(5), BadAnswer(400, REFUSED, accepted=None))
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    found: dict[str, Any] = {
        "first": stack.invoke("send_sms", message(1, message_key="life", body="Grüße \N{WAVING HAND SIGN}"))
    }
    for n in (2, 3, 4, 5):
        queue(stack, n)
    for n in (6, 8):
        found[f"scheduled {n}"] = stack.invoke("send_sms", message(n, scheduled_for=tomorrow))
    found["failed"] = stack.invoke("send_sms", message(7, failed={"error_code": 30001, "error_message": "Ünknown"}))
    reply = {"MessageSid": "SM" + "0" * 32, "AccountSid": stack.twilio.account_sid, "Body": "Stop.", "From": number(6)}
    assert call_back(stack, "/twilio/inbound", {**reply, "To": "+15005550006"}) == (200,)
    found["tick"] = stack.invoke("process_retries")
    _pass_time(stack, minutes=31)
    found["list"] = stack.invoke("reconcile")
    found["second tick"] = stack.invoke("process_retries")
    found["forced"] = stack.invoke("retry_sms", {"message_id": 7, "force": True})
    _pass_time(stack, minutes=5)
    found["health"] = stack.invoke("health_check")
    capsys.readouterr()
    for words in ("hold country +44 --for 2h", "status", "show 1", "release country +44"):
        assert command([*words.split(), "--json"]) == 0
    found["printed"] = capsys.readouterr().out.splitlines()
    found["messages"], found["attempts"] = (stack.db.execute(rows).fetchall() for rows in (MESSAGES, ATTEMPTS))
    found["posts"] = [posts_to(stack, n) for n in range(1, 9)]
    _pass_time(stack, days=40)
    found["removed"] = stack.invoke("cleanup_retries")
    return CHANGES.sub("#", json.dumps(found, default=str, ensure_ascii=False, indent=1)).splitlines()


def _pass_time(stack: Stack, **time: float) -> None:
    let_time_pass(stack.db, **time)
    stack.twilio.let_time_pass(timedelta(**time).total_seconds())
    stack.twilio.deliver_callbacks()
