from __future__ import annotations

import base64
import contextlib
import http.client
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
from requests import ReadTimeout
from twilio.base.exceptions import TwilioRestException
from twilio.http.http_client import TwilioHttpClient
from twilio.rest import Client

from local.twilio.messages import segments
from local.twilio.stand_in import (
    ACCOUNT_SID,
    AUTH_TOKEN,
    Accept,
    BadAnswer,
    Hang,
    Refuse,
    Reset,
    Step,
    TwilioStandIn,
    always,
    mix,
)

ANNA = "+4915112345678"
SENDER = "+15005550006"
SERVICE = "MG" + "b" * 32
MESSAGES = f"/2010-04-01/Accounts/{ACCOUNT_SID}/Messages"
STATUS = "https://sms.example.com/twilio/status?t=17-2#rc=3&rp=5xx,ct,rt"


class StandInHttpClient(TwilioHttpClient):
    def __init__(self, url: str) -> None:
        super().__init__(timeout=5)
        self.stand_in = url

    def request(self, method: str, url: str, *args: Any, **kwargs: Any) -> Any:
        return super().request(method, url.replace("https://api.twilio.com", self.stand_in), *args, **kwargs)


@pytest.fixture
def twilio() -> Iterator[TwilioStandIn]:
    with TwilioStandIn(callbacks="manual") as stand_in:
        yield stand_in


@pytest.fixture
def client(twilio: TwilioStandIn) -> Iterator[Client]:
    http_client = StandInHttpClient(twilio.url)
    yield Client(ACCOUNT_SID, AUTH_TOKEN, http_client=http_client)
    http_client.session.close()


def post(twilio: TwilioStandIn, *, login: str = "", **form: str) -> tuple[int, Any, Any]:
    """(HTTP status, headers, body) of one POST to Messages.json."""
    form = {"To": ANNA, "From": SENDER, "Body": "hello"} | form
    form = {name: value for name, value in form.items() if value}
    return call(twilio, "POST", f"{MESSAGES}.json", urlencode(form), login)


def call(twilio: TwilioStandIn, method: str, path: str, body: str = "", login: str = "") -> tuple[int, Any, Any]:
    login = base64.b64encode((login or f"{ACCOUNT_SID}:{AUTH_TOKEN}").encode()).decode()
    kind = "application/json" if body.startswith("{") else "application/x-www-form-urlencoded"
    connection = http.client.HTTPConnection(urlsplit(twilio.url).netloc, timeout=5)
    with contextlib.closing(connection):
        connection.request(method, path, body, {"Authorization": f"Basic {login}", "Content-Type": kind})
        response = connection.getresponse()
        text = response.read().decode()
    return response.status, response.headers, json.loads(text) if text.startswith("{") else text


# Messages


def test_a_message_is_queued_with_a_sid(twilio: TwilioStandIn, client: Client) -> None:
    message = client.messages.create(to=ANNA, from_=SENDER, body="hello")
    assert message.sid is not None
    assert (message.status, message.from_, message.num_segments) == ("queued", SENDER, "1")
    assert [post.sid for post in twilio.accepted()] == [message.sid]


def test_a_messaging_service_accepts_first_and_chooses_its_sender_later(twilio: TwilioStandIn, client: Client) -> None:
    message = client.messages.create(to=ANNA, messaging_service_sid=SERVICE, body="hello")
    assert (message.status, message.from_, message.messaging_service_sid) == ("accepted", None, SERVICE)
    twilio.deliver_callbacks()
    assert message.fetch().from_ is not None


@pytest.mark.parametrize(
    ("body", "count"),
    [("a" * 160, 1), ("a" * 161, 2), ("€" * 80, 1), ("€" * 81, 2), ("я" * 70, 1), ("😀" * 36, 2)],
)
def test_segments_are_counted_as_gsm_7_or_ucs_2(body: str, count: int) -> None:
    assert segments(body) == count


