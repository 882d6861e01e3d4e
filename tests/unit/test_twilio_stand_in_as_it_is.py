"""The stand-in does what the real Twilio does to messages. The sources are beside each behaviour in `local/twilio`."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http.client import RemoteDisconnected
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest

from local.twilio.queues import Rate
from local.twilio.rewriting import TRIAL, Rewriting
from local.twilio.stand_in import Accept, BadAnswer, Callbacks, Hang, Refuse, TwilioStandIn
from tests.unit.test_twilio_stand_in import ANNA, MESSAGES, SENDER, SERVICE, STATUS, call, post

BERT = "+4915187654321"


@pytest.fixture
def twilio() -> Iterator[TwilioStandIn]:
    with TwilioStandIn(callbacks="manual") as stand_in:
        yield stand_in


def listed(twilio: TwilioStandIn, to: str = ANNA) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = call(twilio, "GET", f"{MESSAGES}.json?{urlencode({'To': to})}")[2]["messages"]
    return messages


# Texts and numbers


@pytest.mark.parametrize(
    ("rewriting", "body", "stored"),
    [
        (Rewriting(), " Your code is 1234\n", "Your code is 1234"),
        (Rewriting(trimmed=False), "1234\n", "1234\n"),
        (Rewriting(smart_encoding=True), "Don’t — “now”…", 'Don\'t - "now"...'),
        (Rewriting(smart_encoding=True), "10:30\N{NO-BREAK SPACE}½", "10:30 1/2"),
        (Rewriting(smart_encoding=True), "Hawai\N{MODIFIER LETTER TURNED COMMA}i", "Hawai'i"),
        (Rewriting(smart_encoding=True), "👍 ñ", "👍 ñ"),
        (Rewriting(redacted=True), "1234", ""),
        (Rewriting(trial=True), "1234", f"{TRIAL}1234"),
    ],
)
def test_the_answer_echoes_the_text_and_the_record_has_another(
    twilio: TwilioStandIn, rewriting: Rewriting, body: str, stored: str
) -> None:
    twilio.behave(rewriting=rewriting)
    answer = post(twilio, Body=body)[2]
    assert answer["body"] == body
    assert [message["body"] for message in listed(twilio)] == [stored]
    assert call(twilio, "GET", f"{MESSAGES}/{answer['sid']}.json")[2]["body"] == stored


def test_smart_encoding_makes_a_text_shorter_also_for_the_bill(twilio: TwilioStandIn) -> None:
    twilio.behave(rewriting=Rewriting(smart_encoding=True))
    assert post(twilio, Body="’" * 100)[2]["num_segments"] == "1"
    twilio.behave(rewriting=Rewriting())
    assert post(twilio, Body="’" * 100)[2]["num_segments"] == "2"


def test_masked_numbers_are_not_found_by_number(twilio: TwilioStandIn) -> None:
    twilio.behave(rewriting=Rewriting(masked=True))
    sid = post(twilio)[2]["sid"]
    assert listed(twilio) == []
    assert call(twilio, "GET", f"{MESSAGES}/{sid}.json")[2]["to"] == "+491511234XXXX"


@pytest.mark.parametrize("posted", ["+4407700900123", "+44 (0)7700 900123", "+447700900123"])
def test_a_number_is_kept_in_one_spelling(twilio: TwilioStandIn, posted: str) -> None:
    assert post(twilio, To=posted)[2]["to"] == "+447700900123"
    assert len(listed(twilio, "+447700900123")) == 1


@pytest.fixture
def webhook(twilio: TwilioStandIn) -> Iterator[list[dict[str, str]]]:
    """The forms that were posted to the webhook."""
    forms: list[dict[str, str]] = []

    class Webhook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            forms.append(dict(parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode())))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Webhook)
    thread = Thread(target=server.serve_forever)
    thread.start()
    twilio.route["https://sms.example.com"] = f"http://127.0.0.1:{server.server_port}"
    yield forms
    server.shutdown()
    thread.join()
    server.server_close()


def test_with_rcs_receipts_and_replies_have_a_channel_before_each_address(
    twilio: TwilioStandIn, webhook: list[dict[str, str]]
) -> None:
    twilio.behave(rewriting=Rewriting(rcs=True))
    post(twilio, StatusCallback=STATUS)
    twilio.deliver_callbacks()
    assert twilio.reply("https://sms.example.com/twilio/inbound", ANNA, SENDER, "STOP", OptOutType="STOP") == (204,)
    sent, delivered, reply = webhook
    assert {each["To"] for each in (sent, delivered)} == {reply["From"]} == {f"rcs:{ANNA}"}
    assert {each["From"] for each in (sent, delivered)} == {reply["To"]} == {f"rcs:{SENDER}"}
    assert (reply["Body"], reply["OptOutType"]) == ("STOP", "STOP")
    assert [message["to"] for message in listed(twilio)] == [ANNA]


def test_a_failure_that_only_a_receipt_tells_comes_after_an_acceptance(
    twilio: TwilioStandIn, webhook: list[dict[str, str]]
) -> None:
    twilio.plan(ANNA, Accept(("sent", ("undelivered", 30034))))
    assert post(twilio, StatusCallback=STATUS)[0] == 201
    twilio.deliver_callbacks()
    assert [(each["MessageStatus"], each.get("ErrorCode")) for each in webhook] == [
        ("sent", None),
        ("undelivered", "30034"),
    ]


# The list


def test_refused_posts_are_listed_as_failed_under_sids_that_no_answer_had(twilio: TwilioStandIn) -> None:
    twilio.plan(ANNA, Refuse(400, 21611), Refuse(429, 20429), Refuse(503, 20503), Accept())
    answers = [post(twilio)[2] for _ in range(4)]
    accepted, refused = sorted(listed(twilio), key=lambda message: message["status"] == "failed")
    assert (refused["status"], refused["error_code"], refused["body"]) == ("failed", 21611, "hello")
    assert accepted["sid"] == answers[-1]["sid"] != refused["sid"]
    assert len(twilio.accepted()) == 1

    twilio.behave(lists_refusals=False)
    twilio.plan(BERT, Refuse(400, 21611))
    post(twilio, To=BERT)
    assert listed(twilio, BERT) == []


def test_the_list_is_sorted_by_the_date_of_sending_and_unsent_messages_come_first(twilio: TwilioStandIn) -> None:
    def create(after: float, **receipts: Any) -> str:
        twilio.let_time_pass(after)
        twilio.plan(ANNA, Accept(**receipts))
        return str(post(twilio)[2]["sid"])

    late = Callbacks(delay=300)
    held, slow, quick = create(0, receipts=()), create(60, receipts=("sent",), callbacks=late), create(60)
    twilio.deliver_callbacks()
    # `slow` was created before `quick`, and leaves after it.
    twilio.let_time_pass(300)
    twilio.deliver_callbacks()
    assert [message["sid"] for message in listed(twilio)] == [held, slow, quick]


@pytest.mark.parametrize(
    ("lag", "seen"), [(20.0, [False, True, True]), (900.0, [False, False, True]), (math.inf, [False] * 3)]
)
def test_the_list_lags_by_seconds_by_minutes_or_for_ever(twilio: TwilioStandIn, lag: float, seen: list[bool]) -> None:
    twilio.behave(list_lag=lag)
    post(twilio)
    found = []
    for seconds in (0, 60, 3600):
        twilio.let_time_pass(seconds)
        found.append(bool(listed(twilio)))
    assert found == seen


@pytest.mark.parametrize("ahead", [300.0, -300.0])
def test_the_clock_of_twilio_can_differ_from_ours(twilio: TwilioStandIn, ahead: float) -> None:
    twilio.behave(clock_ahead=ahead)
    _, headers, message = post(twilio)
    for date in (headers["Date"], message["date_created"]):
        assert abs(parsedate_to_datetime(date) - datetime.now(UTC) - timedelta(seconds=ahead)) < timedelta(seconds=60)


# Answers


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        ("", "text/plain"),
        ("Request Time-out", "text/plain"),
        ("<html><h1>Blocked</h1></html>", "text/html"),
        ('{"error": "no"}', "application/json"),
        ('{"code": "20429"}', "application/json"),
    ],
)
@pytest.mark.parametrize("http_status", [400, 408, 451])
def test_a_4xx_can_come_from_another_program_than_twilio(
    twilio: TwilioStandIn, http_status: int, body: str, content_type: str
) -> None:
    """Seen: twilio-node issue 662 (451 as text), twilio-php issue 133 (empty), twilio-java issue 816 (HTML)."""
    twilio.plan(ANNA, BadAnswer(http_status, body=body, accepted=None))
    status, headers, text = post(twilio)
    assert (status, headers.get_content_type()) == (http_status, content_type)
    assert (text["code"] if "code" in body else None) == ("20429" if "code" in body else None)
    assert listed(twilio) == []


# The queue of a sender


def sent_after(twilio: TwilioStandIn, *sids: str, seconds: int) -> int:
    """The number of these messages that have left when so many seconds have passed."""
    twilio.let_time_pass(seconds)
    twilio.deliver_callbacks()
    return sum(twilio.status(sid) in ("sent", "delivered") for sid in sids)


@pytest.mark.parametrize(
    ("rate", "body", "left"),
    [
        (Rate(per_second=1), "hello", [1, 3, 5]),
        (Rate(per_second=1), "a" * 200, [1, 2, 3]),
        (Rate(per_second=1, by_message=True), "a" * 200, [1, 3, 5]),
    ],
    ids=["segments", "long messages", "messages"],
)
def test_messages_leave_at_the_rate_of_their_sender(
    twilio: TwilioStandIn, rate: Rate, body: str, left: list[int]
) -> None:
    twilio.behave(rates={SENDER: rate})
    sids = [post(twilio, Body=body)[2]["sid"] for _ in range(5)]
    assert [sent_after(twilio, *sids, seconds=seconds) for seconds in (0, 2, 2)] == left


def test_each_sender_has_its_own_queue(twilio: TwilioStandIn) -> None:
    slow = Rate(per_second=0.01)
    twilio.behave(rates={SENDER: slow, "*": slow})
    for _ in range(3):
        post(twilio)
    another = post(twilio, From="+15005550010")[2]["sid"]
    service = post(twilio, From="", MessagingServiceSid=SERVICE)[2]["sid"]
    assert sent_after(twilio, another, service, seconds=0) == 2
    assert 250 < twilio.backlog(SENDER) <= 300
    assert twilio.backlog("+15005550011") == 0


def test_a_sender_without_a_rate_has_no_queue(twilio: TwilioStandIn) -> None:
    twilio.behave(rates={"+15005550010": Rate(per_second=0.001)})
    assert sent_after(twilio, *[post(twilio)[2]["sid"] for _ in range(5)], seconds=0) == 5


def test_a_full_number_refuses_a_post_and_a_full_service_reports_the_failure(twilio: TwilioStandIn) -> None:
    twilio.behave(rates={"*": Rate(per_second=1, longest=3)})
    number = [post(twilio)[2] for _ in range(4)]
    assert [answer.get("code") for answer in number] == [None, None, None, 21611]

    service = [post(twilio, From="", MessagingServiceSid=SERVICE)[2]["sid"] for _ in range(4)]
    twilio.deliver_callbacks()
    full = call(twilio, "GET", f"{MESSAGES}/{service[-1]}.json")[2]
    assert (full["status"], full["error_code"]) == ("failed", 30001)
    # The queue has room again.
    twilio.let_time_pass(2)
    assert post(twilio)[0] == 201


def test_a_lost_answer_of_a_full_number_is_no_acceptance(twilio: TwilioStandIn) -> None:
    twilio.behave(hang=0, rates={"*": Rate(per_second=1, longest=0)})
    twilio.plan(ANNA, Hang())
    with pytest.raises(RemoteDisconnected):
        post(twilio)
    assert twilio.accepted() == ()


def test_a_message_that_waits_longer_than_its_validity_period_fails_and_takes_no_time_of_its_sender(
    twilio: TwilioStandIn,
) -> None:
    twilio.behave(rates={"*": Rate(per_second=0.1)})
    post(twilio)
    late = post(twilio, ValidityPeriod="5")[2]["sid"]
    patient = post(twilio, ValidityPeriod="15")[2]["sid"]
    assert sent_after(twilio, late, patient, seconds=4) == 0
    assert twilio.status(late) == "queued"
    assert sent_after(twilio, late, patient, seconds=2) == 0
    expired = call(twilio, "GET", f"{MESSAGES}/{late}.json")[2]
    assert (expired["status"], expired["error_code"]) == ("failed", 30036)
    assert sent_after(twilio, late, patient, seconds=5) == 1


def test_another_process_can_choose_the_behaviour(twilio: TwilioStandIn) -> None:
    plan = {
        "rewriting": {"smart_encoding": True},
        "rates": {"*": {"per_second": 1, "longest": 2}},
        "list_lag": math.inf,
    }
    assert call(twilio, "POST", "/stand-in/plan", json.dumps(plan))[0] == 200
    assert twilio.behaviour.rewriting == Rewriting(smart_encoding=True)
    assert twilio.behaviour.rates == {"*": Rate(per_second=1, longest=2)}
    assert twilio.behaviour.list_lag == math.inf
