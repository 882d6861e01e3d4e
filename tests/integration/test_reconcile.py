"""Reconcile: only a listed message that can be ours settles an unknown, and without an answer nothing is settled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Protocol

import psycopg
import pytest
from twilio.rest import Client

from local.twilio.stand_in import ACCOUNT_SID, AUTH_TOKEN, Accept, BadAnswer, TwilioStandIn
from local.waiting import let_time_pass
from sms_retry import delivery, listing, reconcile, worker
from sms_retry.reconcile import Findings
from sms_retry.store import Store
from sms_retry.twilio import Credentials, Send, Wire
from sms_retry.values import Message
from tests.integration.examples import assert_state, five_minutes_left, number, statuses, take_in


class Ask(Protocol):
    def __call__(self, minutes: float) -> Findings: ...


@pytest.fixture
def ask(db: psycopg.Connection, store: Store, stand_in: TwilioStandIn) -> Iterator[Ask]:
    """Let time pass, and reconcile."""
    record = partial(delivery.record, store, now=datetime.now(UTC))
    with listing.open_listing(Credentials(ACCOUNT_SID, AUTH_TOKEN), stand_in.url) as (sent_to, look_up):

        def ask(minutes: float) -> Findings:
            let_time_pass(db, minutes=minutes)
            stand_in.let_time_pass(minutes * 60)
            return reconcile.reconcile(store, sent_to, look_up, record, five_minutes_left)

        yield ask


def send_unanswered(
    store: Store, stand_in: TwilioStandIn, send: Send, message: Message, accepted: Accept | None
) -> int:
    """A message with a POST that Twilio answered with 502; `accepted` tells if Twilio accepted it all the same."""
    stand_in.plan(message.to_number, BadAnswer(502, accepted=accepted))
    message_id = store.queue(message)
    assert worker.drain(store, send, five_minutes_left, concurrency=2).unknown == 1
    return message_id


def parcel(body: str = "Your parcel is here.", n: int = 1) -> Message:
    return Message(number(n), body, kind="otp")


def test_a_listed_message_settles_the_unknown_with_its_sid_and_status(
    db: psycopg.Connection, store: Store, stand_in: TwilioStandIn, send: Send, ask: Ask
) -> None:
    message_id = send_unanswered(store, stand_in, send, parcel(), Accept(receipts=()))

    assert ask(minutes=1).found == 1

    assert_state(db, message_id, message="sent", queue="completed", provider_sid=stand_in.accepted()[0].sid)
    assert ask(minutes=40) == Findings()
    assert len(stand_in.posts()) == 1


@contextmanager
def account(stand_in: TwilioStandIn) -> Iterator[Client]:
    """Another program that uses the same account."""
    with closing(Wire(stand_in.url)) as wire:
        yield Client(ACCOUNT_SID, AUTH_TOKEN, http_client=wire)


def send_outside(stand_in: TwilioStandIn, body: str) -> None:
    with account(stand_in) as client:
        client.messages.create(to=number(1), from_="+15005550006", body=body)


def test_another_text_to_the_same_person_does_not_settle_the_unknown(
    db: psycopg.Connection, store: Store, stand_in: TwilioStandIn, send: Send, ask: Ask
) -> None:
    message_id = send_unanswered(store, stand_in, send, parcel("One."), None)
    send_outside(stand_in, "Two.")

    found = ask(minutes=1)

    assert (found.asked, found.found) == (1, 0)
    assert_state(db, message_id, message="unknown")


def test_the_same_text_from_before_the_claim_does_not_settle_the_unknown(
    db: psycopg.Connection, store: Store, stand_in: TwilioStandIn, send: Send, ask: Ask
) -> None:
    send_outside(stand_in, parcel().body)
    stand_in.let_time_pass(60)
    message_id = send_unanswered(store, stand_in, send, parcel(), None)

    assert ask(minutes=1).found == 0
    assert_state(db, message_id, message="unknown")


def test_the_message_of_another_attempt_does_not_settle_the_unknown(
    db: psycopg.Connection, store: Store, stand_in: TwilioStandIn, send: Send, ask: Ask
) -> None:
    lost = send_unanswered(store, stand_in, send, parcel(), None)
    stand_in.plan(number(1), Accept(receipts=()))
    again = store.queue(parcel())
    worker.drain(store, send, five_minutes_left, concurrency=2)

    assert ask(minutes=1).found == 0
    assert_state(db, lost, message="unknown")
    assert_state(db, again, message="sent")


def test_a_list_that_lags_is_asked_again(
    db: psycopg.Connection, store: Store, stand_in: TwilioStandIn, send: Send, ask: Ask
) -> None:
    message_id = send_unanswered(store, stand_in, send, parcel(), Accept(receipts=(), list_lag=12 * 60))
    assert [ask(minutes=5).found for _ in range(3)] == [0, 0, 1]
    assert_state(db, message_id, message="sent")


def test_an_unknown_is_sent_again_after_half_an_hour_unless_on_unknown_is_hold(
    db: psycopg.Connection, store: Store, stand_in: TwilioStandIn, send: Send, ask: Ask
) -> None:
    send_unanswered(store, stand_in, send, parcel(), None)
    send_unanswered(store, stand_in, send, replace(parcel(n=2), on_unknown="hold"), None)

    for _ in range(5):
        assert ask(minutes=5).released == 0
    assert ask(minutes=6).released == 1
    worker.drain(store, send, five_minutes_left, concurrency=2)

    assert statuses(db) == {"sent": 1, "unknown": 1}
    assert [post.to for post in stand_in.accepted()] == [number(1)]


def test_without_an_answer_from_twilio_no_unknown_is_sent_again(
    db: psycopg.Connection, store: Store, stand_in: TwilioStandIn, send: Send, ask: Ask
) -> None:
    for n in range(9):
        send_unanswered(store, stand_in, send, parcel(n=n), None)
    stand_in.behave(down=True)

    assert ask(minutes=40) == Findings()
    assert statuses(db) == {"unknown": 9}

    stand_in.behave(down=False)
    assert ask(minutes=6).released == 9


def test_a_sent_message_without_a_receipt_is_looked_up_by_its_sid(
    db: psycopg.Connection, store: Store, stand_in: TwilioStandIn, send: Send, ask: Ask
) -> None:
    take_in(store)
    worker.drain(store, send, five_minutes_left, concurrency=2)
    assert {answer for callback in stand_in.deliver_callbacks() for answer in callback.answers} == {"ct"}
    stand_in.behave(down=True)
    assert ask(minutes=61) == Findings()

    stand_in.behave(down=False)
    assert ask(minutes=6).silent == 1
    assert_state(db, message="delivered")


def test_a_message_deleted_at_twilio_stays_sent_and_is_not_looked_up_again(
    db: psycopg.Connection, store: Store, stand_in: TwilioStandIn, send: Send, ask: Ask
) -> None:
    stand_in.plan(number(1), Accept(receipts=()))
    take_in(store)
    worker.drain(store, send, five_minutes_left, concurrency=2)
    with account(stand_in) as client:
        client.messages(stand_in.accepted()[0].sid).delete()

    assert (found := ask(minutes=61)).gone == found.silent == 1
    assert_state(db, message="sent")
    assert ask(minutes=24 * 60) == Findings()