def test_only_the_auth_token_and_the_api_key_are_accepted_as_logins() -> None:
    with TwilioStandIn(callbacks="manual", api_key=("SKkey", "secret")) as twilio:
        assert post(twilio, login="SKkey:secret")[0] == 201
        status, _, error = post(twilio, login=f"{ACCOUNT_SID}:stale")
    assert (status, error["code"], error["status"]) == (401, 20003, 401)
    assert [attempt.accepted for attempt in twilio.posts()] == [True, False]


@pytest.mark.parametrize(
    ("form", "code"),
    [
        ({"To": ""}, 21604),
        ({"Body": ""}, 21602),
        ({"Body": "a" * 1601}, 21617),
        ({"From": ""}, 21603),
        ({"ValidityPeriod": "0"}, 21624),
        ({"ValidityPeriod": "36001"}, 21624),
        ({"StatusCallback": "sms.example.com/status"}, 21609),
        ({"To": "0151 12345678"}, 21211),
        ({"To": "+15005550001"}, 21211),
        ({"To": "+15005550002"}, 21612),
        ({"To": "+15005550003"}, 21408),
        ({"To": "+15005550004"}, 21610),
        ({"To": "+15005550009"}, 21614),
        ({"From": "+15005550001"}, 21212),
        ({"From": "+15005550007"}, 21606),
        ({"From": "+15005550008"}, 21611),
    ],
)
def test_a_wrong_form_or_a_magic_number_is_refused(twilio: TwilioStandIn, form: dict[str, str], code: int) -> None:
    status, headers, error = post(twilio, **form)
    assert (status, error["code"], error["status"]) == (400, code, 400)
    assert error["more_info"].endswith(f"/{code}")
    assert headers["Twilio-Request-Id"].startswith("RQ")
    assert not twilio.accepted()


def test_a_json_body_is_not_read_as_a_form(twilio: TwilioStandIn) -> None:
    assert call(twilio, "POST", f"{MESSAGES}.json", json.dumps({"To": ANNA}))[2]["code"] == 21604


def test_a_deleted_message_is_not_found(client: Client) -> None:
    message = client.messages.create(to=ANNA, from_=SENDER, body="hello")
    assert message.delete()
    with pytest.raises(TwilioRestException) as not_found:
        message.fetch()
    assert (not_found.value.status, not_found.value.code) == (404, 20404)


def test_a_message_can_be_redacted_and_cancelled(twilio: TwilioStandIn, client: Client) -> None:
    message = client.messages.create(to=ANNA, from_=SENDER, body="hello", status_callback=STATUS)
    assert message.update(body="").body == ""
    assert message.update(status="canceled").status == "canceled"
    assert twilio.deliver_callbacks() == ()
    with pytest.raises(TwilioRestException) as too_late:
        message.update(status="canceled")
    assert too_late.value.code == 30409


def test_the_list_is_newest_first_and_new_messages_do_not_shift_its_pages(
    twilio: TwilioStandIn, client: Client
) -> None:
    sids = [client.messages.create(to=ANNA, from_=SENDER, body=str(n)).sid for n in range(5)]
    client.messages.create(to="+4915187654321", from_=SENDER, body="another")
    first = client.messages.page(to=ANNA, page_size=2)
    post(twilio)
    second = first.next_page()
    assert second is not None
    assert [message.sid for message in [*first, *second]] == sids[:0:-1]
    assert [message.sid for message in second.previous_page() or ()] == sids[:2:-1]
    assert [message.sid for message in client.messages.list(to=ANNA, page_size=2)][1:] == sids[::-1]


def test_the_list_can_be_filtered_by_date_sent(twilio: TwilioStandIn, client: Client) -> None:
    sent = client.messages.create(to=ANNA, from_=SENDER, body="sent")
    twilio.deliver_callbacks()
    client.messages.create(to=ANNA, from_=SENDER, body="not yet")
    day = sent.fetch().date_sent
    assert day is not None
    today, tomorrow = day.date(), day.date() + timedelta(days=1)
    assert [message.sid for message in client.messages.list(date_sent=today)] == [sent.sid]
    assert [message.sid for message in client.messages.list(date_sent_after=today)] == [sent.sid]
    assert client.messages.list(date_sent_after=tomorrow) == []
    assert [message.sid for message in client.messages.list(date_sent_before=tomorrow)] == [sent.sid]


