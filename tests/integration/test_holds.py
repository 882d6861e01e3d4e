"""Holds: nothing is sent in the scope of a hold until a probe is accepted."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Lock

import psycopg
import pytest

from local.postgres.server import Server
from local.twilio.stand_in import TwilioStandIn
from local.waiting import let_time_pass
from sms_retry import delivery, worker
from sms_retry.migrate import migrate
from sms_retry.store import Store
from sms_retry.twilio import Send
from sms_retry.values import Answer, Claim, Hold, Message, Receipt, Report, Ticket
from tests import released
from tests.integration.examples import (
    MINUTE,
    accepted,
    assert_state,
    claimed,
    count,
    fill,
    finish,
    five_minutes_left,
    in_parallel,
    number,
    one,
    receipt,
    sid,
    statuses,
    take_in,
)

FIVE = timedelta(minutes=5)
ACCOUNT = Hold("account", "*", FIVE, "error_20003")
SENDER = Hold("sender", "*", timedelta(minutes=15), "error_21606")
UNREGISTERED = Hold("account", "*", FIVE, "error_30034")
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


@pytest.mark.parametrize(
    ("http_status", "code", "holds"),
    [
        (429, None, 0),
        (429, 20429, 0),
        (400, 63017, 0),
        (503, 20503, 1),
        (408, None, 1),
        (400, None, 1),
        (None, None, 1),
    ],
)
def test_only_an_answer_of_twilio_clears_the_hold_twilio_down(
    db: psycopg.Connection, store: Store, http_status: int | None, code: int | None, holds: int
) -> None:
    probe = _probe(db, store, Hold("account", "*", MINUTE, "twilio_down"))
    finish(store, probe, "refused", delays=(MINUTE,), spends=False, http_status=http_status, code=code)
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


@pytest.mark.parametrize(
    ("scope", "key"),
    [
        ("account", "sub"),
        ("sender", "+15550100"),
        ("country", "+49"),
        ("recipient", number()),
        ("business", "shop"),
        ("batch", "spring"),
    ],
)
def test_a_message_outlives_a_hold_of_any_length_that_is_cleared_in_its_life(
    db: psycopg.Connection, store: Store, send: Send, scope: str, key: str
) -> None:
    db.execute("select sms_retry.set_sms_sender('+15550100', null, null, 'sub')")
    fields = {"business_id": "shop", "batch": "spring", "sender": "+15550100"}
    message_id = take_in(store, **fields)
    other = take_in(store, 2, **{**fields, "business_id": "gym", "batch": "autumn"})
    db.execute("select sms_retry.open_sms_hold(%s, %s, '100 years', 'by hand')", [scope, key])
    db.execute("select sms_retry.open_sms_hold('recipient', %s, '2 days', 'by hand')", [number(2)])
    worker.drain(store, send, five_minutes_left, concurrency=1)
    assert_state(db, message_id, message="queued", reason="hold", wait=3 * 24 * 60)

    assert one(db, "select sms_retry.close_sms_hold(%s, %s)", [scope, key])
    assert [claim.message_id for claim in store.claim_due(10) if claim.held_until is None] == [message_id]
    assert_state(db, other, queue="pending" if key in ("shop", "spring", number()) else "processing")


def test_a_message_under_a_hold_expires_at_the_end_of_its_life(
    db: psycopg.Connection, store: Store, send: Send
) -> None:
    message_id = take_in(store)
    db.execute("select sms_retry.open_sms_hold('country', '+49', '100 years', 'by hand')")
    worker.drain(store, send, five_minutes_left, concurrency=1)
    let_time_pass(db, days=3)
    worker.drain(store, send, five_minutes_left, concurrency=1)
    assert_state(db, message_id, message="expired", reason="hold")


@pytest.mark.parametrize(
    ("scope", "key"), [("country", "44"), ("country", ""), ("recipient", "hello"), ("batch", ""), ("account", "")]
)
def test_a_hold_with_a_key_that_no_message_has_is_refused(db: psycopg.Connection, scope: str, key: str) -> None:
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="the key of a country must be the first digits"):
        db.execute("select sms_retry.open_sms_hold(%s, %s, '2 hours', 'by hand')", [scope, key])


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


@pytest.mark.parametrize("beside", [0, 1], ids=["alone", "beside a refusal"])
def test_an_accepted_probe_does_not_clear_a_hold_that_a_receipt_set(
    db: psycopg.Connection, store: Store, beside: int
) -> None:
    others = [claimed(store, 90 + n) for n in range(beside)]
    probe = _probe(db, store, UNREGISTERED, by_receipt=True)
    store.finish(
        [Report.accepted(probe.ticket, sid()), *(Report(other.ticket, "refused", code=21211) for other in others)]
    )

    assert count(db, "sms_holds") == 1
    assert store.claim_due(50) == []
    # Twilio is asked about the probe before the next one, in case the receipt is lost.
    let_time_pass(db, minutes=3)
    assert [silent.message_id for silent in store.silent_due(10)] == [probe.message_id]
    let_time_pass(db, minutes=3)
    assert len(store.claim_due(50)) == 1


@pytest.mark.parametrize("accepted_before", [True, False], ids=["after its acceptance", "before its acceptance"])
@pytest.mark.parametrize(
    ("status", "code", "holds"),
    [
        ("sent", None, 1),
        ("delivered", None, 0),
        # The carrier had the message: its failure has another cause.
        ("undelivered", 30003, 0),
        ("undelivered", 30007, 0),
        # The same cause, a cause beyond the message, or an unknown one.
        ("undelivered", 30034, 1),
        ("failed", 30610, 2),
        ("failed", None, 1),
        ("canceled", None, 1),
    ],
)
def test_a_receipt_of_the_probe_decides_about_a_hold_that_a_receipt_set(
    db: psycopg.Connection, store: Store, status: str, code: int | None, holds: int, accepted_before: bool
) -> None:
    probe = _probe(db, store, Hold("country", "+49", FIVE, "error_30034"), by_receipt=True)
    if accepted_before:
        finish(store, probe, "accepted", sid=sid())
    delivery.record(store, Receipt(sid(), status, code, probe.ticket, probe.to_number), datetime.now(UTC))
    finish(store, probe, "accepted", sid=sid())

    assert count(db, "sms_holds") == holds


def test_a_repeated_receipt_sets_no_hold_again(db: psycopg.Connection, store: Store) -> None:
    claim = accepted(store)
    unregistered = Receipt(sid(), "undelivered", 30034, claim.ticket, number())
    assert delivery.record(store, unregistered, datetime.now(UTC)).hold_set
    db.execute("select sms_retry.close_sms_hold(scope, key) from sms_retry.sms_holds")
    assert not delivery.record(store, unregistered, datetime.now(UTC)).hold_set
    assert count(db, "sms_holds") == 0


def test_the_repetition_of_a_receipt_whose_hold_could_not_be_set_sets_it(
    db: psycopg.Connection, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = accepted(store)
    unregistered = Receipt(sid(), "undelivered", 30034, claim.ticket, number())

    def fails(*_: object, **__: object) -> None:
        raise psycopg.OperationalError("the database is away")

    with monkeypatch.context() as broken:
        broken.setattr(store, "set_hold", fails)
        with pytest.raises(psycopg.OperationalError):
            delivery.record(store, unregistered, datetime.now(UTC))
    assert delivery.record(store, unregistered, datetime.now(UTC)).hold_set
    assert count(db, "sms_holds") == 1


@pytest.mark.parametrize(
    ("sender", "hold"),
    [("+14155550001", ("sender", "+14155550001")), (f"MG{'0' * 32}", ("country", "+1")), (None, ("country", "+1"))],
)
def test_a_sender_without_a_registration_holds_no_other_sender(
    db: psycopg.Connection, store: Store, sender: str | None, hold: tuple[str, str]
) -> None:
    claim = store.claim_now(store.queue(Message("+12125550123", "Hello.", kind="otp", sender=sender)))
    assert claim
    finish(store, claim, "accepted", sid=sid())
    told = Receipt(sid(), "undelivered", 30034, claim.ticket, claim.to_number, "+14155550001")
    delivery.record(store, told, datetime.now(UTC))
    assert db.execute("select scope, key from sms_retry.sms_holds").fetchall() == [hold]


def test_a_probe_that_twilio_lists_as_sent_keeps_a_hold_that_a_receipt_set(
    db: psycopg.Connection, store: Store
) -> None:
    probe = _probe(db, store, UNREGISTERED, by_receipt=True)
    finish(store, probe, "unknown")
    finish(store, probe, "accepted", sid=sid())
    assert count(db, "sms_holds") == 1
    assert receipt(store, sid(), "delivered") == "settled"
    assert count(db, "sms_holds") == 0


def test_an_answer_with_the_same_cause_does_not_weaken_a_hold_that_a_receipt_set(
    db: psycopg.Connection, store: Store
) -> None:
    store.set_hold(UNREGISTERED, by_receipt=True)
    probe = _probe(db, store, UNREGISTERED)
    finish(store, probe, "accepted", sid=sid())
    assert count(db, "sms_holds") == 1


def test_a_receipt_sets_a_hold_with_the_functions_of_release_01(server: Server, worker_id: str, tmp_path: Path) -> None:
    url = server.create_database(f"rolled_back_{worker_id}")
    migrate(url)
    released.migrate("0.1.0", url, tmp_path)
    store = Store(lambda: url)
    try:
        store.set_hold(UNREGISTERED, by_receipt=True)
        with psycopg.connect(url) as db:
            assert one(db, "select cleared_by from sms_retry.sms_holds") == "answer"
    finally:
        store.close()


def test_an_unregistered_sender_costs_one_post_an_hour_and_everything_is_sent_afterwards(
    db: psycopg.Connection, store: Store, open_store: Callable[[], Store], stand_in: TwilioStandIn, send: Send
) -> None:
    fill(db, 1500)
    db.execute(
        """update sms_retry.sms_messages
        set to_number = '+1' || (array[212, 310, 415, 512, 617, 702, 808])[1 + id % 7] || 5550000 + id"""
    )
    webhook, recorded, one_at_a_time = open_store(), 0, Lock()

    def record(status: str, code: int | None) -> None:
        """Twilio reports on every message that it accepted since the last call."""
        nonlocal recorded
        news = stand_in.accepted()[recorded:]
        recorded += len(news)
        for post in news:
            assert post.sid
            found = Receipt(post.sid, status, code, Ticket.parse(post.ticket), post.to)
            delivery.record(webhook, found, datetime.now(UTC))

    def send_with_receipts(claim: Claim, valid_for: timedelta) -> Answer:
        # The first receipts come when the worker has been sending for a while.
        with one_at_a_time:
            if not recorded and len(stand_in.posts()) >= 100:
                record("undelivered", 30034)
        return send(claim, valid_for)

    worker.drain(store, send_with_receipts, five_minutes_left, concurrency=10)
    record("undelivered", 30034)
    assert len(stand_in.posts()) < 150

    for _hour in range(3):
        posts = len(stand_in.posts())
        for _ in range(3):
            let_time_pass(db, minutes=20)
            worker.drain(store, send, five_minutes_left, concurrency=100)
        assert len(stand_in.posts()) - posts <= 2
        record("undelivered", 30034)

    for _ in range(6):
        let_time_pass(db, minutes=21)
        worker.drain(store, send, five_minutes_left, concurrency=100)
        record("delivered", None)

    assert statuses(db) == {"delivered": 1500}
    assert count(db, "sms_holds") == 0
    assert one(db, "select max(retry_count) from sms_retry.sms_messages") == 0


def test_the_daily_cap_of_one_carrier_stops_one_person(
    db: psycopg.Connection, store: Store, stand_in: TwilioStandIn, send: Send
) -> None:
    first = take_in(store, 1)
    worker.drain(store, send, five_minutes_left, concurrency=1)
    post = stand_in.accepted()[0]
    assert post.sid
    delivery.record(store, Receipt(post.sid, "undelivered", 30023, None, post.to), datetime.now(UTC))

    again, another = take_in(store, 1), take_in(store, 2)
    worker.drain(store, send, five_minutes_left, concurrency=1)

    assert_state(db, first, message="queued")
    assert_state(db, again, message="queued", reason="hold")
    assert_state(db, another, message="sent")
    assert one(db, "select scope || ' ' || key from sms_retry.sms_holds") == f"recipient {number(1)}"


def test_the_hold_of_a_person_without_messages_is_removed_after_a_day(db: psycopg.Connection, store: Store) -> None:
    store.set_hold(Hold("recipient", number(1), FIVE, "error_30023"), by_receipt=True)
    store.set_hold(BRITAIN)
    let_time_pass(db, hours=23)
    store.cleanup()
    assert count(db, "sms_holds") == 2
    let_time_pass(db, hours=2)
    store.cleanup()
    assert one(db, "select scope from sms_retry.sms_holds") == "country"


def _probe(db: psycopg.Connection, store: Store, hold: Hold, by_receipt: bool = False) -> Claim:
    """Queue ten messages, wait until the time of `hold` is up, and claim the probe."""
    fill(db, 10)
    store.set_hold(hold, by_receipt)
    let_time_pass(db, minutes=5)
    probe, *others = store.claim_due(50)
    # Of a narrower hold the others are claimed too, and wait for the probe.
    store.finish([Report.deferred(other.ticket, timedelta(0), "hold") for other in others])
    assert (hold.scope == "country") == bool(others)
    return probe
