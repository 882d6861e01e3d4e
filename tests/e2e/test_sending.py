"""send_sms and retry_sms, as an application and a person invoke them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier

import pytest

from local.aws.triggers import load
from local.stack import Stack
from local.twilio.stand_in import Accept, Refuse, Reset, always
from tests.e2e.messages import BODY, PEOPLE, call_back, message, number, posts_to, queue, statuses

STATE = {"message_id", "status", "provider_sid", "next_attempt_at", "error_code"}


def test_a_message_is_sent_at_once_and_its_state_is_returned(stack: Stack) -> None:
    state = stack.invoke("send_sms", message())

    (post,) = stack.twilio.accepted()
    assert state == {
        "message_id": 1,
        "status": "sent",
        "provider_sid": post.sid,
        "next_attempt_at": None,
        "error_code": None,
    }
    assert post.form["StatusCallback"] == "https://sms.example.com/twilio/status?t=1-1#rc=3&rp=5xx,ct,rt"


def test_a_message_that_fails_for_a_while_waits_with_a_time(stack: Stack) -> None:
    stack.twilio.plan(number(0), Refuse(429, 20429))

    state = stack.invoke("send_sms", message())

    assert set(state) == STATE
    assert (state["status"], state["provider_sid"], state["error_code"]) == ("queued", None, 20429)
    assert datetime.fromisoformat(state["next_attempt_at"]) > datetime.now(UTC)


def test_a_number_that_is_none_fails_at_once(stack: Stack) -> None:
    stack.twilio.plan(number(0), Refuse(400, 21211))

    state = stack.invoke("send_sms", message())
    stack.let_minutes_pass(30)

    assert (state["status"], state["next_attempt_at"], state["error_code"]) == ("failed", None, 21211)
    assert posts_to(stack, 0) == 1


def test_the_same_key_twice_is_one_message_and_one_send(stack: Stack) -> None:
    first = stack.invoke("send_sms", message(message_key="order-1"))
    second = stack.invoke("send_sms", message(message_key="order-1"))

    assert first == second
    assert len(stack.twilio.posts()) == 1


def test_the_same_key_in_two_containers_at_once_is_one_message_and_one_send(stack: Stack) -> None:
    stack.twilio.behave(latency=0.1)
    containers = [load("send_sms"), load("send_sms")]
    together = Barrier(2)

    def send(n: int) -> int:
        together.wait()
        return int(containers[n](message(message_key="order-1"))["message_id"])

    with ThreadPoolExecutor(2) as pool:
        ids = list(pool.map(send, range(2)))
    for container in containers:
        container.close()

    assert len(set(ids)) == 1
    assert len(stack.twilio.posts()) == 1
    assert statuses(stack) == {"sent": 1}


def test_a_message_for_later_waits_until_then(stack: Stack) -> None:
    later = datetime.now(UTC) + timedelta(minutes=3)

    state = stack.invoke("send_sms", message(scheduled_for=later.isoformat()))
    assert datetime.fromisoformat(state["next_attempt_at"]) == later
    stack.let_minutes_pass(2)
    assert posts_to(stack, 0) == 0

    stack.let_minutes_pass(2)
    assert posts_to(stack, 0) == 1


def test_a_first_send_that_the_application_saw_fail_is_sent_again(stack: Stack) -> None:
    state = stack.invoke("send_sms", message(failed={"error_code": 30001, "error_message": "Queue overflow"}))
    assert (state["status"], state["error_code"]) == ("queued", 30001)
    assert posts_to(stack, 0) == 0

    stack.let_minutes_pass(4)

    assert statuses(stack) == {"delivered": 1}
    assert posts_to(stack, 0) == 1


@pytest.mark.parametrize(("code", "consent"), [(21211, []), (21610, [(number(0), "opted_out")])])
def test_a_first_send_that_failed_for_good_has_failed(stack: Stack, code: int, consent: list[tuple[str, str]]) -> None:
    state = stack.invoke("send_sms", message(failed={"error_code": code}))
    stack.let_minutes_pass(5)

    assert (state["status"], state["next_attempt_at"], state["error_code"]) == ("failed", None, code)
    assert posts_to(stack, 0) == 0
    assert stack.db.execute("select phone_number, consent from sms_retry.sms_recipients").fetchall() == consent


def test_a_message_that_the_application_sent_itself_is_retried_when_it_does_not_arrive(stack: Stack) -> None:
    sid = "SM" + "0" * 32
    state = stack.invoke("send_sms", message(sent={"provider_sid": sid}))
    assert (state["status"], state["provider_sid"]) == ("sent", sid)

    receipt = {"MessageSid": sid, "MessageStatus": "undelivered", "ErrorCode": "30003", "To": number(0)}
    assert call_back(stack, "/twilio/status", receipt) == (204,)
    assert statuses(stack) == {"queued": 1}
    stack.let_minutes_pass(10)

    assert statuses(stack) == {"delivered": 1}
    assert posts_to(stack, 0) == 1


def test_a_bad_event_names_every_wrong_field_and_stores_nothing(stack: Stack) -> None:
    bad = {
        "to": "0176 1234567",
        "body": "",
        "kind": "newsletter",
        "on_unknown": "hope",
        "time_zone": "Mars/Olympus_Mons",
        "expires_at": "tomorrow",
        "scheduled_for": "2026-01-31T09:00:00",
        "failed": {"error_code": "30001"},
        "sent": {"provider_sid": "17"},
        "message_key": 17,
        "color": "red",
    }
    with pytest.raises(ValueError, match="nothing was stored") as refused:
        stack.invoke("send_sms", bad)

    named = {fault.split(" ")[0].split(".")[0] for fault in str(refused.value).split(": ", 1)[1].split("; ")}
    assert named == set(bad)
    assert statuses(stack) == {}
    assert stack.twilio.posts() == ()


def test_an_error_about_an_event_does_not_quote_it(stack: Stack) -> None:
    with pytest.raises(ValueError, match="color") as refused:
        stack.invoke("send_sms", message(color=BODY))
    assert PEOPLE not in str(refused.value)
    assert BODY not in str(refused.value)


def test_a_waiting_message_is_sent_now_when_somebody_says_so(stack: Stack) -> None:
    stack.twilio.plan(number(0), Refuse(400, 30001), Accept())
    stack.invoke("send_sms", message())

    state = stack.invoke("retry_sms", {"message_id": 1})

    assert set(state) == STATE
    assert state["status"] == "sent"
    assert len(stack.twilio.accepted()) == 1


def test_a_message_whose_retries_are_spent_gets_one_more_try(stack: Stack) -> None:
    stack.twilio.behave(default=always(Refuse(400, 30001)))
    stack.invoke("send_sms", message())
    stack.let_minutes_pass(25)
    assert (posts_to(stack, 0), statuses(stack)) == (4, {"failed": 1})

    assert stack.invoke("retry_sms", {"message_id": 1})["status"] == "failed"
    stack.let_minutes_pass(25)

    assert posts_to(stack, 0) == 5


def test_an_unknown_message_is_sent_again_only_by_force(stack: Stack) -> None:
    stack.twilio.plan(number(0), Reset(accepted=None))
    stack.invoke("send_sms", message())

    assert stack.invoke("retry_sms", {"message_id": 1})["status"] == "unknown"
    assert posts_to(stack, 0) == 1
    assert stack.invoke("retry_sms", {"message_id": 1, "force": True})["status"] == "sent"
    assert posts_to(stack, 0) == 2


def test_a_sent_message_is_left_as_it_is(stack: Stack) -> None:
    sent = stack.invoke("send_sms", message())

    assert stack.invoke("retry_sms", {"message_id": 1, "force": True}) == sent
    assert posts_to(stack, 0) == 1


def test_a_message_that_is_not_there_cannot_be_retried(stack: Stack) -> None:
    with pytest.raises(LookupError, match="message_id 17"):
        stack.invoke("retry_sms", {"message_id": 17})
    with pytest.raises(ValueError, match=r"message_id .*; force "):
        stack.invoke("retry_sms", {"message_id": "17", "force": "yes"})


def test_a_message_from_sql_goes_with_the_next_tick(stack: Stack) -> None:
    queue(stack)
    stack.let_minutes_pass()
    assert posts_to(stack, 0) == 1