def test_a_lagging_list_shows_a_message_only_after_the_lag(twilio: TwilioStandIn, client: Client) -> None:
    twilio.plan(ANNA, Accept(list_lag=900))
    message = client.messages.create(to=ANNA, from_=SENDER, body="hello")
    assert client.messages.list(to=ANNA) == []
    assert message.fetch().sid == message.sid
    twilio.let_time_pass(900)
    assert [listed.sid for listed in client.messages.list(to=ANNA)] == [message.sid]


# Plans and behaviour


def test_a_plan_gives_the_step_of_each_post_and_after_it_the_default_applies(twilio: TwilioStandIn) -> None:
    twilio.behave(default=always(Refuse(500, 20500)))
    twilio.plan(ANNA, Refuse(429, 20429, retry_after=2), Refuse(503, 20503), Accept())
    answers = [post(twilio) for _ in range(4)]
    assert [status for status, _, _ in answers] == [429, 503, 201, 500]
    assert answers[0][1]["Retry-After"] == "2"
    assert twilio.times_accepted() == {(ANNA, "hello"): 1}


def client_sees(twilio: TwilioStandIn) -> object:
    """The result of a POST for its client: the status with the code or the body's beginning, or the error's name."""
    try:
        status, _, body = post(twilio)
    except OSError as error:
        return type(error).__name__
    return status, body.get("code") if isinstance(body, dict) else body[:6]


@pytest.mark.parametrize("accepted", [Accept(), None])
@pytest.mark.parametrize(
    ("step", "seen"),
    [
        (Hang, "RemoteDisconnected"),
        (Reset, "ConnectionResetError"),
        (lambda accepted: BadAnswer(500, accepted=accepted), (500, 20500)),
        (lambda accepted: BadAnswer(502, accepted=accepted), (502, "<html>")),
        (lambda accepted: BadAnswer(503, accepted=accepted), (503, "<html>")),
        (lambda accepted: BadAnswer(504, accepted=accepted), (504, "<html>")),
        (lambda accepted: BadAnswer(201, accepted=accepted), (201, "")),
        (lambda accepted: BadAnswer(200, body="OK", accepted=accepted), (200, "OK")),
        (lambda accepted: BadAnswer(201, body='{"status":"queued"}', accepted=accepted), (201, None)),
    ],
)
def test_a_broken_answer_looks_the_same_with_and_without_acceptance(
    twilio: TwilioStandIn, step: Any, seen: object, accepted: Accept | None
) -> None:
    twilio.behave(hang=0)
    twilio.plan(ANNA, step(accepted))
    assert client_sees(twilio) == seen
    assert [attempt.accepted for attempt in twilio.posts()] == [accepted is not None]
    listed = call(twilio, "GET", f"{MESSAGES}.json?{urlencode({'To': ANNA})}")[2]["messages"]
    assert [message["sid"] for message in listed] == [attempt.sid for attempt in twilio.accepted()]


def test_a_hang_is_longer_than_the_timeout_of_the_client(twilio: TwilioStandIn, client: Client) -> None:
    twilio.plan(ANNA, Hang())
    client.http_client.timeout = 0.05
    with pytest.raises(ReadTimeout):
        client.messages.create(to=ANNA, from_=SENDER, body="hello")


def test_connections_are_refused_between_close_and_start_and_messages_stay(twilio: TwilioStandIn) -> None:
    post(twilio)
    twilio.close()
    with pytest.raises(ConnectionRefusedError):
        post(twilio)
    twilio.start()
    post(twilio)
    assert twilio.times_accepted() == {(ANNA, "hello"): 2}


def test_it_forgets_the_posts_and_messages_from_before_a_time(twilio: TwilioStandIn) -> None:
    post(twilio, Body="old")
    later = time.time()
    post(twilio, Body="new")
    twilio.forget(later)
    _, _, listed = call(twilio, "GET", f"{MESSAGES}.json")
    assert twilio.times_accepted() == {(ANNA, "new"): 1}
    assert [message["body"] for message in listed["messages"]] == ["new"]


