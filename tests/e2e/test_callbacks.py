"""Twilio's callbacks, signed and posted to the HTTP API in front of the webhook."""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from urllib.parse import urlencode
from uuid import uuid4

import pytest

from local.aws.triggers import API_HOST, http_api_event
from local.stack import ENVIRONMENT, Stack
from local.twilio.callbacks import post_callback, signature
from local.twilio.stand_in import Accept, Callbacks
from tests.e2e.messages import call_back, message, number, posts_to, statuses

TABLES = ("sms_messages", "sms_retry_queue", "sms_attempts", "sms_recipients", "sms_delivery_events", "sms_holds")


def everything(stack: Stack) -> list[list[tuple[object, ...]]]:
    return [stack.db.execute(f"select * from sms_retry.{table} order by 1, 2").fetchall() for table in TABLES]


def test_delivery_receipts_move_a_message_from_sent_to_delivered(stack: Stack) -> None:
    sid = stack.invoke("send_sms", message())["provider_sid"]

    assert stack.twilio.call_back(sid, "sent").answers == (204,)
    assert statuses(stack) == {"sent": 1}
    assert stack.twilio.call_back(sid, "delivered").answers == (204,)
    assert statuses(stack) == {"delivered": 1}


def test_an_undelivered_message_is_sent_again(stack: Stack) -> None:
    stack.twilio.plan(number(0), Accept(("sent", ("undelivered", 30003))), Accept())
    stack.invoke("send_sms", message())

    stack.twilio.deliver_callbacks()
    assert statuses(stack) == {"queued": 1}
    stack.let_minutes_pass(10)

    assert statuses(stack) == {"delivered": 1}
    assert posts_to(stack, 0) == 2


def test_an_undeliverable_message_ends_as_undelivered(stack: Stack) -> None:
    stack.twilio.plan(number(0), Accept(("sent", ("undelivered", 30005))))
    stack.invoke("send_sms", message())

    stack.let_minutes_pass(20)

    assert statuses(stack) == {"undelivered": 1}
    assert posts_to(stack, 0) == 1


def test_twilio_is_asked_for_the_code_that_a_failed_receipt_lacks(stack: Stack) -> None:
    stack.twilio.plan(number(0), Accept(("sent", ("undelivered", 30003)), Callbacks(lost=1)))
    sid = stack.invoke("send_sms", message())["provider_sid"]
    stack.twilio.deliver_callbacks()
    assert statuses(stack) == {"sent": 1}

    receipt = {"MessageSid": sid, "MessageStatus": "undelivered", "To": number(0)}
    assert call_back(stack, "/twilio/status", receipt) == (204,)

    assert statuses(stack) == {"queued": 1}
    assert stack.db.execute("select error_code from sms_retry.sms_messages").fetchone() == (30003,)


def test_a_late_delivery_cancels_the_waiting_retry(stack: Stack) -> None:
    stack.twilio.plan(number(0), Accept((("undelivered", 30003),)))
    sid = stack.invoke("send_sms", message())["provider_sid"]
    stack.twilio.deliver_callbacks()
    assert statuses(stack) == {"queued": 1}

    stack.twilio.call_back(sid, "delivered")
    stack.let_minutes_pass(10)

    assert statuses(stack) == {"delivered": 1}
    assert posts_to(stack, 0) == 1


def test_reordered_and_repeated_receipts_do_not_change_a_final_status(stack: Stack) -> None:
    stack.twilio.plan(number(0), Accept(callbacks=Callbacks(out_of_order=1, repeated=1)))
    stack.invoke("send_sms", message())

    callbacks = stack.twilio.deliver_callbacks()

    assert [callback.params["MessageStatus"] for callback in callbacks] == ["delivered", "sent"] * 2
    assert {callback.answers for callback in callbacks} == {(204,)}
    assert statuses(stack) == {"delivered": 1}


def test_a_forged_callback_changes_nothing(stack: Stack) -> None:
    sid = stack.invoke("send_sms", message())["provider_sid"]
    before = everything(stack)

    receipt = {"MessageSid": sid, "MessageStatus": "delivered", "To": number(0)}
    assert call_back(stack, "/twilio/status?t=1-1", receipt, token="a guess") == (403,)
    stop = {"From": number(0), "Body": "STOP"}
    assert call_back(stack, "/twilio/inbound", stop, token="a guess") == (403,)

    assert everything(stack) == before


