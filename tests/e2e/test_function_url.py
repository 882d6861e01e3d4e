"""Callbacks through a function URL of the webhook in place of the HTTP API: the same end for every message."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from local.aws.triggers import URL_HOST, http_front
from local.stack import Stack
from local.twilio.callbacks import post_callback
from local.twilio.stand_in import Accept, BadAnswer, Callbacks, Hang, Refuse
from tests.e2e.messages import message, number, statuses
from tests.tables import truncate_all

FUNCTION_URL = f"https://{URL_HOST}"
STATES = """
select m.to_number, m.status, m.error_code, m.retry_count, q.status, q.attempt, q.reason
from sms_retry.sms_messages m join sms_retry.sms_retry_queue q on q.message_id = m.id order by m.id
"""
ATTEMPTS = "select queue_id, attempt, outcome, error_code from sms_retry.sms_attempts order by 1, 2, 3"
RECEIPTS = (
    "select status, error_code, ticket, count(*) from sms_retry.sms_delivery_events group by 1, 2, 3 order by 3, 1"
)


@pytest.fixture
def function_url(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The function URL, to which the senders of the stack have Twilio post. As on AWS it ends in a slash."""
    with http_front({"$default": "twilio_webhook"}, is_function_url=True) as front:
        monkeypatch.setitem(stack.twilio.route, FUNCTION_URL, front.url)
        monkeypatch.setenv("PUBLIC_WEBHOOK_URL", f"{FUNCTION_URL}/")
        yield FUNCTION_URL


def life(stack: Stack) -> list[list[tuple[object, ...]]]:
    """The states, attempts and receipts of messages that end in each way, after an hour."""
    mixed = Callbacks(repeated=0.5, out_of_order=0.5)
    stack.twilio.behave(callbacks=mixed, seed=7, hang=0.01)
    stack.twilio.plan(number(1), Accept(("sent", ("undelivered", 30003))), Accept())
    stack.twilio.plan(number(2), Accept(("sent", ("undelivered", 30005))))
    stack.twilio.plan(number(3), Refuse(400, 21611), Accept())
    stack.twilio.plan(number(4), Refuse(400, 21211))
    stack.twilio.plan(number(5), Hang(Accept(list_lag=float("inf"))))
    stack.twilio.plan(number(6), BadAnswer(500, accepted=Accept(("sent", ("failed", 30007)), list_lag=float("inf"))))
    for n in range(8):
        stack.invoke("send_sms", message(n))
    stack.let_minutes_pass(60)
    return [stack.db.execute(rows).fetchall() for rows in (STATES, ATTEMPTS, RECEIPTS)]


@pytest.fixture
def by_api(stack: Stack) -> list[list[tuple[object, ...]]]:
    """The life of the messages with callbacks through the HTTP API."""
    found = life(stack)
    stack.twilio.reset()
    truncate_all(stack.db)
    return found


def test_messages_end_by_the_function_url_as_they_end_by_the_api(
    by_api: list[list[tuple[object, ...]]], function_url: str, stack: Stack
) -> None:
    by_url = life(stack)
    assert {post.form["StatusCallback"].partition("/twilio/")[0] for post in stack.twilio.posts()} == {function_url}
    assert by_url == by_api
    # A ticket settles the messages whose answer was lost, without Twilio's list.
    assert statuses(stack) == {"delivered": 5, "undelivered": 1, "failed": 2}


def test_the_webhook_knows_its_function_url_from_the_event_alone(
    function_url: str, stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    sid = stack.invoke("send_sms", message())["provider_sid"]
    monkeypatch.setenv("PUBLIC_WEBHOOK_URL", "https://sms.example.com")
    assert stack.twilio.call_back(sid, "delivered").answers == (204,)
    assert statuses(stack) == {"delivered": 1}


def test_a_forged_callback_and_one_for_another_function_url_change_nothing(function_url: str, stack: Stack) -> None:
    sid = stack.invoke("send_sms", message())["provider_sid"]
    receipt = {"MessageSid": sid, "MessageStatus": "delivered", "To": number(0)}
    local = stack.twilio.route[function_url]
    assert post_callback(f"{function_url}/twilio/status", receipt, "a guess", stack.twilio.route) == (403,)
    other = f"https://{URL_HOST.replace('b2c3', 'c3b2')}"
    assert post_callback(f"{other}/twilio/status", receipt, stack.twilio.auth_token, {other: local}) == (403,)
    assert statuses(stack) == {"sent": 1}
    assert os.environ["PUBLIC_WEBHOOK_URL"] == f"{function_url}/"


def test_twilio_repeats_a_callback_that_lambda_throttles(function_url: str, stack: Stack) -> None:
    stack.invoke("send_sms", message())
    [post] = stack.twilio.posts()
    assert post.form["StatusCallback"] == f"{function_url}/twilio/status?t=1-1#rc=3&rp=4xx,5xx,ct,rt"
