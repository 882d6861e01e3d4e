"""Actions by hand: their effect, and their records."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from local.waiting import let_time_pass
from sms_retry import operate
from sms_retry.store import Store
from tests.integration.examples import (
    MINUTE,
    accepted,
    assert_state,
    claimed,
    count,
    finish,
    number,
    one,
    receipt,
    sid,
    state_of,
    statuses,
    take_in,
    unknown,
)

AN_HOUR_AGO = datetime.now(UTC) - timedelta(hours=1)


def failed(store: Store, n: int = 1, code: int = 30005, **fields: str) -> int:
    claim = claimed(store, n, **fields)
    assert finish(store, claim, "refused", code=code) == "failed"
    return claim.message_id


def recorded(db: psycopg.Connection) -> list[tuple[str | None, ...]]:
    return db.execute("select actor, action, subject, result from sms_retry.sms_actions order by id").fetchall()


def test_every_action_is_recorded_with_its_actor(db: psycopg.Connection, store: Store) -> None:
    take_in(store)
    failed(store, 2)

    assert operate.retry(store, "anna", 1)
    assert operate.cancel(store, "anna", 1) == "cancelled"
    assert not operate.retry(store, "ben", 1, force=True)
    assert operate.requeue(store, "ben", 30005, AN_HOUR_AGO, 10) == 1
    operate.hold(store, "ben", "country", "+44", MINUTE, "a strike")
    assert operate.clear_hold(store, "ben", "country", "+44")
    assert operate.set_consent(store, "anna", "*", number(2), "opted_out") == 1
    assert operate.erase(store, "anna", number(2)).messages == 1

    assert [row[:2] for row in recorded(db)] == [
        ("anna", "retry"),
        ("anna", "cancel"),
        ("ben", "retry"),
        ("ben", "requeue"),
        ("ben", "hold"),
        ("ben", "release"),
        ("anna", "opted_out"),
        ("anna", "erase"),
    ]
    assert [row[3] for row in recorded(db)[:7]] == ["true", "cancelled", "false", "1", "", "true", "1"]


def test_numbers_are_masked_in_recorded_actions(db: psycopg.Connection, store: Store) -> None:
    operate.hold(store, "anna", "recipient", number(), MINUTE, "asked for a pause")
    operate.set_consent(store, "anna", "shop", number(), "opted_in")
    operate.erase(store, "anna", number())

    assert [row[2] for row in recorded(db)] == [
        "recipient +4917*******01",
        "+4917*******01 by shop",
        "+4917*******01",
    ]
    assert number() not in str(recorded(db))


@pytest.mark.parametrize(
    ("phone_number", "masked"),
    [
        ("+4917612345678", "+4917*******78"),
        ("+29012345678", "+2901*****78"),
        ("+29012345", "+2*******"),
        ("+2901234", "+2******"),
    ],
)
def test_a_masked_number_shows_its_start_and_its_end(phone_number: str, masked: str) -> None:
    assert operate.masked(phone_number) == masked


def test_an_action_that_fails_is_not_recorded(db: psycopg.Connection, store: Store) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        operate.hold(store, "anna", "planet", "earth", MINUTE, "why not")
    assert recorded(db) == []


def test_a_missing_message_is_not_cancelled_and_a_missing_hold_is_not_cleared(
    db: psycopg.Connection, store: Store
) -> None:
    assert operate.cancel(store, "anna", 99) is None
    assert not operate.clear_hold(store, "anna", "account", "*")
    assert recorded(db) == [("anna", "cancel", "message 99", None), ("anna", "release", "account *", "false")]


def test_requeue_takes_one_code_since_a_time_in_batches(db: psycopg.Connection, store: Store) -> None:
    before = failed(store, 1)
    let_time_pass(db, hours=2)
    later = [failed(store, n) for n in (2, 3, 4)]
    other_code = failed(store, 5, code=21211)

    batches = [operate.requeue(store, "anna", 30005, AN_HOUR_AGO, limit=2) for _ in range(3)]

    assert batches == [2, 1, 0]
    for each in later:
        assert_state(db, each, message="queued", queue="pending")
    assert {state_of(db, each).queue for each in (before, other_code)} == {"failed"}


def test_a_requeued_message_has_exactly_one_more_try(db: psycopg.Connection, store: Store) -> None:
    message_id = failed(store)
    operate.requeue(store, "anna", 30005, AN_HOUR_AGO, limit=10)

    again = store.claim_now(message_id)
    assert again
    assert finish(store, again, "refused", code=30005, delays=(MINUTE,) * 3) == "failed"


def test_a_message_that_fails_again_during_a_requeue_is_requeued_once(db: psycopg.Connection, store: Store) -> None:
    message_id = failed(store)
    failed_before, until = store.failed_since(30005, AN_HOUR_AGO)
    assert failed_before == 1

    assert operate.requeue(store, "anna", 30005, AN_HOUR_AGO, 10, until) == 1
    again = store.claim_now(message_id)
    assert again
    finish(store, again, "refused", code=30005)

    assert operate.requeue(store, "anna", 30005, AN_HOUR_AGO, 10, until) == 0


def test_an_expired_message_is_not_requeued(db: psycopg.Connection, store: Store) -> None:
    message_id = failed(store)
    db.execute("update sms_retry.sms_messages set expires_at = now()")
    assert operate.requeue(store, "anna", 30005, AN_HOUR_AGO, 10) == 0
    assert state_of(db, message_id).queue == "failed"


def test_an_undelivered_message_is_requeued_by_its_receipts_code(db: psycopg.Connection, store: Store) -> None:
    claim = accepted(store)
    receipt(store, sid(), "undelivered", 30008)
    assert operate.requeue(store, "anna", 30008, AN_HOUR_AGO, 10) == 1
    assert_state(db, claim.message_id, message="queued", queue="pending")


def test_a_person_is_erased_from_every_table(db: psycopg.Connection, store: Store) -> None:
    accepted(store, 1)
    receipt(store, sid(1), "delivered")
    other_business, waiting = take_in(store, 1, business_id="shop"), unknown(store, 1).message_id
    failed(store, 1)
    let_time_pass(db, days=8)
    assert store.cleanup() == 2
    store.set_consent("shop", number(1), "opted_in")
    operate.hold(store, "anna", "recipient", number(1), MINUTE, "asked for a pause")
    other_person = accepted(store, 2).message_id
    receipt(store, sid(2), "delivered")

    erased = operate.erase(store, "anna", number(1))

    assert (erased.messages, erased.attempts, erased.holds, erased.consents) == (4, 1, 1, 1)
    assert (erased.left, erased.on_their_way) == (0, 0)
    assert {state_of(db, other_person).message} == {"delivered"}
    assert not {other_business, waiting} & {row[0] for row in db.execute("select id from sms_retry.sms_messages")}
    for table in ("messages", "retry_queue", "attempts", "delivery_events"):
        assert count(db, f"sms_{table}") == 1, table
    for table in ("messages", "attempts", "recipients", "holds", "actions", "delivery_events"):
        assert number(1) not in str(db.execute(f"select t::text from sms_retry.sms_{table} t").fetchall())


def test_the_receipts_of_an_erased_person_are_erased(db: psycopg.Connection, store: Store) -> None:
    accepted(store)
    receipt(store, sid(), "sent")
    receipt(store, sid(), "delivered")
    assert operate.erase(store, "anna", number()).callbacks == 2
    assert count(db, "sms_delivery_events") == 0


def test_an_erased_persons_opt_out_still_holds(db: psycopg.Connection, store: Store) -> None:
    store.set_consent("*", number(), "opted_out")
    store.set_consent("shop", number(), "opted_in")
    db.execute("update sms_retry.sms_recipients set time_zone = 'Europe/Berlin'")

    operate.erase(store, "anna", number())

    kept = db.execute("select business_id, consent, time_zone from sms_retry.sms_recipients").fetchall()
    assert kept == [("*", "opted_out", None)]
    assert state_of(db, take_in(store)).message == "failed"


def test_a_claimed_message_is_left_to_its_worker_and_not_sent_a_second_time(
    db: psycopg.Connection, store: Store
) -> None:
    being_sent = claimed(store)
    take_in(store)

    first = operate.erase(store, "anna", number())
    assert (first.messages, first.left, first.on_their_way) == (1, 1, 1)

    assert finish(store, being_sent, "refused", code=30001, delays=(MINUTE,)) == "expired"
    again = operate.erase(store, "anna", number())
    assert (again.messages, again.left) == (1, 0)


def test_a_report_on_an_erased_message_changes_nothing(db: psycopg.Connection, store: Store) -> None:
    claim = unknown(store)
    operate.erase(store, "anna", number())
    assert finish(store, claim, "accepted", sid=sid()) is None
    assert receipt(store, sid(), "delivered", ticket=claim.ticket) == "unheard_of"
    assert count(db, "sms_attempts") == 0


def test_more_than_a_thousand_messages_are_erased_in_batches(db: psycopg.Connection, store: Store) -> None:
    db.execute(f"select sms_retry.queue_sms_retry('{number()}', 'Hello.', kind => 'otp') from generate_series(1, 1001)")
    progress: list[tuple[int, int]] = []
    erased = operate.erase_all(store, "anna", number(), progress=lambda *done: progress.append(done))
    assert erased == (1001, 0)
    assert progress == [(1000, 1001), (1001, 1001)]
    assert statuses(db) == {}


def test_the_number_of_batches_can_be_limited(
    db: psycopg.Connection, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operate, "BATCH", 2)
    for n in range(5):
        failed(store, n)
    counted = store.failed_since(30005, AN_HOUR_AGO)
    assert operate.requeue_all(store, "anna", 30005, AN_HOUR_AGO, counted, most_batches=2) == (4, False)
    assert operate.requeue_all(store, "anna", 30005, AN_HOUR_AGO, counted, most_batches=2) == (1, True)

    db.execute(
        f"select sms_retry.queue_sms_retry('{number(9)}', 'Hello.', kind => 'otp') from generate_series(1, 1001)"
    )
    assert operate.erase_all(store, "anna", number(9), most_batches=1) == (1000, 1)


def test_erasing_ends_at_a_message_that_is_being_sent(store: Store) -> None:
    claimed(store)
    take_in(store)
    assert operate.erase_all(store, "anna", number()) == (1, 1)
    assert operate.erase_all(store, "anna", number()) == (0, 1)


def test_half_of_a_number_erases_no_message(db: psycopg.Connection, store: Store) -> None:
    take_in(store)
    assert operate.erase(store, "anna", number()[:-1]).messages == 0
    assert one(db, "select count(*) from sms_retry.sms_messages") == 1