def test_a_callback_without_a_signature_or_with_another_ticket_is_forged(stack: Stack) -> None:
    sid = stack.invoke("send_sms", message(0))["provider_sid"]
    stack.invoke("send_sms", message(1))
    before = everything(stack)

    receipt = {"MessageSid": sid, "MessageStatus": "delivered", "To": number(0)}
    its_own = signature(stack.twilio.auth_token, f"{ENVIRONMENT['PUBLIC_WEBHOOK_URL']}/twilio/status?t=1-1", receipt)
    for ticket, headers in (("1-1", {}), ("2-1", {"X-Twilio-Signature": its_own})):
        url = f"{stack.front.url}/twilio/status?t={ticket}"
        with pytest.raises(urllib.error.HTTPError) as raised:
            urllib.request.urlopen(urllib.request.Request(url, urlencode(receipt).encode(), headers), timeout=10)
        with raised.value:
            assert raised.value.code == 403

    assert everything(stack) == before


def test_a_signed_request_that_is_not_a_callback_is_rejected(stack: Stack) -> None:
    assert call_back(stack, "/twilio/status", {"To": number(0)}) == (400,)
    assert statuses(stack) == {}


def test_a_person_gets_no_message_after_replying_stop(stack: Stack) -> None:
    stack.invoke("send_sms", message(0, failed={"error_code": 30001}))
    assert statuses(stack) == {"queued": 1}

    assert call_back(stack, "/twilio/inbound", {"From": number(0), "Body": "Stop"}) == (200,)
    assert stack.invoke("send_sms", message(0))["status"] == "failed"
    stack.let_minutes_pass(5)

    assert statuses(stack) == {"failed": 2}
    assert posts_to(stack, 0) == 0


def reply(stack: Stack, body: str, **form: str) -> tuple[object, ...]:
    """The answers of the webhook to an inbound message from a person, with a new SID unless it is given."""
    return call_back(
        stack, "/twilio/inbound", {"MessageSid": f"SM{uuid4().hex}", "From": number(0), "Body": body, **form}
    )


def status_of(stack: Stack, business_id: str, kind: str) -> str:
    """The status of a message that a business sends to the person now."""
    return str(stack.invoke("send_sms", message(0, business_id=business_id, kind=kind))["status"])


def test_start_gives_back_the_consent_to_marketing_that_a_stop_took_away(stack: Stack) -> None:
    stack.db.execute("select sms_retry.set_sms_consent('shop', %s, 'opted_in')", [number(0)])

    reply(stack, "Please stop.")
    assert status_of(stack, "shop", "marketing") == "failed"
    reply(stack, "Start")

    assert status_of(stack, "shop", "marketing") != "failed"


def test_yes_to_a_clinic_allows_no_marketing_of_a_shop(stack: Stack) -> None:
    assert status_of(stack, "clinic", "otp") == "sent"
    reply(stack, "Yes")
    assert status_of(stack, "shop", "marketing") == "failed"
    assert status_of(stack, "clinic", "otp") == "sent"


def test_a_repeated_start_does_not_end_a_later_stop(stack: Stack) -> None:
    start = {"MessageSid": "SM" + "1" * 32}
    reply(stack, "START", **start)
    reply(stack, "STOP")
    assert reply(stack, "START", **start) == (200,)
    assert status_of(stack, "shop", "otp") == "failed"


@pytest.mark.parametrize("channel", ["rcs:", "whatsapp:"])
def test_a_stop_on_another_channel_counts(stack: Stack, channel: str) -> None:
    assert reply(stack, "STOP", From=channel + number(0), OptOutType="STOP") == (200,)
    assert status_of(stack, "shop", "otp") == "failed"


def test_a_receipt_of_another_channel_sets_a_hold_on_the_country(stack: Stack) -> None:
    sid = stack.invoke("send_sms", message())["provider_sid"]
    receipt = {"MessageSid": sid, "MessageStatus": "failed", "ErrorCode": "21408", "To": "rcs:+18765590110"}
    assert call_back(stack, "/twilio/status", receipt) == (204,)
    assert stack.db.execute("select scope, key from sms_retry.sms_holds").fetchall() == [("country", "+1876")]


def test_a_stop_to_a_toll_free_number_opts_the_person_out(stack: Stack) -> None:
    sid = stack.invoke("send_sms", message())["provider_sid"]
    receipt = {"MessageSid": sid, "MessageStatus": "undelivered", "ErrorCode": "30004", "To": number(0)}
    assert call_back(stack, "/twilio/status", receipt | {"From": "+18335550100"}) == (204,)
    assert status_of(stack, "shop", "otp") == "failed"


