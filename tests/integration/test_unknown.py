"""What may have been sent: asked about, and sent again only when that is safe; and what is cleaned up and counted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import psycopg
import pytest

from local.waiting import let_time_pass
from sms_retry import first_send, intake
from sms_retry.store import Store
from sms_retry.values import Claim, Message, Ticket
from tests.integration.examples import (
    MINUTE,
    accepted,
    claimed,
    count,
    finish,
    number,
    one,
    receipt,
    send_again,
    sid,
    standing,
    statuses,
    take_in,
    unknown,
)


def test_the_claim_of_a_dead_worker_is_unknown_after_ten_minutes(db: psycopg.Connection, store: Store) -> None:
    claimed(store)
    let_time_pass(db, minutes=9)
    assert store.take_stock(1)[0] == 0

    let_time_pass(db, minutes=2)
    assert store.take_stock(1)[0] == 1
    assert standing(db)[:4] == ("unknown", "unknown", 1, 0)
    assert store.claim_due(1) == []
    assert store.take_stock(1)[0] == 0


def test_a_worker_that_was_merely_slow_still_settles_its_own_attempt(db: psycopg.Connection, store: Store) -> None:
    claim = _recovered(db, store)
    assert finish(store, claim, "accepted", sid=sid()) == "completed"
    assert standing(db)[:3] == ("sent", "completed", 1)


def test_a_slow_worker_that_saw_nothing_either_changes_nothing(db: psycopg.Connection, store: Store) -> None:
    assert finish(store, _recovered(db, store), "unknown") is None


def test_after_the_next_claim_the_slow_worker_is_stale(db: psycopg.Connection, store: Store) -> None:
    slow = _recovered(db, store)
    again = _released(db, store, slow)

    assert finish(store, slow, "accepted", sid=sid(1)) is None
    assert finish(store, slow, "refused", code=21211) is None

    assert standing(db)[:4] == ("queued", "processing", 2, 1)
    assert finish(store, again, "accepted", sid=sid(2)) == "completed"
    assert standing(db).provider_sid == sid(2)


def test_twilio_is_asked_after_a_minute_and_then_ever_less_often(db: psycopg.Connection, store: Store) -> None:
    claim = unknown(store)
    assert store.unknown_due(10) == []

    asked = []
    for minute in range(1, 240):
        let_time_pass(db, minutes=1)
        for ticket, to_number, body, _ in store.unknown_due(10):
            assert (ticket, to_number, body) == (claim.ticket, number(), "Your parcel is here.")
            asked.append(minute)

    gaps = [later - earlier for earlier, later in pairwise(asked)]
    assert asked[0] == 1
    assert gaps[0] == 5
    assert gaps == sorted(gaps)
    assert 15 < gaps[-1] <= 30


def test_the_claim_is_what_the_thirty_minutes_count_from(db: psycopg.Connection, store: Store) -> None:
    claim = unknown(store)
    let_time_pass(db, minutes=29)
    store.unknown_due(10)
    assert store.release_unknown([claim.ticket]) == []

    let_time_pass(db, minutes=2)
    assert store.release_unknown([claim.ticket]) == ["pending"]
    assert standing(db) == ("queued", "pending", 1, 1, 0, "unknown", None, None)


def test_a_ticket_is_released_once(db: psycopg.Connection, store: Store) -> None:
    claim = unknown(store)
    let_time_pass(db, minutes=31)
    stale = Ticket(claim.id, claim.attempt + 1)
    assert store.release_unknown([claim.ticket, stale, Ticket(99, 1)]) == ["pending"]
    assert store.release_unknown([claim.ticket]) == []


def test_with_no_retry_left_it_ends_as_unknown(db: psycopg.Connection, store: Store) -> None:
    claim = unknown(store)
    for _ in range(3):
        claim = _released(db, store, claim)
        finish(store, claim, "unknown")
    let_time_pass(db, minutes=31)

    assert store.release_unknown([claim.ticket]) == ["unknown"]

    assert standing(db)[:4] == ("unknown", "unknown", 4, 3)
    assert one(db, "select finished_at is not null from sms_retry.sms_retry_queue")
    let_time_pass(db, hours=5)
    assert store.unknown_due(10) == []
    assert store.release_unknown([claim.ticket]) == []


def test_past_its_expiry_it_ends_as_unknown_and_not_as_expired(db: psycopg.Connection, store: Store) -> None:
    soon = datetime.now(UTC) + timedelta(minutes=20)
    _, claim = store.queue_and_claim(Message(number(), "Hello.", expires_at=soon))
    assert claim
    finish(store, claim, "unknown")
    let_time_pass(db, minutes=31)

    assert store.release_unknown([claim.ticket]) == ["unknown"]
    assert statuses(db) == {"unknown": 1}


def test_one_that_is_held_is_never_sent_again_and_ends_after_three_days(db: psycopg.Connection, store: Store) -> None:
    claim = unknown(store, on_unknown="hold")
    for _ in range(71):
        let_time_pass(db, hours=1)
        store.unknown_due(10)
        assert store.release_unknown([claim.ticket]) == []
    let_time_pass(db, hours=10)

    assert len(store.unknown_due(10)) == 1
    assert store.release_unknown([claim.ticket]) == ["unknown"]
    assert (standing(db)[:4], standing(db).reason) == (("unknown", "unknown", 1, 0), "held")
    assert store.claim_due(10) == []


def test_one_that_ended_as_unknown_is_still_settled_by_its_callback(db: psycopg.Connection, store: Store) -> None:
    claim = unknown(store, on_unknown="hold")
    let_time_pass(db, hours=73)
    store.release_unknown([claim.ticket])

    assert receipt(store, sid(), "delivered", ticket=claim.ticket) == "settled"
    assert standing(db)[:2] == ("delivered", "completed")


@pytest.mark.parametrize("status", ["queued", "sent", "delivered", "failed"])
def test_a_receipt_stops_a_released_message_that_nobody_has_claimed_yet(
    db: psycopg.Connection, store: Store, status: str
) -> None:
    claim = unknown(store)
    let_time_pass(db, minutes=31)
    store.release_unknown([claim.ticket])

    assert receipt(store, sid(), status, 30007 if status == "failed" else None, claim.ticket) == "settled"

    assert store.claim_due(10) == []
    assert statuses(db) == {"sent" if status == "queued" else status: 1}


def test_a_slow_worker_stops_a_released_message_that_nobody_has_claimed_yet(
    db: psycopg.Connection, store: Store
) -> None:
    claim = unknown(store)
    let_time_pass(db, minutes=31)
    store.release_unknown([claim.ticket])
    assert finish(store, claim, "accepted", sid=sid()) == "completed"
    assert store.claim_due(10) == []


def test_a_stop_keeps_an_unknown_message_from_being_sent_again(db: psycopg.Connection, store: Store) -> None:
    claim = unknown(store)
    store.set_consent("*", number(), "opted_out")
    let_time_pass(db, minutes=31)
    assert store.release_unknown([claim.ticket]) == []


def test_a_silent_message_is_asked_about_after_1_12_24_and_72_hours(db: psycopg.Connection, store: Store) -> None:
    accepted(store)
    asked = []
    for hour in range(1, 120):
        let_time_pass(db, hours=1)
        for message_id, found in store.silent_due(10):
            assert found == sid()
            store.note_asked({message_id: False})
            asked.append(hour)
    assert asked == [1, 12, 24, 72]


def test_a_silent_message_that_nobody_did_ask_about_is_due_again_in_five_minutes(
    db: psycopg.Connection, store: Store
) -> None:
    accepted(store)
    let_time_pass(db, hours=1)
    assert len(store.silent_due(10)) == 1
    let_time_pass(db, minutes=4)
    assert store.silent_due(10) == []
    let_time_pass(db, minutes=1)
    assert len(store.silent_due(10)) == 1


def test_a_silent_message_that_twilio_has_no_more_is_not_asked_about_again(
    db: psycopg.Connection, store: Store
) -> None:
    claim = accepted(store)
    let_time_pass(db, hours=1)
    store.note_asked({claim.message_id: True})
    let_time_pass(db, hours=100)
    assert store.silent_due(10) == []


def test_a_delivered_message_is_not_asked_about(db: psycopg.Connection, store: Store) -> None:
    accepted(store)
    receipt(store, sid(), "delivered")
    let_time_pass(db, hours=2)
    assert store.silent_due(10) == []


def test_a_sid_that_an_attempt_has_is_owned(store: Store) -> None:
    accepted(store, 1)
    assert store.unowned_sids([sid(1), sid(2)]) == {sid(2)}
    assert store.unowned_sids([]) == set()


def test_only_what_ended_more_than_a_week_ago_is_cleaned_up(db: psycopg.Connection, store: Store) -> None:
    old = accepted(store, 1)
    receipt(store, sid(1), "delivered")
    finish(store, claimed(store, 2), "refused", code=21211)
    waiting, may_have_gone = take_in(store, 3), unknown(store, 4)
    let_time_pass(db, days=6, hours=23)
    accepted(store, 5)
    assert store.cleanup() == 0

    let_time_pass(db, hours=2)
    assert store.cleanup() == 2
    assert store.cleanup() == 0

    left = {row[0] for row in db.execute("select message_id from sms_retry.sms_retry_queue")}
    assert left == {waiting, may_have_gone.message_id, 5}
    assert count(db, "sms_messages") == 5
    assert one(db, "select count(*) from sms_retry.sms_attempts where queue_id = %s", [old.id]) == 0
    assert count(db, "sms_delivery_events") == 0


def test_a_callback_that_nobody_ever_knew_is_cleaned_up_too(db: psycopg.Connection, store: Store) -> None:
    assert receipt(store, sid(9), "delivered") == "unheard_of"
    let_time_pass(db, days=6)
    assert store.cleanup() == 0
    let_time_pass(db, days=2)
    assert store.cleanup() == 1
    assert count(db, "sms_delivery_events") == 0


def test_a_first_send_that_may_have_gone_is_asked_about_before_it_is_sent_again(
    db: psycopg.Connection, store: Store
) -> None:
    message = Message(number(1), "Hello.", kind="otp")
    first_send.take_failed(store, message, intake.Failed(20500, "Internal Server Error"), datetime.now(UTC))

    assert statuses(db) == {"unknown": 1}
    assert store.claim_due(10) == []
    let_time_pass(db, minutes=1)
    [(ticket, *_)] = store.unknown_due(10)
    assert store.release_unknown([ticket]) == []
    let_time_pass(db, minutes=30)
    assert store.release_unknown([ticket]) == ["pending"]


def test_the_story_of_a_message_is_told_in_order(db: psycopg.Connection, store: Store) -> None:
    claim = claimed(store)
    finish(store, claim, "refused", code=30001, message="Queue overflow", delays=(MINUTE,))
    again = send_again(db, store, minutes=1)
    finish(store, again, "accepted", sid=sid())
    receipt(store, sid(), "delivered", ticket=again.ticket)

    story = db.execute("select what, ticket, error_code from sms_retry.sms_message_story(1)").fetchall()

    assert story == [
        ("taken in", None, None),
        ("refused", "1-1", 30001),
        ("accepted", "1-2", None),
        ("delivered", "1-2", None),
    ]


def _recovered(db: psycopg.Connection, store: Store) -> Claim:
    """A claim that was taken back from its worker."""
    claim = claimed(store)
    let_time_pass(db, minutes=11)
    assert store.take_stock(1)[0] == 1
    return claim


def _released(db: psycopg.Connection, store: Store, claim: Claim) -> Claim:
    """The next claim on a message that was released."""
    let_time_pass(db, minutes=31)
    assert store.release_unknown([claim.ticket]) == ["pending"]
    again = store.claim_now(claim.message_id)
    assert again
    return again
