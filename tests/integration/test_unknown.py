"""Unknown messages are asked about and sent again only when it is safe; old messages are cleaned up."""

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
    assert_state,
    claim_again,
    claimed,
    count,
    finish,
    number,
    one,
    receipt,
    sid,
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
    assert_state(db, message="unknown", queue="unknown", attempt=1, retry_count=0)
    assert store.claim_due(1) == []
    assert store.take_stock(1)[0] == 0


def test_a_slow_worker_settles_its_attempt_after_the_recovery(db: psycopg.Connection, store: Store) -> None:
    claim = _recovered(db, store)
    assert finish(store, claim, "accepted", sid=sid()) == "completed"
    assert_state(db, message="sent", queue="completed", attempt=1)


def test_a_report_of_unknown_after_the_recovery_changes_nothing(db: psycopg.Connection, store: Store) -> None:
    assert finish(store, _recovered(db, store), "unknown") is None


def test_a_slow_worker_is_stale_after_the_next_claim(db: psycopg.Connection, store: Store) -> None:
    slow = _recovered(db, store)
    again = _claim_resent(db, store, slow)

    assert finish(store, slow, "accepted", sid=sid(1)) is None
    assert finish(store, slow, "refused", code=21211) is None

    assert_state(db, message="queued", queue="processing", attempt=2, retry_count=1)
    assert finish(store, again, "accepted", sid=sid(2)) == "completed"
    assert_state(db, provider_sid=sid(2))


def test_twilio_is_asked_after_a_minute_and_then_at_growing_intervals(db: psycopg.Connection, store: Store) -> None:
    claim = unknown(store)
    assert store.unknown_due(10) == []

    asked = []
    for minute in range(1, 240):
        let_time_pass(db, minutes=1)
        for ticket, to_number, body, *_ in store.unknown_due(10):
            assert (ticket, to_number, body) == (claim.ticket, number(), "Your parcel is here.")
            asked.append(minute)

    gaps = [later - earlier for earlier, later in pairwise(asked)]
    assert asked[0] == 1
    assert gaps[0] == 5
    assert gaps == sorted(gaps)
    assert 15 < gaps[-1] <= 30


def test_the_thirty_minutes_start_at_the_claim(db: psycopg.Connection, store: Store) -> None:
    claim = unknown(store)
    let_time_pass(db, minutes=29)
    store.unknown_due(10)
    assert store.release_unknown([claim.ticket]) == []

    let_time_pass(db, minutes=2)
    assert store.release_unknown([claim.ticket]) == ["pending"]
    assert_state(db, message="queued", queue="pending", attempt=1, retry_count=1, wait=0)
    assert_state(db, reason="unknown", error_code=None, provider_sid=None)


def test_an_unknown_is_made_pending_once(db: psycopg.Connection, store: Store) -> None:
    claim = unknown(store)
    let_time_pass(db, minutes=31)
    stale = Ticket(claim.id, claim.attempt + 1)
    assert store.release_unknown([claim.ticket, stale, Ticket(99, 1)]) == ["pending"]
    assert store.release_unknown([claim.ticket]) == []


def test_an_unknown_without_retries_left_ends_as_unknown(db: psycopg.Connection, store: Store) -> None:
    claim = unknown(store)
    for _ in range(3):
        claim = _claim_resent(db, store, claim)
        finish(store, claim, "unknown")
    let_time_pass(db, minutes=31)

    assert store.release_unknown([claim.ticket]) == ["unknown"]

    assert_state(db, message="unknown", queue="unknown", attempt=4, retry_count=3)
    assert one(db, "select finished_at is not null from sms_retry.sms_retry_queue")
    let_time_pass(db, hours=5)
    assert store.unknown_due(10) == []
    assert store.release_unknown([claim.ticket]) == []


def test_an_unknown_past_its_expiry_ends_as_unknown_and_not_as_expired(db: psycopg.Connection, store: Store) -> None:
    soon = datetime.now(UTC) + timedelta(minutes=20)
    _, claim = store.queue_and_claim(Message(number(), "Hello.", expires_at=soon))
    assert claim
    finish(store, claim, "unknown")
    let_time_pass(db, minutes=31)

    assert store.release_unknown([claim.ticket]) == ["unknown"]
    assert statuses(db) == {"unknown": 1}


def test_a_parked_message_is_never_sent_again_and_ends_after_three_days(db: psycopg.Connection, store: Store) -> None:
    claim = unknown(store, on_unknown="hold")
    for _ in range(71):
        let_time_pass(db, hours=1)
        store.unknown_due(10)
        assert store.release_unknown([claim.ticket]) == []
    let_time_pass(db, hours=10)

    assert len(store.unknown_due(10)) == 1
    assert store.release_unknown([claim.ticket]) == ["unknown"]
    assert_state(db, message="unknown", queue="unknown", attempt=1, retry_count=0, reason="held")
    assert store.claim_due(10) == []


