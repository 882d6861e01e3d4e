"""The entry: messages that it stores, faults that it reports, and one message per key."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import available_timezones

import psycopg
import pytest

from local.waiting import let_time_pass
from sms_retry import delivery, first_send, intake, operate
from sms_retry.store import Store
from sms_retry.values import Message, Reply
from tests.integration.examples import (
    MINUTE,
    accepted,
    assert_state,
    claimed,
    count,
    finish,
    in_parallel,
    number,
    one,
    receipt,
    sid,
    state_of,
    statuses,
    take_in,
    unknown,
    wait_until_blocked,
)

PARCEL = Message(number(1), "Your parcel is here.", message_key="parcel-17", kind="otp")
QUEUE_PARCEL = "select sms_retry.queue_sms_retry(to_number => %s, body => 'Your parcel is here.', message_key => 'p')"
OpenStore = Callable[[], Store]


def test_the_same_key_twice_queues_one_message(db: psycopg.Connection, store: Store) -> None:
    assert store.queue(PARCEL) == store.queue(PARCEL)
    assert (count(db, "sms_messages"), count(db, "sms_retry_queue")) == (1, 1)


@pytest.mark.parametrize("other", [{"to_number": number(2)}, {"body": "Another text."}], ids=str)
def test_a_key_of_another_recipient_or_another_text_is_refused(
    db: psycopg.Connection, store: Store, other: dict[str, str]
) -> None:
    store.queue(PARCEL)
    before = state_of(db)

    for take in (store.queue, store.queue_and_claim, lambda message: store.log_sent(message, sid())):
        with pytest.raises(psycopg.errors.InvalidParameterValue, match="message_key belongs to") as refusal:
            take(replace(PARCEL, **other))
        assert not any(private in str(refusal.value) for private in (number(), number(2), "Another", PARCEL.body))
    with pytest.raises(intake.InvalidEvent, match=r"^nothing was stored: message_key[^\n]*$"), intake.refusals():
        store.queue(replace(PARCEL, **other))

    assert (count(db, "sms_messages"), state_of(db)) == (1, before)


def test_a_key_is_known_after_its_text_was_erased(db: psycopg.Connection, store: Store) -> None:
    message_id, claim = store.queue_and_claim(PARCEL)
    assert claim
    finish(store, claim, "accepted", sid=sid())
    let_time_pass(db, days=1)
    assert store.erase_bodies(1) == 1

    assert store.queue(PARCEL) == message_id
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="message_key"):
        store.queue(replace(PARCEL, to_number=number(2)))


def test_both_entries_remove_the_same_white_space_at_the_ends_of_a_text(db: psycopg.Connection) -> None:
    # Every character of the basic plane but NUL and surrogates; those that Python removes are all in it.
    removed = one(
        db,
        "select string_agg(chr(n), '' order by n) from generate_series(1, 65535) n"
        " where n not between 55296 and 57343 and sms_retry.sms_text(chr(n) || 'x' || chr(n)) = 'x'",
    )
    assert removed == "".join(chr(n) for n in range(1, 0x110000) if chr(n).isspace())


def test_white_space_at_the_ends_of_a_text_is_not_stored(db: psycopg.Connection, store: Store) -> None:
    message_id = store.queue(Message(number(), "\u00a0 Your code\n is 1234\r\n", message_key="code"))
    assert one(db, "select body from sms_retry.sms_messages") == "Your code\n is 1234"
    assert store.queue(Message(number(), "Your code\n is 1234", message_key="code")) == message_id
    store.log_sent(Message(number(), "\tHello. "), sid())
    assert one(db, "select body from sms_retry.sms_messages order by id desc") == "Hello."


def test_two_businesses_may_use_the_same_key(db: psycopg.Connection, store: Store) -> None:
    ids = {take_in(store, message_key="1", business_id=business) for business in ("acme", "default")}
    assert len(ids) == 2


def test_the_same_text_twice_without_a_key_queues_two_messages(store: Store) -> None:
    assert take_in(store) != take_in(store)


def test_a_key_cannot_be_used_again_after_the_cleanup(db: psycopg.Connection, store: Store) -> None:
    message_id, claim = store.queue_and_claim(PARCEL)
    assert claim
    finish(store, claim, "accepted", sid=sid())
    let_time_pass(db, days=8)
    assert store.cleanup() == 1

    assert store.queue_and_claim(PARCEL) == (message_id, None)


def test_concurrent_callers_get_one_message_and_one_claim(db: psycopg.Connection, open_store: OpenStore) -> None:
    stores = [open_store() for _ in range(8)]

    answers = in_parallel(8, lambda n: stores[n].queue_and_claim(PARCEL))

    [message_id] = {message_id for message_id, _ in answers}
    assert len([claim for _, claim in answers if claim]) == 1
    assert_state(db, message_id, attempt=1)


@pytest.mark.parametrize("ending", ["commit", "rollback"])
def test_a_caller_waits_for_an_open_transaction_with_the_same_key(
    db: psycopg.Connection, store: Store, database_url: str, ending: str
) -> None:
    with psycopg.connect(database_url) as application, ThreadPoolExecutor(1) as thread:
        first = one(application, "select message_id from sms_retry.queue_and_claim_sms(%s, %s, %s)", _arguments(PARCEL))
        second = thread.submit(store.queue_and_claim, PARCEL)
        wait_until_blocked(db, by=application)
        getattr(application, ending)()
        message_id, claim = second.result(timeout=10)

    assert count(db, "sms_messages") == 1
    assert (message_id == first, claim is None) == ((True, True) if ending == "commit" else (False, False))


def test_a_rollback_of_the_application_removes_its_message(db: psycopg.Connection) -> None:
    with db.transaction(force_rollback=True):
        db.execute(QUEUE_PARCEL, [number()])
    assert count(db, "sms_messages") == count(db, "sms_retry_queue") == 0


def test_a_new_message_is_due_at_once_and_expires_after_three_days(db: psycopg.Connection) -> None:
    message_id = one(db, QUEUE_PARCEL, [number()])

    assert_state(db, message_id, message="queued", queue="pending", attempt=0, retry_count=0, wait=0)
    assert_state(db, message_id, reason=None, error_code=None, provider_sid=None)
    assert one(db, "select expires_at - created_at from sms_retry.sms_messages") == timedelta(days=3)


def test_a_scheduled_message_is_not_claimed_before_its_time(db: psycopg.Connection, store: Store) -> None:
    later = datetime.now(UTC) + timedelta(hours=1)
    message_id, claim = store.queue_and_claim(Message(number(), "Later.", scheduled_for=later))
    assert claim is None
    assert store.claim_due(10) == []

    let_time_pass(db, minutes=61)
    assert [due.message_id for due in store.claim_due(10)] == [message_id]


def test_a_failed_first_send_spends_a_retry_and_waits_a_minute(db: psycopg.Connection, store: Store) -> None:
    store.queue(PARCEL, error_code=30001, error_message="Queue overflow")

    assert_state(db, message="queued", queue="pending", attempt=0, retry_count=1, wait=1)
    assert_state(db, reason="first_send_failed", error_code=30001, provider_sid=None)
    first_send = db.execute("select attempt, outcome, error_code, error_message from sms_retry.sms_attempts").fetchall()
    assert first_send == [(0, "refused", 30001, "Queue overflow")]


def test_a_failed_first_send_waits_the_first_of_its_delays(db: psycopg.Connection, store: Store) -> None:
    store.queue(PARCEL, 30003, delays=[5 * MINUTE, 10 * MINUTE])
    assert_state(db, wait=5, retry_count=1)


def test_a_failed_first_send_without_delays_fails_the_message(db: psycopg.Connection, store: Store) -> None:
    store.queue(PARCEL, 21211, delays=[])

    assert_state(db, message="failed", queue="failed", attempt=0, retry_count=0, wait=None)
    assert_state(db, reason="first_send_failed", error_code=21211, provider_sid=None)
    assert store.claim_due(10) == []


def test_a_first_wait_beyond_the_expiry_expires_the_message(db: psycopg.Connection, store: Store) -> None:
    soon = datetime.now(UTC) + timedelta(minutes=4)
    store.queue(Message(number(), "Soon.", expires_at=soon), 30003, delays=[5 * MINUTE])
    assert_state(db, message="expired", queue="expired", attempt=0, retry_count=0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"time_zone": "Eastern Time"},
        {"time_zone": "Mars/Phobos"},
        {"time_zone": "PST"},
        {"time_zone": "UTC+3"},
        {"time_zone": "Europe/Nowhere5"},
        {"time_zone": "+05:30"},
        {"time_zone": "2 hours"},
        {"message_key": ""},
        {"time_zone": ""},
        {"to_number": "0176 123"},
        {"to_number": "+0176123456"},
        {"to_number": "+49176123456789012"},
        {"to_number": "+49176123456\n"},
        {"to_number": None},
        {"body": "x" * 1601},
        {"body": ""},
        {"body": " \t\n\u00a0\u3000"},
        {"body": None},
        {"kind": "urgent"},
        {"on_unknown": "shrug"},
        {"expires_at": "infinity"},
        {"scheduled_for": "-infinity"},
        {"expires_at": "20000-01-01 00:00+00"},
    ],
    ids=str,
)
def test_a_wrong_field_is_named_and_nothing_is_stored(
    db: psycopg.Connection, store: Store, wrong: dict[str, str | None]
) -> None:
    given = {"to_number": number(), "body": "Hello."} | wrong
    names = ", ".join(f"{name} => %s" for name in given)

    with pytest.raises(psycopg.errors.InvalidParameterValue, match=next(iter(wrong)).replace("_", ".")) as refusal:
        db.execute(f"select sms_retry.queue_sms_retry({names})", list(given.values()))

    assert count(db, "sms_messages") == count(db, "sms_retry_queue") == count(db, "sms_attempts") == 0
    assert not any(private in str(refusal.value) for private in (number(), "Hello."))


def test_all_wrong_fields_are_named_in_one_error(db: psycopg.Connection) -> None:
    with pytest.raises(psycopg.errors.InvalidParameterValue) as refusal:
        db.execute(
            "select sms_retry.queue_sms_retry('1', '', kind => '?', on_unknown => '?', expires_at => 'infinity')"
        )

    for name in ("to_number", "body", "kind", "on_unknown", "expires_at"):
        assert name in str(refusal.value)


def test_the_longest_body_is_stored_unchanged(db: psycopg.Connection, store: Store) -> None:
    _, claim = store.queue_and_claim(Message(number(), "\u00e4" * 1600))
    assert claim
    assert claim.body == "\u00e4" * 1600


@pytest.mark.parametrize(
    ("code", "status", "wait"),
    [(30003, "queued", 5), (20429, "queued", 0), (20003, "queued", 5), (21211, "failed", None), (1, "failed", None)],
)
def test_a_failed_first_send_of_an_application_is_judged_like_a_failed_attempt(
    db: psycopg.Connection, store: Store, code: int, status: str, wait: int | None
) -> None:
    first_send.take_failed(store, PARCEL, intake.Failed(code, None), datetime.now(UTC))
    state = state_of(db)
    assert state.message == status
    assert (state.wait is None) == (wait is None)
    assert wait is None or wait <= (state.wait or 0) <= wait + 3
    assert count(db, "sms_holds") == 0


@pytest.mark.parametrize(("code", "retries"), [(20429, 0), (20003, 0), (30001, 1)])
def test_a_first_send_spends_a_retry_only_if_its_code_concerns_the_message(
    db: psycopg.Connection, store: Store, code: int, retries: int
) -> None:
    first_send.take_failed(store, PARCEL, intake.Failed(code, None), datetime.now(UTC))

    assert_state(db, queue="pending", retry_count=retries)
    assert store.claim_due(1) == []
    assert count(db, "sms_holds") == 0


def test_a_first_send_that_failed_for_good_fails_a_scheduled_message(db: psycopg.Connection, store: Store) -> None:
    later = replace(PARCEL, scheduled_for=datetime.now(UTC) + MINUTE)
    first_send.take_failed(store, later, intake.Failed(21211, None), datetime.now(UTC))
    assert statuses(db) == {"failed": 1}


def test_a_first_send_to_an_opted_out_person_blocks_later_messages(db: psycopg.Connection, store: Store) -> None:
    first_send.take_failed(store, PARCEL, intake.Failed(21610, None), datetime.now(UTC))
    take_in(store, message_key="another")
    assert statuses(db) == {"failed": 2}


def test_a_first_send_that_met_a_stop_concerns_the_business_of_its_sender_until_a_start(
    db: psycopg.Connection, store: Store
) -> None:
    db.execute("select sms_retry.set_sms_sender('+15005550001', business_id => 'acme')")
    refused = replace(PARCEL, business_id="acme")
    first_send.take_failed(store, refused, intake.Failed(21610, None), datetime.now(UTC))
    consents = "select array_agg((business_id, consent)::text) from sms_retry.sms_recipients"
    assert one(db, consents) == ["(acme,opted_out)"]
    assert_state(db, 1, message="failed", queue="failed")

    start = Reply("SMstart", PARCEL.to_number, "start", ("+15005550001",))
    delivery.apply_reply(store, start)
    assert one(db, consents) == ["(acme,unknown)"]


def test_a_first_send_that_is_refused_opts_nobody_out(db: psycopg.Connection, store: Store) -> None:
    take_in(store, 1, message_key="key")
    other = replace(PARCEL, message_key="key", body="Another text.")
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="message_key belongs to"):
        first_send.take_failed(store, other, intake.Failed(21610, None), datetime.now(UTC))
    assert count(db, "sms_recipients") == 0


def test_a_message_sent_by_the_application_is_logged_once(db: psycopg.Connection, store: Store) -> None:
    message_id = store.log_sent(PARCEL, sid())

    assert store.log_sent(PARCEL, sid()) == message_id
    assert_state(db, message_id, message="sent", queue="completed", attempt=0, provider_sid=sid())
    assert store.claim_due(10) == []


def test_the_sid_of_a_message_to_another_person_is_refused(db: psycopg.Connection, store: Store) -> None:
    store.log_sent(PARCEL, sid())
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="provider_sid belongs to a message with another"):
        store.log_sent(replace(PARCEL, to_number=number(2), message_key="another"), sid())
    assert count(db, "sms_messages") == 1


@pytest.mark.parametrize("force", [False, True])
def test_a_cancelled_message_cannot_be_retried(db: psycopg.Connection, store: Store, force: bool) -> None:
    message_id = store.queue(PARCEL)
    one(db, "select sms_retry.cancel_sms_retry(%s)", [message_id])

    assert operate.retry(store, "anna", message_id, force) is False
    assert_state(db, message_id, message="cancelled", queue="cancelled")
    assert store.claim_due(10) == []


def test_retry_now_makes_a_waiting_message_due(db: psycopg.Connection, store: Store) -> None:
    message_id = store.queue(PARCEL, 30003, delays=[5 * MINUTE])

    assert operate.retry(store, "anna", message_id, force=False)

    assert_state(db, wait=0, retry_count=1)
    assert store.claim_now(message_id)


def test_retry_now_gives_a_failed_message_one_more_try(db: psycopg.Connection, store: Store) -> None:
    claim = claimed(store)
    finish(store, claim, "refused", code=21211)

    assert operate.retry(store, "anna", claim.message_id, force=False)
    again = store.claim_now(claim.message_id)
    assert again

    assert again.attempt == 2
    assert finish(store, again, "refused", code=21211) == "failed"


def test_retry_now_sends_an_unknown_message_only_by_force(db: psycopg.Connection, store: Store) -> None:
    claim = unknown(store)

    assert not operate.retry(store, "anna", claim.message_id, force=False)
    assert statuses(db) == {"unknown": 1}
    assert operate.retry(store, "anna", claim.message_id, force=True)
    assert statuses(db) == {"queued": 1}


def test_retry_now_changes_no_sent_claimed_or_missing_message(db: psycopg.Connection, store: Store) -> None:
    sent, processing = accepted(store, 1), claimed(store, 2)
    for claim in (sent, processing):
        before = state_of(db, claim.message_id)
        assert not operate.retry(store, "anna", claim.message_id, force=True)
        assert state_of(db, claim.message_id) == before
    assert not operate.retry(store, "anna", 99, force=True)


def test_a_cancelled_message_is_never_sent(db: psycopg.Connection, store: Store) -> None:
    message_id = take_in(store)

    assert _cancel(db, message_id) == "cancelled"

    assert_state(db, message="cancelled", queue="cancelled")
    assert store.claim_due(10) == []


def test_a_cancelled_unknown_message_is_not_sent_again(db: psycopg.Connection, store: Store) -> None:
    claim = unknown(store)
    assert _cancel(db, claim.message_id) == "unknown"

    let_time_pass(db, minutes=31)
    assert store.release_unknown([claim.ticket]) == []
    let_time_pass(db, hours=72)
    assert store.release_unknown([claim.ticket]) == ["unknown"]


def test_a_sent_message_cannot_be_cancelled(db: psycopg.Connection, store: Store) -> None:
    assert _cancel(db, accepted(store).message_id) == "sent"
    assert _cancel(db, 99) is None


def test_a_cancelled_message_that_is_being_sent_or_was_sent_is_not_sent_again(
    db: psycopg.Connection, store: Store
) -> None:
    claim = claimed(store, 1)
    assert _cancel(db, claim.message_id) == "queued"
    finish(store, claim, "refused", code=20429, spends=False, delays=(MINUTE,))
    assert_state(db, claim.message_id, message="failed", queue="failed")

    sent = accepted(store, 2)
    assert _cancel(db, sent.message_id) == "sent"
    receipt(store, sid(2), "undelivered", 30003, delays=(MINUTE,))
    assert_state(db, sent.message_id, message="undelivered", queue="failed")


def test_a_message_that_is_scheduled_late_expires_three_days_after_its_time(
    db: psycopg.Connection, store: Store
) -> None:
    later = datetime.now(UTC) + timedelta(days=5)
    store.queue(replace(PARCEL, scheduled_for=later))
    store.queue_many(json.dumps([{"to": number(2), "body": "Hello.", "scheduled_for": later.isoformat()}]), None)
    expiries = "select array_agg(expires_at) from sms_retry.sms_messages"
    assert one(db, expiries) == [later + timedelta(days=3)] * 2


def test_every_zone_that_python_and_the_database_know_is_taken(db: psycopg.Connection) -> None:
    known = db.execute("select name from pg_timezone_names").fetchall()
    # Debian adds a link to the zone of the machine, which is no name of the list.
    both = sorted(available_timezones() & {name for (name,) in known} - {"localtime"})
    refused = "select array_agg(name) from unnest(%s::text[]) name where not sms_retry.sms_zone_is_known(name)"
    assert len(both) > 400
    assert one(db, refused, [both]) is None


def test_a_message_that_is_removed_while_its_key_is_queued_again_is_an_error(db: psycopg.Connection) -> None:
    db.execute(
        """create function pg_temp.stores_nothing() returns trigger language plpgsql as 'begin return null; end';
        create trigger stores_nothing before insert on sms_retry.sms_messages
        for each row execute function pg_temp.stores_nothing()"""
    )
    try:
        with pytest.raises(psycopg.errors.SerializationFailure, match="was removed meanwhile: queue it again"):
            db.execute("select sms_retry.queue_sms_retry('+4917612345678', 'Hello.', message_key => 'k')")
    finally:
        db.execute("drop trigger stores_nothing on sms_retry.sms_messages")


def _cancel(db: psycopg.Connection, message_id: int) -> str | None:
    status: str | None = one(db, "select sms_retry.cancel_sms_retry(%s)", [message_id])
    return status


def _arguments(message: Message) -> list[str | None]:
    return [message.to_number, message.body, message.message_key]