def test_a_reply_that_asks_for_nothing_is_counted_and_not_stored(
    stack: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    before = everything(stack)
    for form in ({}, {"From": "68849", "OptOutType": "STOP"}, {"OptOutType": "HELP"}):
        assert reply(stack, "Stop by at 5?", **form) == (200,)
    reply(stack, "yes")

    counted = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    assert sum("OtherReplies" in line for line in counted) == 3
    assert everything(stack) == before
    assert stack.db.execute("select count(*) from sms_retry.sms_replies").fetchone() == (1,)


def test_another_address_loses_no_receipt_and_no_stop(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    own, old, new = f"https://{API_HOST}", "https://old.example.com", "https://new.example.com"
    for n, (address, former) in enumerate([(own, ""), (old, ""), (new, old)]):
        monkeypatch.setenv("PUBLIC_WEBHOOK_URL", address)
        monkeypatch.setenv("FORMER_WEBHOOK_URLS", former)
        monkeypatch.setitem(stack.twilio.route, address, stack.front.url)
        stack.invoke("send_sms", message(n))

    callbacks = stack.twilio.deliver_callbacks()

    assert {callback.answers for callback in callbacks} == {(204,)}
    assert statuses(stack) == {"delivered": 3}
    for n, address in enumerate([own, old, new]):
        stop = {"MessageSid": f"SM{n}", "From": number(n), "Body": "STOP"}
        url = f"{address}/twilio/inbound"
        assert post_callback(url, stop, stack.twilio.auth_token, stack.twilio.route) == (200,)
        assert stack.invoke("send_sms", message(n))["status"] == "failed"


def test_the_stage_of_the_api_gives_the_signed_url_if_the_environment_does_not(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = "https://a1b2c3d4e5.execute-api.eu-west-1.amazonaws.com"
    monkeypatch.delenv("PUBLIC_WEBHOOK_URL")
    form = {"MessageSid": "SM1", "MessageStatus": "sent", "To": number(0)}
    signed = signature(stack.twilio.auth_token, f"{own}/twilio/status", form)
    headers = {"content-type": "application/x-www-form-urlencoded", "x-twilio-signature": signed}
    event = http_api_event("POST", "/twilio/status", "", headers, urlencode(form).encode())

    assert stack.invoke("twilio_webhook", event | {"stageVariables": {"PUBLIC_WEBHOOK_URL": own}})["statusCode"] == 204
    with pytest.raises(Exception, match="PUBLIC_WEBHOOK_URL is not set"):
        stack.invoke("twilio_webhook", event)


def calls_of(stack: Stack, event: dict[str, object], status: int) -> int:
    """The number of calls, of Python and of C, that the webhook makes for an event."""
    stack.invoke("twilio_webhook", event)
    calls = 0

    def count(_frame: object, what: str, _argument: object) -> None:
        nonlocal calls
        calls += what in ("call", "c_call")

    sys.setprofile(count)
    try:
        answer = stack.invoke("twilio_webhook", event)
    finally:
        sys.setprofile(None)
    assert answer["statusCode"] == status
    return calls


@pytest.mark.parametrize(
    "form",
    [
        {f"f{n:02}": "" for n in range(100)},
        {f"f{n:02}": "x" * 155 for n in range(100)},
        {f"f{n:02}": "\0" * 50 for n in range(100)},
        {"Body": "\0" * 5400},
    ],
    ids=["empty fields", "long fields", "escaped fields", "one escaped field"],
)
def test_a_forged_request_costs_at_most_twice_a_genuine_one(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, form: dict[str, str]
) -> None:
    # Calls do not depend on the machine. In time, on one machine and in one run, the ratios are below these.
    monkeypatch.setenv("FORMER_WEBHOOK_URLS", "https://old.example.com")
    sid = stack.invoke("send_sms", message())["provider_sid"]
    genuine = {"MessageSid": sid, "MessageStatus": "sent", "AccountSid": ENVIRONMENT["TWILIO_ACCOUNT_SID"]}
    public, token = f"{ENVIRONMENT['PUBLIC_WEBHOOK_URL']}/twilio/status?t=1-1", ENVIRONMENT["TWILIO_AUTH_TOKEN"]

    def event(form: dict[str, str], signed: str) -> dict[str, object]:
        headers = {"Content-Type": "application/x-www-form-urlencoded", "X-Twilio-Signature": signed}
        return http_api_event("POST", "/twilio/status", "t=1-1", headers, urlencode(form).encode())

    allowed = 2 * calls_of(stack, event(genuine, signature(token, public, genuine)), 204)
    assert calls_of(stack, event(form, signature("another", public, form)), 403) <= allowed