def test_a_receipt_settles_a_parked_message_that_has_ended(db: psycopg.Connection, store: Store) -> None:
    claim = unknown(store, on_unknown="hold")
    let_time_pass(db, hours=73)
    store.release_unknown([claim.ticket])

    assert receipt(store, sid(), "delivered", ticket=claim.ticket) == "settled"
    assert_state(db, message="delivered", queue="completed")


def test_an_unknown_is_parked_beside_a_stranger_and_not_before_half_an_hour(
    db: psycopg.Connection, store: Store
) -> None:
    claim = unknown(store)
    let_time_pass(db, minutes=29)
    assert store.release_unknown([claim.ticket], ["stranger"]) == []
    let_time_pass(db, minutes=2)
    assert store.release_unknown([claim.ticket], ["unsure"]) == []
    assert_state(db, reason=None)

    assert store.release_unknown([claim.ticket], ["stranger"]) == ["unknown"]
    assert_state(db, message="unknown", queue="unknown", reason="held", retry_count=0)
    # A person decides, also where the list is trusted later.
    assert store.release_unknown([claim.ticket]) == []
    let_time_pass(db, hours=72)
    assert store.release_unknown([claim.ticket], ["stranger"]) == ["unknown"]
    assert one(db, "select finished_at is not null from sms_retry.sms_retry_queue")


def test_release_0_1_releases_an_unknown_and_no_parked_one(db: psycopg.Connection, store: Store) -> None:
    released, parked = unknown(store, 1), unknown(store, 2)
    let_time_pass(db, minutes=31)
    store.release_unknown([parked.ticket], ["stranger"])

    statement = "select id, status from sms_retry.release_unknown_sms(%s::bigint[], %s::int[])"
    assert db.execute(statement, [[released.id, parked.id], [1, 1]]).fetchall() == [(released.id, "pending")]


@pytest.mark.parametrize("status", ["queued", "sent", "delivered", "failed"])
def test_a_receipt_stops_a_resent_message_before_its_claim(db: psycopg.Connection, store: Store, status: str) -> None:
    claim = unknown(store)
    let_time_pass(db, minutes=31)
    store.release_unknown([claim.ticket])

    assert receipt(store, sid(), status, 30007 if status == "failed" else None, claim.ticket) == "settled"

    assert store.claim_due(10) == []
    assert statuses(db) == {"sent" if status == "queued" else status: 1}


@pytest.mark.parametrize(
    ("told", "retries"),
    [("sent", 0), ("delivered", 0), ("undelivered", 1), ("sent undelivered", 1)],
)
def test_one_send_never_spends_two_retries(db: psycopg.Connection, store: Store, told: str, retries: int) -> None:
    claim = unknown(store)
    let_time_pass(db, minutes=31)
    store.release_unknown([claim.ticket])
    assert_state(db, queue="pending", retry_count=1)

    for status in told.split():
        code, delays = (30003, [MINUTE] * 3) if status == "undelivered" else (None, None)
        receipt(store, sid(), status, code, claim.ticket, delays)

    assert_state(db, attempt=1, retry_count=retries)


def test_a_retry_that_was_given_back_can_be_spent_again(db: psycopg.Connection, store: Store) -> None:
    claim = unknown(store)
    for _ in range(2):
        claim = _claim_resent(db, store, claim)
        finish(store, claim, "unknown")
    let_time_pass(db, minutes=31)
    store.release_unknown([claim.ticket])
    assert_state(db, queue="pending", attempt=3, retry_count=3)

    receipt(store, sid(), "undelivered", 30003, claim.ticket, [MINUTE] * 3)

    assert_state(db, message="queued", queue="pending", attempt=3, retry_count=3)


def test_a_slow_worker_stops_a_resent_message_before_its_claim(db: psycopg.Connection, store: Store) -> None:
    claim = unknown(store)
    let_time_pass(db, minutes=31)
    store.release_unknown([claim.ticket])
    assert finish(store, claim, "accepted", sid=sid()) == "completed"
    assert store.claim_due(10) == []


def test_an_unknown_is_not_sent_again_after_an_opt_out(db: psycopg.Connection, store: Store) -> None:
    claim = unknown(store)
    store.set_consent("*", number(), "opted_out")
    let_time_pass(db, minutes=31)
    assert store.release_unknown([claim.ticket]) == []


def test_a_message_without_a_receipt_is_looked_up_after_1_12_24_and_72_hours(
    db: psycopg.Connection, store: Store
) -> None:
    accepted(store)
    asked = []
    for hour in range(1, 120):
        let_time_pass(db, hours=1)
        for message_id, found, _ in store.silent_due(10):
            assert found == sid()
            store.note_asked({message_id: False})
            asked.append(hour)
    assert asked == [1, 12, 24, 72]