def test_latency_delays_the_answer(twilio: TwilioStandIn) -> None:
    twilio.behave(latency=0.05)
    asked = time.monotonic()
    post(twilio)
    assert time.monotonic() - asked >= 0.05


def test_during_an_outage_every_request_gets_503_and_uses_no_step_of_a_plan(twilio: TwilioStandIn) -> None:
    twilio.plan(ANNA, Refuse(429, 20429))
    twilio.behave(down=True)
    assert post(twilio)[2]["code"] == 20503
    assert call(twilio, "GET", f"{MESSAGES}.json")[2]["code"] == 20503
    twilio.behave(down=False)
    assert post(twilio)[2]["code"] == 20429


def test_a_mix_of_steps_is_the_same_for_the_same_seed() -> None:
    shares: list[tuple[float, Step]] = [(9, Accept()), (1, Reset())]
    first, second = mix(7, *shares), mix(7, *shares)
    steps = [first(ANNA, nth) for nth in range(200)]
    assert steps == [second(ANNA, nth) for nth in range(200)]
    assert 5 < steps.count(Reset()) < 40


def test_a_plan_with_a_misspelled_status_is_an_error() -> None:
    with pytest.raises(ValueError, match="'deliverd' is not a status"):
        Accept(receipts=("deliverd",))


def test_every_post_is_kept_with_its_ticket(twilio: TwilioStandIn) -> None:
    twilio.plan(ANNA, Refuse(503, 20503), Accept())
    post(twilio, StatusCallback=STATUS)
    post(twilio, StatusCallback="https://sms.example.com/twilio/status?t=17-3")
    assert [(attempt.ticket, attempt.accepted) for attempt in twilio.posts()] == [
        ("17-2", False),
        ("17-3", True),
    ]
    twilio.reset()
    assert twilio.posts() == ()


# Other processes


def test_another_process_can_plan_and_read_over_http(twilio: TwilioStandIn) -> None:
    plan = {
        "to": ANNA,
        "steps": [
            {"step": "refuse", "http_status": 429, "code": 20429},
            {"step": "accept", "receipts": ["sent", ["undelivered", 30003]], "callbacks": {"lost": 1}},
            {"step": "bad_answer", "http_status": 502, "accepted": None},
        ],
        "default": {"seed": 1, "shares": [[1, {"step": "bad_answer", "http_status": 504, "accepted": {}}]]},
        "list_lag": 60,
    }
    assert call(twilio, "POST", "/stand-in/plan", json.dumps(plan))[0] == 200
    assert [post(twilio, StatusCallback=STATUS)[0] for _ in range(4)] == [429, 201, 502, 504]
    shown = call(twilio, "GET", "/stand-in/accepted")[2]
    assert shown["posts"] == 4
    assert [(each["to"], each["body"], each["ticket"]) for each in shown["accepted"]] == [(ANNA, "hello", "17-2")] * 2
    call(twilio, "POST", "/stand-in/reset", "{}")
    assert call(twilio, "GET", "/stand-in/accepted")[2] == {"posts": 0, "accepted": []}


@pytest.mark.parametrize(
    ("plan", "fault"),
    [
        ({"steps": [{"step": "explode"}]}, "'explode' is not one of accept"),
        ({"steps": [{"step": "accept", "receipts": ["deliverd"]}]}, "'deliverd' is not a status"),
        ({"latency_ms": 100}, "latency_ms"),
    ],
)
def test_an_invalid_plan_gets_400_and_names_the_fault(twilio: TwilioStandIn, plan: Any, fault: str) -> None:
    status, _, answer = call(twilio, "POST", "/stand-in/plan", json.dumps(plan))
    assert status == 400
    assert fault in answer["error"]


def test_the_stand_in_runs_alone_until_it_is_terminated() -> None:
    command = [sys.executable, "-m", "local.twilio", "--port", "0"]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        assert process.stdout is not None
        with contextlib.closing(http.client.HTTPConnection(urlsplit(process.stdout.readline()).netloc)) as line:
            line.request("GET", "/stand-in/accepted")
            answer = line.getresponse().read().strip()
        process.terminate()
    assert json.loads(answer) == {"posts": 0, "accepted": []}
    assert process.returncode == 0
