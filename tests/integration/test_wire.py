"""A failure before the first byte of the request is sent is safe to repeat; a later failure is unknown."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import timedelta

import pytest

from local.twilio.stand_in import ACCOUNT_SID, AUTH_TOKEN, Accept, Reset, TwilioStandIn
from sms_retry import twilio
from sms_retry.store import Store
from sms_retry.twilio import Credentials
from sms_retry.values import Accepted, Answer, Message, Unknown, Unreached
from tests.conftest import SENDER, WEBHOOK_URL
from tests.integration.examples import number


@pytest.fixture
def full_port() -> Iterator[int]:
    """A port with a full backlog: a connection to it times out."""
    with ExitStack() as opened:
        listening = opened.enter_context(closing(socket.socket()))
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(3):
            waiting = opened.enter_context(closing(socket.socket()))
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]


def send_to(store: Store, api_url: str) -> Answer:
    _, claim = store.queue_and_claim(Message(number(), "Hello.", kind="otp"))
    assert claim
    with twilio.open_sender(Credentials(ACCOUNT_SID, AUTH_TOKEN), api_url, SENDER, WEBHOOK_URL) as send:
        return send(claim, timedelta(hours=1))


def test_a_name_that_does_not_resolve_is_safe_to_repeat(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def not_found(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    store.health()
    monkeypatch.setattr(socket, "getaddrinfo", not_found)
    assert send_to(store, "https://api.example.com") == Unreached("no connection: gaierror")


def test_a_refused_connection_is_safe_to_repeat(store: Store, stand_in: TwilioStandIn) -> None:
    url = stand_in.url
    stand_in.close()
    assert send_to(store, url) == Unreached("no connection: ConnectionRefusedError")
    stand_in.start()


def test_a_timeout_while_connecting_is_safe_to_repeat(
    store: Store, full_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(twilio, "CONNECT_TIMEOUT", 0.1)
    assert send_to(store, f"http://127.0.0.1:{full_port}") == Unreached("no connection: TimeoutError")


def test_a_failed_tls_handshake_is_safe_to_repeat(store: Store, stand_in: TwilioStandIn) -> None:
    answer = send_to(store, stand_in.url.replace("http:", "https:"))
    assert isinstance(answer, Unreached)
    assert stand_in.posts() == ()


def test_a_connection_that_twilio_closed_is_opened_again(store: Store, stand_in: TwilioStandIn) -> None:
    _, claim = store.queue_and_claim(Message(number(), "Hello.", kind="otp"))
    assert claim
    with twilio.open_sender(Credentials(ACCOUNT_SID, AUTH_TOKEN), stand_in.url, SENDER, WEBHOOK_URL) as send:
        assert isinstance(send(claim, timedelta(hours=1)), Accepted)
        stand_in.close()
        stand_in.start()
        assert isinstance(send(claim, timedelta(hours=1)), Accepted)


def test_a_reset_after_the_request_is_unknown(store: Store, stand_in: TwilioStandIn) -> None:
    stand_in.plan(number(), Reset(Accept()))
    assert send_to(store, stand_in.url) == Unknown("no answer: ConnectionResetError")
    assert len(stand_in.accepted()) == 1