def test_a_lookup_that_was_not_noted_is_due_again_in_five_minutes(db: psycopg.Connection, store: Store) -> None:
    accepted(store)
    let_time_pass(db, hours=1)
    assert len(store.silent_due(10)) == 1
    let_time_pass(db, minutes=4)
    assert store.silent_due(10) == []
    let_time_pass(db, minutes=1)
    assert len(store.silent_due(10)) == 1


def test_a_message_that_is_gone_at_twilio_is_not_looked_up_again(db: psycopg.Connection, store: Store) -> None:
    claim = accepted(store)
    let_time_pass(db, hours=1)
    store.note_asked({claim.message_id: True})
    let_time_pass(db, hours=100)
    assert store.silent_due(10) == []


def test_a_delivered_message_is_not_looked_up(db: psycopg.Connection, store: Store) -> None:
    accepted(store)
    receipt(store, sid(), "delivered")
    let_time_pass(db, hours=2)
    assert store.silent_due(10) == []


def test_the_sid_of_an_attempt_is_owned(store: Store) -> None:
    accepted(store, 1)
    assert store.unowned_sids([sid(1), sid(2)]) == {sid(2)}
    assert store.unowned_sids([]) == set()


def test_only_messages_that_ended_more_than_a_week_ago_are_cleaned_up(db: psycopg.Connection, store: Store) -> None:
    old = accepted(store, 1)
    receipt(store, sid(1), "delivered")
    finish(store, claimed(store, 2), "refused", code=21211)
    waiting, not_known = take_in(store, 3), unknown(store, 4)
    let_time_pass(db, days=6, hours=23)
    accepted(store, 5)
    assert store.cleanup() == 0

    let_time_pass(db, hours=2)
    assert store.cleanup() == 2
    assert store.cleanup() == 0

    left = {row[0] for row in db.execute("select message_id from sms_retry.sms_retry_queue")}
    assert left == {waiting, not_known.message_id, 5}
    assert count(db, "sms_messages") == 5
    assert one(db, "select count(*) from sms_retry.sms_attempts where queue_id = %s", [old.id]) == 0
    assert count(db, "sms_delivery_events") == 0


def test_an_old_receipt_with_an_unowned_sid_is_cleaned_up(db: psycopg.Connection, store: Store) -> None:
    assert receipt(store, sid(9), "delivered") == "unheard_of"
    let_time_pass(db, days=6)
    assert store.cleanup() == 0
    let_time_pass(db, days=2)
    assert store.cleanup() == 1
    assert count(db, "sms_delivery_events") == 0


def test_a_first_send_with_an_unknown_outcome_is_asked_about_before_it_is_sent_again(
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


def test_the_story_of_a_message_is_in_order_of_time(db: psycopg.Connection, store: Store) -> None:
    claim = claimed(store)
    finish(store, claim, "refused", code=30001, message="Queue overflow", delays=(MINUTE,))
    again = claim_again(db, store, minutes=1)
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
    """A claim that was recovered from its worker."""
    claim = claimed(store)
    let_time_pass(db, minutes=11)
    assert store.take_stock(1)[0] == 1
    return claim


def _claim_resent(db: psycopg.Connection, store: Store, claim: Claim) -> Claim:
    """Make an unknown pending after 30 minutes, and claim it again."""
    let_time_pass(db, minutes=31)
    assert store.release_unknown([claim.ticket]) == ["pending"]
    again = store.claim_now(claim.message_id)
    assert again
    return again


def test_a_sid_that_another_attempt_owns_settles_no_message(db: psycopg.Connection, store: Store) -> None:
    accepted(store, 1)
    second = unknown(store, 2)
    finish(store, second, "delivered", sid=sid(1))
    assert_state(db, second.message_id, message="unknown", queue="unknown")


def test_a_failed_message_that_is_cancelled_is_not_sent_again_when_its_code_comes(
    db: psycopg.Connection, store: Store
) -> None:
    claim = accepted(store)
    receipt(store, sid(), "undelivered")
    assert one(db, "select sms_retry.cancel_sms_retry(%s)", [claim.message_id]) == "undelivered"
    receipt(store, sid(), "undelivered", 30003, delays=[MINUTE])
    assert_state(db, claim.message_id, message="undelivered", error_code=30003)


@pytest.mark.parametrize("reason", ["hold", "budget"])
def test_a_message_that_waited_for_a_hold_or_a_budget_is_in_doubt_after_a_restore(
    db: psycopg.Connection, store: Store, reason: str
) -> None:
    claim = claimed(store)
    finish(store, claim, "deferred", delays=[timedelta(days=1)], reason=reason)
    assert one(db, "select sms_retry.doubt_sms_since(now() - interval '1 hour')") == 1
    assert_state(db, claim.message_id, message="unknown", reason="restored")


def test_a_doubt_since_the_first_year_asks_since_2000(db: psycopg.Connection, store: Store) -> None:
    unknown(store)
    db.execute("select sms_retry.doubt_sms_since('0001-01-01T00:00Z')")
    assert one(db, "select extract(year from doubted_since at time zone 'UTC') from sms_retry.sms_retry_queue") == 2000
