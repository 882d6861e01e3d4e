"""Holds: nothing is sent in the scope of a hold until a probe is accepted."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import psycopg
import pytest

from local.waiting import let_time_pass
from sms_retry.store import Store
from sms_retry.values import Claim, Hold, Message
from tests.integration.examples import (
    MINUTE,
    assert_state,
    claimed,
    count,
    fill,
    finish,
    in_parallel,
    number,
    one,
    receipt,
    sid,
    take_in,
)

FIVE = timedelta(minutes=5)
ACCOUNT = Hold("account", "*", FIVE, "error_20003")
SENDER = Hold("sender", "*", timedelta(minutes=15), "error_21606")
BRITAIN = Hold("country", "+44", FIVE, "error_21408")
JAMAICA = Hold("country", "+1876", FIVE, "error_21408")


@pytest.mark.parametrize("hold", [ACCOUNT, SENDER], ids=lambda hold: hold.scope)
def test_a_hold_on_the_account_or_the_sender_stops_every_claim(
    db: psycopg.Connection, store: Store, hold: Hold
) -> None:
    fill(db, 10)
    store.set_hold(hold)

    assert store.claim_due(10) == []
    assert store.claim_now(1) is None
    message_id, claim = store.queue_and_claim(Message(number(99), "Hello."))
    assert claim is None
    assert_state(db, message_id, message="queued", queue="pending", attempt=0, retry_count=0)


def test_four_workers_claim_one_probe_when_the_time_of_a_hold_is_up(
    db: psycopg.Connection, open_store: Callable[[], Store]
) -> None:
    fill(db, 100)
    stores = [open_store() for _ in range(4)]
    stores[0].set_hold(ACCOUNT)
    for _ in range(2):
        let_time_pass(db, minutes=5)
        claims = in_parallel(4, lambda n: stores[n].claim_due(50))

        assert sum(map(len, claims)) == 1
        assert one(db, "select until - now() > interval '4 minutes 50 seconds' from sms_retry.sms_holds")
        assert all(store.claim_due(50) == [] for store in stores)


def test_a_message_that_is_claimed_by_id_can_be_the_probe(db: psycopg.Connection, store: Store) -> None:
    fill(db, 3)
    store.set_hold(ACCOUNT)
    let_time_pass(db, minutes=5)

    assert store.claim_now(2)
    assert store.claim_now(3) is None


def test_a_probe_under_two_holds_waits_until_the_time_of_both_is_up(db: psycopg.Connection, store: Store) -> None:
    fill(db, 10)
    store.set_hold(ACCOUNT)
    store.set_hold(SENDER)

    let_time_pass(db, minutes=6)
    assert store.claim_due(10) == []

    let_time_pass(db, minutes=10)
    [probe] = store.claim_due(10)
    finish(store, probe, "accepted", sid=sid())
    assert count(db, "sms_holds") == 0


@pytest.mark.parametrize(
    ("outcome", "facts"),
    [
        ("accepted", {"sid": sid()}),
        ("refused", {"code": 21211}),
        ("refused", {"code": 30001, "delays": (MINUTE,) * 3}),
        ("delivered", {"sid": sid()}),
        ("undelivered", {"sid": sid(), "code": 30007}),
    ],
)
def test_a_definite_answer_to_the_probe_clears_the_hold(
    db: psycopg.Connection, store: Store, outcome: str, facts: dict[str, object]
) -> None:
    probe = _probe(db, store, ACCOUNT)
    finish(store, probe, outcome, **facts)
    assert count(db, "sms_holds") == 0
    assert len(store.claim_due(50)) == 9


@pytest.mark.parametrize(("http_status", "holds"), [(429, 0), (503, 1), (None, 1)])
def test_only_an_answer_of_twilio_clears_the_hold_twilio_down(
    db: psycopg.Connection, store: Store, http_status: int | None, holds: int
) -> None:
    probe = _probe(db, store, Hold("account", "*", MINUTE, "twilio_down"))
    finish(store, probe, "refused", delays=(MINUTE,), spends=False, http_status=http_status)
    assert count(db, "sms_holds") == holds


def test_a_probe_without_an_answer_keeps_the_hold(db: psycopg.Connection, store: Store) -> None:
    probe = _probe(db, store, ACCOUNT)
    finish(store, probe, "refused", delays=(MINUTE,), spends=False, message="no connection")

    assert count(db, "sms_holds") == 1
    assert store.claim_due(50) == []


@pytest.mark.parametrize(
    ("outcome", "facts"),
    [
        ("deferred", {"delays": (timedelta(hours=8),)}),
        ("expired", {}),
        ("opted_out", {}),
    ],
)
def test_a_probe_that_was_not_sent_leaves_its_turn_to_the_next_message(
    db: psycopg.Connection, store: Store, outcome: str, facts: dict[str, object]
) -> None:
    probe = _probe(db, store, ACCOUNT)
    finish(store, probe, outcome, **facts)

    assert count(db, "sms_holds") == 1
    assert [claim.id for claim in store.claim_due(50)] == [2]
    assert store.claim_due(50) == []


def test_a_probe_with_the_outcome_unknown_keeps_the_hold_until_its_receipt(
    db: psycopg.Connection, store: Store
) -> None:
    probe = _probe(db, store, ACCOUNT)
    finish(store, probe, "unknown")

    assert store.claim_due(50) == []
    assert receipt(store, sid(), "sent", ticket=probe.ticket) == "settled"
    assert count(db, "sms_holds") == 0


def test_a_probe_that_is_refused_with_the_same_code_keeps_the_hold(db: psycopg.Connection, store: Store) -> None:
    probe = _probe(db, store, ACCOUNT)
    store.set_hold(ACCOUNT)
    assert finish(store, probe, "refused", code=20003, delays=(FIVE,), spends=False) == "pending"

    assert_state(db, probe.message_id, message="queued", queue="pending", attempt=1, retry_count=0)
    assert store.claim_due(50) == []
    let_time_pass(db, minutes=5)
    assert len(store.claim_due(50)) == 1


def test_an_answer_about_another_message_does_not_clear_the_hold(db: psycopg.Connection, store: Store) -> None:
    earlier = claimed(store, 50)
    store.set_hold(ACCOUNT)
    finish(store, earlier, "refused", code=21211)
    assert count(db, "sms_holds") == 1


def test_a_hold_that_is_set_again_is_not_shortened(db: psycopg.Connection, store: Store) -> None:
    store.set_hold(Hold("account", "*", timedelta(hours=2), "error_30002"))
    store.set_hold(ACCOUNT)
    assert one(db, "select until - now() > interval '119 minutes' from sms_retry.sms_holds")


@pytest.mark.parametrize(
    ("hold", "held", "free"),
    [
        (BRITAIN, ["+447700900001"], ["+491761234567", "+14155550123"]),
        (JAMAICA, ["+18765550123"], ["+14155550123", "+18685550123"]),
        (Hold("recipient", "+491761234567", FIVE, "error_30610"), ["+491761234567"], ["+491761234568"]),
    ],
    ids=lambda value: value.scope if isinstance(value, Hold) else "",
)
def test_a_narrower_hold_marks_only_the_claims_in_its_scope(
    db: psycopg.Connection, store: Store, hold: Hold, held: list[str], free: list[str]
) -> None:
    for to_number in held + free:
        store.queue(Message(to_number, "Hello."))
    store.set_hold(hold)

    claims = {claim.to_number: claim for claim in store.claim_due(50)}

    until = one(db, "select until from sms_retry.sms_holds")
    assert {to_number: claims[to_number].held_until for to_number in claims} == {
        **dict.fromkeys(held, until),
        **dict.fromkeys(free),
    }


def test_one_probe_is_claimed_when_the_time_of_a_country_hold_is_up(db: psycopg.Connection, store: Store) -> None:
    for n in range(5):
        store.queue(Message(f"+44770090000{n}", "Hello."))
    store.set_hold(BRITAIN)
    let_time_pass(db, minutes=5)

    probe, *others = store.claim_due(50)

    assert probe.held_until is None
    assert {claim.held_until for claim in others} == {probe.claimed_at + MINUTE}
    finish(store, probe, "accepted", sid=sid())
    assert count(db, "sms_holds") == 0


def test_a_hold_can_be_cleared_by_hand(db: psycopg.Connection, store: Store) -> None:
    fill(db, 3)
    store.set_hold(ACCOUNT)

    assert one(db, "select sms_retry.close_sms_hold('account', '*')") is True
    assert one(db, "select sms_retry.close_sms_hold(scope => 'account', key => '*')") is False

    assert len(store.claim_due(10)) == 3


def test_the_next_probe_is_claimed_after_the_worker_of_a_probe_died(db: psycopg.Connection, store: Store) -> None:
    _probe(db, store, ACCOUNT)
    let_time_pass(db, minutes=11)
    assert store.take_stock(1)[0] == 1
    assert len(store.claim_due(50)) == 1


def test_a_message_survives_a_hold_that_is_set_again_and_again(db: psycopg.Connection, store: Store) -> None:
    message_id = take_in(store)
    store.set_hold(ACCOUNT)
    for _ in range(20):
        let_time_pass(db, minutes=4)
        store.set_hold(ACCOUNT)
        assert store.claim_due(1) == []
    assert_state(db, message_id, message="queued", queue="pending", attempt=0, retry_count=0)


def _probe(db: psycopg.Connection, store: Store, hold: Hold) -> Claim:
    """Queue ten messages, wait until the time of `hold` is up, and claim the probe."""
    fill(db, 10)
    store.set_hold(hold)
    let_time_pass(db, minutes=5)
    [probe] = store.claim_due(50)
    return probe
