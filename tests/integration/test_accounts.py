"""Subaccounts of Twilio: each sends, is asked and is held by itself."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import psycopg
import pytest

from local.twilio.stand_in import ACCOUNT_SID, AUTH_TOKEN, TwilioStandIn
from local.waiting import let_time_pass
from sms_retry import listing, reconcile, twilio, worker
from sms_retry.settings import Credentials
from sms_retry.store import Store
from sms_retry.twilio import Send
from sms_retry.values import Claim, Hold, Message, Receipt, Report
from tests.conftest import SENDER, WEBHOOK_URL
from tests.integration.examples import assert_state, count, five_minutes_left, number, one, sid

SHOP, SHOP_SENDER = "AC" + "b" * 32, "+14155550199"


@pytest.fixture
def shop() -> Iterator[TwilioStandIn]:
    """Twilio, as it is for the subaccount: it knows no other."""
    with TwilioStandIn(account_sid=SHOP, auth_token="token of the shop", callbacks="manual") as twilio_of_shop:
        yield twilio_of_shop


def credentials(**accounts: dict[str, str]) -> Credentials:
    return Credentials.of({"account_sid": ACCOUNT_SID, "auth_token": AUTH_TOKEN, "accounts": accounts})


COMPLETE = credentials(shop={"account_sid": SHOP, "auth_token": "token of the shop"})


@pytest.fixture(autouse=True)
def sender_of_the_shop(db: psycopg.Connection) -> None:
    db.execute("select sms_retry.set_sms_sender(%s, account => 'shop')", [SHOP_SENDER])


def queue(store: Store, n: int = 1, sender: str | None = SHOP_SENDER) -> int:
    return store.queue(Message(number(n), "Hello.", kind="otp", sender=sender))


def drain(store: Store, known: Credentials, url: str) -> worker.Tally:
    with twilio.open_sender(known, url, SENDER, WEBHOOK_URL) as send:
        return worker.drain(store, send, five_minutes_left, 4)


def test_a_message_is_sent_by_the_account_of_its_sender(
    db: psycopg.Connection, store: Store, shop: TwilioStandIn
) -> None:
    queue(store)
    assert drain(store, COMPLETE, shop.url).success == 1
    assert [post.form["From"] for post in shop.posts()] == [SHOP_SENDER]


@pytest.mark.parametrize("known", [credentials(), credentials(shop={"account_sid": SHOP})])
def test_an_account_that_the_secret_lacks_is_held_alone(
    db: psycopg.Connection, store: Store, stand_in: TwilioStandIn, known: Credentials
) -> None:
    theirs, ours = queue(store), queue(store, 2, sender=None)
    assert drain(store, known, stand_in.url).success == 1
    assert_state(db, ours, message="sent")
    assert_state(db, theirs, message="queued", retry_count=0)
    assert db.execute("select scope, key from sms_retry.sms_holds").fetchall() == [("account", "shop")]


def test_a_refused_login_of_the_main_account_lets_the_subaccount_send(
    db: psycopg.Connection, store: Store, shop: TwilioStandIn
) -> None:
    for n in range(1, 4):
        queue(store, n)
        queue(store, n + 10, sender=None)
    assert drain(store, COMPLETE, shop.url).success == 3
    assert db.execute("select scope, key from sms_retry.sms_holds").fetchall() == [("account", "*")]


def test_the_worker_stops_only_the_sender_that_twilio_refused(db: psycopg.Connection, store: Store, send: Send) -> None:
    def refuse_some(claim: Claim, valid_for: timedelta) -> twilio.Answer:
        is_shop = claim.sender == SHOP_SENDER
        return twilio.Refused(401, 20003, "no") if is_shop else send(claim, valid_for)

    for n in range(1, 21):
        queue(store, n, sender=SHOP_SENDER if n % 2 else None)
    tally = worker.drain(store, refuse_some, five_minutes_left, 1)
    assert tally.success == 10
    assert one(db, "select key from sms_retry.sms_holds") == "shop"
    assert tally.processed < 40, "the worker claims held messages again and again"


def test_reconcile_asks_the_account_that_sent_the_message(
    db: psycopg.Connection, store: Store, shop: TwilioStandIn
) -> None:
    message_id = queue(store)
    claim = store.claim_now(message_id)
    assert claim
    with twilio.open_sender(COMPLETE, shop.url, SENDER, WEBHOOK_URL) as send:
        send(claim, timedelta(hours=1))
    store.finish([Report(claim.ticket, "unknown")])
    silent = store.claim_now(queue(store, 2))
    assert silent
    store.finish([Report.accepted(silent.ticket, sid(), 201)])
    let_time_pass(db, hours=2)
    with listing.open_listing(COMPLETE, shop.url) as questions:
        found = reconcile.reconcile(store, *questions, store.record_delivery, five_minutes_left)
    assert (found.asked, found.found, found.silent, found.gone) == (1, 1, 1, 1)
    assert one(db, "select status from sms_retry.sms_messages where id = %s", [message_id]) != "unknown"


def test_the_control_of_a_list_is_of_the_same_account(db: psycopg.Connection, store: Store) -> None:
    claim = store.claim_now(queue(store))
    assert claim
    store.finish([Report.accepted(claim.ticket, sid(), 201)])
    let_time_pass(db, minutes=2)
    assert store.list_control() is None
    assert (store.list_control("shop") or [None])[0] == number()


@pytest.mark.parametrize(("account", "answer"), [(None, "unheard_of"), ("other", "unheard_of"), ("shop", "settled")])
def test_a_ticket_counts_only_in_the_account_that_sent_the_message(
    db: psycopg.Connection, store: Store, account: str | None, answer: str
) -> None:
    claim = store.claim_now(queue(store))
    assert claim
    receipt = Receipt(sid(), "delivered", None, claim.ticket, number(), account=account)
    assert store.record_delivery(receipt) == answer


def test_a_hold_by_a_receipt_concerns_the_account_of_its_message(db: psycopg.Connection, store: Store) -> None:
    claim = store.claim_now(queue(store))
    assert claim
    store.finish([Report.accepted(claim.ticket, sid(), 201)])
    origin = store.origin_of(Receipt(sid(), "undelivered", 30002, None, number()))
    store.set_hold(Hold("account", "*", timedelta(hours=1), "error_30002").of(*origin))
    assert one(db, "select key from sms_retry.sms_holds") == "shop"
    assert count(db, "sms_holds") == 1
