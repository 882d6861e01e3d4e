"""One person has one spelling, at every entry and in every action. An impossible number costs one message."""

from __future__ import annotations

from datetime import timedelta

import psycopg
import pytest

from local.twilio.stand_in import ACCOUNT_SID, AUTH_TOKEN, Accept, Reset, TwilioStandIn
from local.waiting import let_time_pass
from sms_retry import intake, listing, reconcile, worker
from sms_retry.store import Store
from sms_retry.twilio import Credentials, Send
from sms_retry.values import Hold, Message
from tests.integration.examples import assert_state, count, fill, five_minutes_left, one, statuses

# Each number with the trunk prefix of its country, and its one spelling.
SPELLINGS = {
    "+4407700900123": "+447700900123",
    "+49017612345678": "+4917612345678",
    "+330631966543": "+33631966543",
    "+610403745123": "+61403745123",
    "+114155550123": "+14155550123",
    "+310612345678": "+31612345678",
    "+8109012345678": "+819012345678",
}
IMPOSSIBLE = ["+2105551234", "+999123456789", "+12", "+44", "+8001", "+1415555", "07700900123", "+44 7700 900123", ""]

each_spelling = pytest.mark.parametrize(("other", "person"), SPELLINGS.items())


def queue_by_sql(db: psycopg.Connection, to_number: str, **given: str) -> int:
    fields = {"to_number": to_number, "body": "Your parcel is here.", "kind": "otp", **given}
    arguments = ", ".join(f"{name} => %s" for name in fields)
    return int(one(db, f"select sms_retry.queue_sms_retry({arguments})", list(fields.values())))


def to_numbers(db: psycopg.Connection) -> list[str]:
    return [number for (number,) in db.execute("select to_number from sms_retry.sms_messages order by id")]


def store_impossible(db: psycopg.Connection, number: str, kind: str = "transactional") -> None:
    """A row as release 0.1 took it in."""
    db.execute(
        """with message as (
            insert into sms_retry.sms_messages (business_id, to_number, body, kind, on_unknown, expires_at, status)
            values ('default', %s, 'Hello.', %s, 'resend', now() + interval '3 days', 'queued') returning id)
        insert into sms_retry.sms_retry_queue (message_id, status, scheduled_for)
        select id, 'pending', now() - interval '1 hour' from message""",
        [number, kind],
    )


@each_spelling
def test_both_entries_store_the_one_spelling(db: psycopg.Connection, store: Store, other: str, person: str) -> None:
    message, _ = intake.read({"to": other, "body": "Hello."})
    assert message.to_number == person
    queue_by_sql(db, other)
    store.queue_and_claim(Message(other, "Hello."))
    store.log_sent(Message(other, "Hello."), "SM1")
    assert to_numbers(db) == [person] * 3


@pytest.mark.parametrize("number", IMPOSSIBLE)
def test_both_entries_refuse_an_impossible_number_and_do_not_repeat_it(db: psycopg.Connection, number: str) -> None:
    with pytest.raises(intake.InvalidEvent, match="nothing was stored: to must be a phone number"):
        intake.read({"to": number, "body": "Hello."})
    for function in ("queue_sms_retry", "queue_and_claim_sms"):
        with pytest.raises(psycopg.errors.InvalidParameterValue) as refused:
            db.execute(f"select sms_retry.{function}(%s, 'Hello.')", [number])
        sentence = "nothing was stored: to_number must be a phone number in E.164, such as +14155550123"
        assert refused.value.diag.message_primary == sentence
    assert count(db, "sms_messages") == 0


def test_a_consent_for_an_impossible_number_is_refused(db: psycopg.Connection) -> None:
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="nothing was stored: phone_number must be"):
        db.execute("select sms_retry.set_sms_consent('*', '07700900123', 'opted_out')")


@each_spelling
def test_a_stop_ends_what_waits_under_another_spelling(
    db: psycopg.Connection, store: Store, other: str, person: str
) -> None:
    first, second = queue_by_sql(db, other), queue_by_sql(db, person)
    assert store.set_consent("*", person, "opted_out") == 2
    for message_id in (first, second, queue_by_sql(db, other)):
        assert_state(db, message_id, message="failed", reason="opted_out")


@each_spelling
def test_a_limit_of_one_a_day_counts_every_spelling(
    db: psycopg.Connection, store: Store, stand_in: TwilioStandIn, send: Send, other: str, person: str
) -> None:
    db.execute("insert into sms_retry.sms_limits values ('*', 1)")
    queue_by_sql(db, other)
    queue_by_sql(db, person)
    assert worker.drain(store, send, five_minutes_left, concurrency=2).success == 1
    assert [message.to for message in stand_in.accepted()] == [person]


