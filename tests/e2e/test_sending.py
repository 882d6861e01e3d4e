"""send_sms and retry_sms, as applications and operators invoke them."""

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


def test_a_temporary_failure_leaves_the_message_queued_with_a_time(stack: Stack) -> None:
    stack.twilio.plan(number(0), Refuse(429, 20429))

    state = stack.invoke("send_sms", message())

    assert set(state) == STATE
    assert (state["status"], state["provider_sid"], state["error_code"]) == ("queued", None, 20429)
    assert datetime.fromisoformat(state["next_attempt_at"]) > datetime.now(UTC)


def test_an_invalid_number_fails_at_once(stack: Stack) -> None:
    stack.twilio.plan(number(0), Refuse(400, 21211))

    state = stack.invoke("send_sms", message())
    stack.let_minutes_pass(30)

    assert (state["status"], state["next_attempt_at"], state["error_code"]) == ("failed", None, 21211)
    assert posts_to(stack, 0) == 1


def test_only_to_keeps_messages_of_a_copied_database_from_strangers(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(4):
        queue(stack, n)
    monkeypatch.setenv("ONLY_TO", number(2))

    by_hand = stack.invoke("retry_sms", {"message_id": 1})
    at_once = stack.invoke("send_sms", message(9))
    tick = stack.invoke("process_retries")

    assert (tick["success"], tick["failed"]) == (1, 2)
    assert (by_hand["status"], at_once["status"]) == ("failed", "failed")
    assert [post.form["To"] for post in stack.twilio.posts()] == [number(2)]


def test_two_events_with_one_key_are_one_message_and_one_post(stack: Stack) -> None:
    first = stack.invoke("send_sms", message(message_key="order-1"))
    second = stack.invoke("send_sms", message(message_key="order-1"))

    assert first == second
    assert len(stack.twilio.posts()) == 1


def test_two_concurrent_events_with_one_key_are_one_message_and_one_post(stack: Stack) -> None:
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


@pytest.mark.parametrize("extra", [{}, {"failed": {"error_code": 30003}}, {"scheduled_for": "2099-01-01T00:00:00Z"}])
def test_an_invocation_that_lambda_repeats_is_one_message(stack: Stack, extra: dict[str, object]) -> None:
    event = message(**extra, **({"expires_at": "2099-01-02T00:00:00Z"} if "scheduled_for" in extra else {}))
    first = stack.handlers["send_sms"](event, request_id="c6af9ac6-7b61-11e6-9a41-93e812345678")
    again = stack.handlers["send_sms"](event, request_id="c6af9ac6-7b61-11e6-9a41-93e812345678")
    another = stack.handlers["send_sms"](event)

    assert first["message_id"] == again["message_id"] != another["message_id"]
    assert posts_to(stack, 0) == (0 if extra else 2)


def test_a_key_of_another_recipient_or_another_text_is_refused(stack: Stack) -> None:
    stack.invoke("send_sms", message(0, message_key="parcel-17"))

    for event in (message(1, message_key="parcel-17"), message(0, message_key="parcel-17", body="Another text.")):
        with pytest.raises(
            Exception, match=r"^nothing was stored: message_key belongs to a message with another"
        ) as raised:
            stack.invoke("send_sms", event)
        assert type(raised.value).__name__ == "InvalidEvent"
    assert (len(stack.twilio.posts()), statuses(stack)) == (1, {"sent": 1})


def test_a_scheduled_message_waits_for_its_time(stack: Stack) -> None:
    later = datetime.now(UTC) + timedelta(minutes=3)

    state = stack.invoke("send_sms", message(scheduled_for=later.isoformat()))
    assert datetime.fromisoformat(state["next_attempt_at"]) == later
    stack.let_minutes_pass(2)
    assert posts_to(stack, 0) == 0

    stack.let_minutes_pass(2)
    assert posts_to(stack, 0) == 1


def test_a_message_that_the_application_failed_to_send_is_sent_again(stack: Stack) -> None:
    state = stack.invoke("send_sms", message(failed={"error_code": 30021, "error_message": "Internal failure"}))
    assert (state["status"], state["error_code"]) == ("queued", 30021)
    assert posts_to(stack, 0) == 0

    stack.let_minutes_pass(6)

    assert statuses(stack) == {"delivered": 1}
    assert posts_to(stack, 0) == 1


@pytest.mark.parametrize(("code", "consent"), [(21211, []), (21610, [(number(0), "opted_out")])])
def test_a_first_send_with_a_final_error_is_stored_as_failed(
    stack: Stack, code: int, consent: list[tuple[str, str]]
) -> None:
    state = stack.invoke("send_sms", message(failed={"error_code": code}))
    stack.let_minutes_pass(5)

    assert (state["status"], state["next_attempt_at"], state["error_code"]) == ("failed", None, code)
    assert posts_to(stack, 0) == 0
    assert stack.db.execute("select phone_number, consent from sms_retry.sms_recipients").fetchall() == consent


def test_a_message_that_the_application_sent_is_sent_again_if_undelivered(stack: Stack) -> None:
    sid = "SM" + "0" * 32
    state = stack.invoke("send_sms", message(sent={"provider_sid": sid}))
    assert (state["status"], state["provider_sid"]) == ("sent", sid)

    receipt = {"MessageSid": sid, "MessageStatus": "undelivered", "ErrorCode": "30003", "To": number(0)}
    assert call_back(stack, "/twilio/status", receipt) == (204,)
    assert statuses(stack) == {"queued": 1}
    stack.let_minutes_pass(10)

    assert statuses(stack) == {"delivered": 1}
    assert posts_to(stack, 0) == 1


def test_the_error_for_an_invalid_event_names_every_wrong_field_and_nothing_is_stored(stack: Stack) -> None:
    bad = {
        "to": "0176 1234567",
        "body": "",
        "kind": "newsletter",
        "on_unknown": "hope",
        "time_zone": "Mars/Olympus_Mons",
        "expires_at": "tomorrow",
        "scheduled_for": "2026-01-31T09:00:00",
        "failed": {"error_code": "30021"},
        "sent": {"provider_sid": "17"},
        "message_key": 17,
        "color": "red",
    }
    with pytest.raises(ValueError, match="nothing was stored") as raised:
        stack.invoke("send_sms", bad)

    named = {fault.split(" ")[0].split(".")[0] for fault in str(raised.value).split(": ", 1)[1].split("; ")}
    assert named == set(bad)
    assert statuses(stack) == {}
    assert stack.twilio.posts() == ()


def test_a_message_that_finds_no_sending_hours_before_it_expires_is_refused(stack: Stack) -> None:
    now = datetime.now(UTC)
    midnight = f"Etc/GMT+{now.hour}" if now.hour <= 12 else f"Etc/GMT-{24 - now.hour}"
    night = {"to": "+4915112345678", "body": "Hello.", "time_zone": midnight}
    with pytest.raises(ValueError, match="nothing was stored: expires_at is too early"):
        stack.invoke("send_sms", night | {"expires_at": (now + timedelta(hours=2)).isoformat()})
    assert statuses(stack) == {}
    later = (now + timedelta(hours=30)).isoformat()
    assert stack.invoke("send_sms", night | {"expires_at": later})["status"] == "queued"


def test_the_error_for_an_invalid_event_does_not_quote_it(stack: Stack) -> None:
    with pytest.raises(ValueError, match="color") as raised:
        stack.invoke("send_sms", message(color=BODY))
    assert PEOPLE not in str(raised.value)
    assert BODY not in str(raised.value)


def test_retry_sms_sends_a_waiting_message_at_once(stack: Stack) -> None:
    stack.twilio.plan(number(0), Refuse(400, 30021), Accept())
    stack.invoke("send_sms", message())

    state = stack.invoke("retry_sms", {"message_id": 1})

    assert set(state) == STATE
    assert state["status"] == "sent"
    assert len(stack.twilio.accepted()) == 1


def test_retry_sms_gives_a_failed_message_one_more_try(stack: Stack) -> None:
    stack.twilio.behave(default=always(Refuse(400, 30021)))
    stack.invoke("send_sms", message())
    stack.let_minutes_pass(25)
    assert (posts_to(stack, 0), statuses(stack)) == (4, {"failed": 1})

    assert stack.invoke("retry_sms", {"message_id": 1})["status"] == "failed"
    stack.let_minutes_pass(25)

    assert posts_to(stack, 0) == 5


def test_retry_sms_sends_an_unknown_message_only_with_force(stack: Stack) -> None:
    stack.twilio.plan(number(0), Reset(accepted=None))
    stack.invoke("send_sms", message())

    assert stack.invoke("retry_sms", {"message_id": 1})["status"] == "unknown"
    assert posts_to(stack, 0) == 1
    assert stack.invoke("retry_sms", {"message_id": 1, "force": True})["status"] == "sent"
    assert posts_to(stack, 0) == 2


def test_retry_sms_does_not_change_a_sent_message(stack: Stack) -> None:
    sent = stack.invoke("send_sms", message())

    assert stack.invoke("retry_sms", {"message_id": 1, "force": True}) == sent
    assert posts_to(stack, 0) == 1


def test_retry_sms_reports_a_missing_message_and_invalid_fields(stack: Stack) -> None:
    with pytest.raises(LookupError, match="message_id 17"):
        stack.invoke("retry_sms", {"message_id": 17})
    with pytest.raises(ValueError, match=r"message_id .*; force "):
        stack.invoke("retry_sms", {"message_id": "17", "force": "yes"})


def test_a_message_queued_in_sql_is_sent_at_the_next_tick(stack: Stack) -> None:
    queue(stack)
    stack.let_minutes_pass()
    assert posts_to(stack, 0) == 1
