from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlencode
from urllib.request import Request, urlopen

import pytest
from twilio.request_validator import RequestValidator

from local.twilio.callbacks import signature
from local.twilio.stand_in import ACCOUNT_SID, AUTH_TOKEN, Accept, Behaviour, Callbacks, Hang, TwilioStandIn

ANNA = "+4915112345678"
SENDER = "+15005550006"
PUBLIC = "https://sms.example.com"
STATUS = f"{PUBLIC}/twilio/status?t=17-2"


@dataclass
class Webhook:
    """A webhook that keeps the (path, headers, params) of each callback.

    It answers with `answers` in turn, then with 204; None in `answers` is no answer.
    """

    answers: list[int | None] = field(default_factory=list)
    got: list[tuple[str, dict[str, str], dict[str, str]]] = field(default_factory=list)
    expected: int = -1
    complete: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)
    url: str = ""

    def statuses(self) -> list[str]:
        return [params["MessageStatus"] for _, _, params in self.got]


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    hook = Webhook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            hook.got.append((self.path, dict(self.headers), dict(parse_qsl(body, keep_blank_values=True))))
            if len(hook.got) == hook.expected:
                hook.complete.set()
            answer = hook.answers.pop(0) if hook.answers else 204
            if answer is None:
                hook.over.wait(5)
            else:
                self.send_response(answer)
                self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 64

    with Server(("127.0.0.1", 0), Handler) as server:
        hook.url = f"http://127.0.0.1:{server.server_port}"
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        yield hook
        hook.over.set()
        server.shutdown()
        serving.join()


@pytest.fixture
def twilio(webhook: Webhook) -> Iterator[TwilioStandIn]:
    with TwilioStandIn(callbacks="manual", route={PUBLIC: webhook.url}) as stand_in:
        yield stand_in


def send(twilio: TwilioStandIn, status_callback: str = STATUS, **form: str) -> str:
    """Send Anna a message and return its SID."""
    form = {"To": ANNA, "Body": "hello", "StatusCallback": status_callback} | (form or {"From": SENDER})
    url = f"{twilio.url}/2010-04-01/Accounts/{ACCOUNT_SID}/Messages.json"
    login = base64.b64encode(f"{ACCOUNT_SID}:{AUTH_TOKEN}".encode()).decode()
    request = Request(url, urlencode(form).encode(), {"Authorization": f"Basic {login}"})
    with urlopen(request, timeout=5) as answer:
        return str(json.load(answer)["sid"])


def test_the_signature_equals_twilios_published_example() -> None:
    call = {
        "CallSid": "CA1234567890ABCDE",
        "Caller": "+14158675310",
        "Digits": "1234",
        "From": "+14158675310",
        "To": "+18005551212",
    }
    assert signature("12345", "https://example.com/myapp.php?foo=1&bar=2", call) == "L/OH5YylLD5NRKLltdqwSvS0BnU="


def test_callbacks_report_sent_and_then_delivered(twilio: TwilioStandIn, webhook: Webhook) -> None:
    sid = send(twilio)
    twilio.deliver_callbacks()
    assert webhook.statuses() == ["sent", "delivered"]
    path, headers, params = webhook.got[-1]
    assert path == "/twilio/status?t=17-2"
    assert (headers["Host"], headers["User-Agent"]) == ("sms.example.com", "TwilioProxy/1.1")
    assert len(params.pop("RawDlrDoneDate")) == 10
    assert params == {
        "AccountSid": ACCOUNT_SID,
        "ApiVersion": "2010-04-01",
        "From": SENDER,
        "MessageSid": sid,
        "MessageStatus": "delivered",
        "SmsSid": sid,
        "SmsStatus": "delivered",
        "To": ANNA,
    }
    assert [callback.answers for callback in twilio.callbacks()] == [(204,), (204,)]


def test_callbacks_are_signed_over_the_public_url_without_its_fragment(twilio: TwilioStandIn, webhook: Webhook) -> None:
    send(twilio, f"{STATUS}#rc=3&rp=5xx,ct,rt")
    twilio.deliver_callbacks()
    for _, headers, params in webhook.got:
        assert RequestValidator(AUTH_TOKEN).validate(STATUS, params, headers["X-Twilio-Signature"])
        assert not RequestValidator("another").validate(STATUS, params, headers["X-Twilio-Signature"])


def test_callbacks_name_the_error_code_of_a_failure_and_the_messaging_service(
    twilio: TwilioStandIn, webhook: Webhook
) -> None:
    twilio.plan(ANNA, Accept(receipts=("queued", ("failed", 30001))))
    send(twilio, MessagingServiceSid="MG" + "b" * 32)
    twilio.deliver_callbacks()
    queued, failed = (params for _, _, params in webhook.got)
    assert "ErrorCode" not in queued
    assert (failed["MessageStatus"], failed["ErrorCode"]) == ("failed", "30001")
    assert failed["MessagingServiceSid"] == "MG" + "b" * 32


def test_a_message_without_status_callback_has_no_callbacks(twilio: TwilioStandIn, webhook: Webhook) -> None:
    sid = send(twilio, "")
    assert twilio.deliver_callbacks() == ()
    with pytest.raises(ValueError, match="without a StatusCallback"):
        twilio.call_back(sid, "delivered")
    assert webhook.got == []


def test_a_message_with_a_lost_answer_still_has_callbacks(twilio: TwilioStandIn, webhook: Webhook) -> None:
    twilio.behave(hang=0)
    twilio.plan(ANNA, Hang())
    with pytest.raises(OSError, match="without response"):
        send(twilio)
    twilio.deliver_callbacks()
    assert webhook.statuses() == ["sent", "delivered"]