@each_spelling
def test_an_unknown_message_is_found_in_twilios_list_and_not_sent_again(
    db: psycopg.Connection, store: Store, stand_in: TwilioStandIn, send: Send, other: str, person: str
) -> None:
    stand_in.plan(person, Reset(Accept()))
    queue_by_sql(db, other)
    assert worker.drain(store, send, five_minutes_left, concurrency=2).unknown == 1
    for _ in range(3):
        let_time_pass(db, minutes=31)
        ask_twilio(store, stand_in)
        worker.drain(store, send, five_minutes_left, concurrency=2)
    assert len(stand_in.accepted()) == 1
    assert_state(db, message="sent")


def ask_twilio(store: Store, stand_in: TwilioStandIn) -> None:
    with listing.open_listing(Credentials(ACCOUNT_SID, AUTH_TOKEN), stand_in.url) as (sent_to, look_up):
        reconcile.reconcile(store, sent_to, look_up, lambda receipt: None, five_minutes_left)


def test_every_action_meets_the_person_by_another_spelling(db: psycopg.Connection, store: Store) -> None:
    other, person = "+4407700900123", "+447700900123"
    message_id = queue_by_sql(db, person)

    store.set_hold(Hold("recipient", other, timedelta(hours=1), "by hand"))
    assert one(db, "select key from sms_retry.sms_holds") == person
    assert one(db, "select sms_retry.close_sms_hold('recipient', %s)", [other])
    assert count(db, "sms_holds") == 0

    assert [(found.message_id, found.found_by) for found in store.found("?", other)] == [(message_id, "number")]
    store.set_consent("shop", other, "opted_in")
    assert one(db, "select phone_number from sms_retry.sms_recipients") == person
    assert one(db, "select sms_retry.erase_sms_recipient(%s)", [other])["messages"] == 1
    assert count(db, "sms_messages") == count(db, "sms_recipients") == 0


@pytest.mark.parametrize("kind", ["transactional", "marketing", "otp", "emergency"])
def test_a_row_with_an_impossible_number_ends_at_its_claim(
    db: psycopg.Connection,
    store: Store,
    stand_in: TwilioStandIn,
    send: Send,
    kind: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    store_impossible(db, "+2105551234", kind)
    with caplog.at_level("INFO", "sms-retry"):
        tally = worker.drain(store, send, five_minutes_left, concurrency=2)
    assert (tally.processed, tally.failed, tally.invalid, tally.broken) == (1, 1, 1, 0)
    assert_state(db, message="failed", queue="failed", reason="invalid_number", attempt=1, retry_count=0)
    assert count(db, "sms_attempts") == len(stand_in.posts()) == 0
    [line] = caplog.records
    assert (line.getMessage(), line.__dict__["ticket"]) == ("not_sent", "1-1")
    assert "2105551234" not in str(line.__dict__)


def test_a_person_with_an_impossible_number_can_be_erased_and_found(db: psycopg.Connection, store: Store) -> None:
    store_impossible(db, "+2105551234")
    assert [found.found_by for found in store.found("+2105551234", "+2105551234")] == ["number"]
    assert one(db, "select sms_retry.erase_sms_recipient('+2105551234')")["messages"] == 1


def test_a_probe_with_an_impossible_number_leaves_the_probe_to_the_next_message(
    db: psycopg.Connection, store: Store, stand_in: TwilioStandIn, send: Send
) -> None:
    store_impossible(db, "+2105551234")
    fill(db, 1, due="now() - interval '1 minute'")
    store.set_hold(Hold("account", "*", timedelta(minutes=1), "error_20003"))
    let_time_pass(db, minutes=2)
    for _ in range(2):
        worker.drain(store, send, five_minutes_left, concurrency=2)
    assert len(stand_in.accepted()) == 1
    assert count(db, "sms_holds") == 0


def test_fifty_impossible_numbers_among_a_thousand_messages_cost_no_tick(
    db: psycopg.Connection, store: Store, stand_in: TwilioStandIn, send: Send
) -> None:
    for n in range(50):
        store_impossible(db, f"+9991234567{n:02}")
    fill(db, 1000)
    tally = worker.drain(store, send, five_minutes_left, concurrency=20)
    assert (tally.processed, tally.success, tally.failed) == (1050, 1000, 50)
    assert statuses(db) == {"sent": 1000, "failed": 50}
    assert len(stand_in.accepted()) == 1000