def test_a_lost_callback_is_never_posted_and_the_message_still_changes_its_status(
    twilio: TwilioStandIn, webhook: Webhook
) -> None:
    twilio.plan(ANNA, Accept(callbacks=Callbacks(lost=1)))
    sid = send(twilio)
    twilio.deliver_callbacks()
    assert webhook.got == []
    assert twilio.outstanding() == 0
    assert twilio.status(sid) == "delivered"


def test_a_repeated_callback_is_posted_again_after_the_others(twilio: TwilioStandIn, webhook: Webhook) -> None:
    twilio.behave(callbacks=Callbacks(repeated=1))
    send(twilio)
    twilio.deliver_callbacks()
    assert webhook.statuses() == ["sent", "delivered", "sent", "delivered"]


def test_callbacks_out_of_order_do_not_set_an_earlier_status(twilio: TwilioStandIn, webhook: Webhook) -> None:
    twilio.behave(callbacks=Callbacks(out_of_order=1))
    sid = send(twilio)
    twilio.deliver_callbacks()
    assert webhook.statuses() == ["delivered", "sent"]
    assert twilio.status(sid) == "delivered"


def test_a_late_callback_is_posted_when_its_time_has_passed(twilio: TwilioStandIn, webhook: Webhook) -> None:
    twilio.behave(callbacks=Callbacks(late=1, late_by=7200))
    send(twilio)
    assert twilio.deliver_callbacks() == ()
    assert twilio.outstanding() == 2
    twilio.let_time_pass(7200)
    twilio.deliver_callbacks()
    assert webhook.statuses() == ["sent", "delivered"]


def test_lost_repeated_and_reordered_callbacks_are_the_same_for_the_same_seed(
    twilio: TwilioStandIn, webhook: Webhook
) -> None:
    def run() -> list[str]:
        webhook.got.clear()
        twilio.reset()
        twilio.behave(callbacks=Callbacks(lost=0.3, repeated=0.3, out_of_order=0.3), seed=5)
        for _ in range(20):
            send(twilio)
        twilio.deliver_callbacks()
        return webhook.statuses()

    assert run() == run() != ["sent", "delivered"] * 20


def test_one_more_receipt_can_be_posted_on_demand(twilio: TwilioStandIn, webhook: Webhook) -> None:
    twilio.plan(ANNA, Accept(receipts=("sent", ("undelivered", 30003))))
    sid = send(twilio)
    twilio.deliver_callbacks()
    assert twilio.call_back(sid, "delivered").answers == (204,)
    assert webhook.statuses() == ["sent", "undelivered", "delivered"]
    assert twilio.status(sid) == "delivered"


@pytest.mark.parametrize(
    ("fragment", "answers", "tries"),
    [
        ("", [500], (500,)),
        ("#rc=3&rp=5xx,ct,rt", [503, 500, 204], (503, 500, 204)),
        ("#rc=3&rp=5xx,ct,rt", [500, 500, 500, 500], (500, 500, 500, 500)),
        ("#rc=3&rp=5xx,ct,rt", [403], (403,)),
        ("#rc=3&rp=4xx,5xx,ct,rt", [429, 429, 204], (429, 429, 204)),
        ("#rc=1&rp=4xx", [429], (429, 204)),
        ("#rc=2&rp=all", [403, 500], (403, 500, 204)),
        ("#rc=3&rp=5xx,ct,rt&rt=300", [None], ("rt", 204)),
        ("#rt=300", [None], ("rt",)),
    ],
)
def test_a_failed_callback_is_retried_as_the_url_fragment_demands(
    twilio: TwilioStandIn, webhook: Webhook, fragment: str, answers: list[int | None], tries: tuple[Any, ...]
) -> None:
    twilio.plan(ANNA, Accept(receipts=("sent",)))
    webhook.answers = answers
    send(twilio, STATUS + fragment)
    assert [callback.answers for callback in twilio.deliver_callbacks()] == [tries]
    tokens = [headers.get("I-Twilio-Idempotency-Token") for _, headers, _ in webhook.got]
    assert tokens[0] is None
    assert len(set(tokens[1:])) == (len(tries) > 1)


def test_without_overrides_only_a_failed_connection_is_retried_and_only_once() -> None:
    with TwilioStandIn(callbacks="manual", route={PUBLIC: "http://127.0.0.1:1"}) as twilio:
        twilio.plan(ANNA, Accept(receipts=("sent",)))
        send(twilio)
        assert [callback.answers for callback in twilio.deliver_callbacks()] == [("ct", "ct")]


def test_no_callback_is_posted_to_another_machine() -> None:
    with TwilioStandIn(callbacks="manual") as twilio:
        send(twilio)
        assert {callback.answers for callback in twilio.deliver_callbacks()} == {("ct", "ct")}


def test_live_callbacks_are_posted_automatically_and_in_order(webhook: Webhook) -> None:
    webhook.expected = 20
    fast = Behaviour(callbacks=Callbacks(delay=0.005))
    with TwilioStandIn(fast, route={PUBLIC: webhook.url}) as twilio:
        sids = [send(twilio) for _ in range(10)]
        assert webhook.complete.wait(5)
    for sid in sids:
        mine = [params["MessageStatus"] for _, _, params in webhook.got if params["MessageSid"] == sid]
        assert mine == ["sent", "delivered"]


def test_late_live_callbacks_are_posted_when_their_time_has_passed(webhook: Webhook) -> None:
    webhook.expected = 2
    with TwilioStandIn(route={PUBLIC: webhook.url}) as twilio:
        twilio.plan(ANNA, Accept(callbacks=Callbacks(late=1)))
        send(twilio)
        assert webhook.got == []
        twilio.let_time_pass(3600)
        assert webhook.complete.wait(5)
