"""Sending hours: an operator's lines, the refusal at the entry, the end at a worker, and zones of the database."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from local.twilio.stand_in import TwilioStandIn
from sms_retry import entry, worker
from sms_retry.attempt import Deferred, Go, before_sending
from sms_retry.hours import release_hours
from sms_retry.intake import InvalidEvent
from sms_retry.store import Overrides, Store
from sms_retry.twilio import Send
from sms_retry.values import Message
from tests.integration.examples import count, five_minutes_left, one, state_of

NOBODY = Overrides([], [])
CLOSED = "('DE', 'transactional', '', '', '', 'open', 'our lawyer')"
GERMAN = Message("+4915112345678", "Your table is ready.")
SPANISH = "+34612345678"
# 20 minutes to nine on a Monday evening in Berlin.
EVENING = datetime(2026, 11, 23, 19, 40, tzinfo=UTC)
MORNING = "2026-11-24T07:00+00:00"


def override(db: psycopg.Connection, line: str) -> None:
    db.execute(f"insert into sms_retry.sms_hours_overrides values {line}")


def refusal(store: Store, message: Message, now: datetime = EVENING, overrides: Overrides = NOBODY) -> str | None:
    try:
        entry.check_hours(store, message, overrides, now)
    except InvalidEvent as refused:
        return str(refused)
    return None


def test_an_operators_line_holds_at_the_next_run(
    db: psycopg.Connection, store: Store, stand_in: TwilioStandIn, send: Send
) -> None:
    noon = f"Etc/GMT{datetime.now(UTC).hour - 12:+d}"
    first, second = (store.queue(replace(GERMAN, to_number=to, time_zone=noon)) for to in (GERMAN.to_number, SPANISH))
    override(db, CLOSED)

    tally = worker.drain(store, send, five_minutes_left, concurrency=2)

    assert (tally.success, tally.failed) == (1, 1)
    assert state_of(db, first)[:2] == ("expired", "expired")
    assert state_of(db, first).reason == "no_sending_hours"
    assert state_of(db, second).message == "sent"


def test_the_overrides_of_codes_and_of_hours_are_read_together(db: psycopg.Connection, store: Store) -> None:
    assert store.all_overrides() == NOBODY
    override(db, CLOSED)
    db.execute(
        "insert into sms_retry.sms_error_overrides (code, verdict, strategy, base_seconds, retries, reason)"
        " values (30003, 'retry', 'linear', 60, 2, 'x')"
    )
    given = store.all_overrides()
    assert given.hours == [("DE", "transactional", "", "", "", "open", "our lawyer")]
    assert [tuple(row) for row in given.codes] == [tuple(row) for row in store.overrides()]


@pytest.mark.parametrize(
    "line",
    [
        "('Texas', 'marketing', '08:00-20:00', '', '', 'open', 'x')",
        "('US-TX', 'otp', '08:00-20:00', '', '', 'open', 'x')",
        "('US-TX', 'marketing', '8-20', '', '', 'open', 'x')",
        "('US-TX', 'marketing', '08:00-24:00', '', '', 'open', 'x')",
        "('US-TX', 'marketing', '08:00-20:00', 'closed', '', 'open', 'x')",
        "('US-TX', 'marketing', '08:00-20:00', '', '', 'sometimes', 'x')",
    ],
)
def test_a_line_that_python_cannot_read_cannot_be_stored(db: psycopg.Connection, line: str) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        override(db, line)


def test_a_message_that_finds_no_hours_before_it_expires_is_refused_at_the_entry(store: Store) -> None:
    late = Message(**_fields(kind="transactional", expires_at=EVENING + timedelta(hours=8)))
    assert refusal(store, late) is None, "20 minutes are left this evening"
    night = EVENING + timedelta(minutes=20)
    said = refusal(store, late, night)
    assert said
    assert said.startswith(
        "nothing was stored: expires_at is too early: the recipient's sending hours for transactional"
    )
    assert MORNING in said
    assert GERMAN.to_number not in said


@pytest.mark.parametrize(
    "fields",
    [
        {"expires_at": EVENING + timedelta(hours=12)},
        {"expires_at": None},
        {"kind": "otp"},
        {"kind": "emergency"},
        {"time_zone": "America/New_York"},
        # It has expired already: the entry stores it and its state says so.
        {"expires_at": EVENING},
    ],
)
def test_a_message_with_hours_before_it_expires_is_not_refused(store: Store, fields: dict[str, object]) -> None:
    given = {"expires_at": EVENING + timedelta(hours=8), **fields}
    assert refusal(store, Message(**_fields(**given)), EVENING + timedelta(minutes=30)) is None


def test_a_scheduled_message_is_judged_from_its_time_on(store: Store) -> None:
    midnight = EVENING + timedelta(hours=4)
    fields = _fields(scheduled_for=midnight, expires_at=midnight + timedelta(hours=2))
    assert MORNING in (refusal(store, Message(**fields), EVENING - timedelta(hours=5)) or "")


def test_the_recipients_stored_zone_counts_at_the_entry(db: psycopg.Connection, store: Store) -> None:
    night = Message(**_fields(expires_at=EVENING + timedelta(hours=8)))
    db.execute(
        "insert into sms_retry.sms_recipients (business_id, phone_number, time_zone)"
        " values ('*', %s, 'America/New_York')",
        [GERMAN.to_number],
    )
    assert refusal(store, night, EVENING + timedelta(minutes=30)) is None


def test_a_message_that_is_stored_already_is_not_refused(store: Store) -> None:
    night = Message(**_fields(message_key="table-1", expires_at=EVENING + timedelta(hours=8)))
    assert refusal(store, night, EVENING + timedelta(minutes=30))
    store.queue(night)
    assert refusal(store, night, EVENING + timedelta(minutes=30)) is None


def test_a_stated_state_precedes_that_of_the_number(db: psycopg.Connection, store: Store) -> None:
    texan = "+12145550123"
    db.execute(
        "insert into sms_retry.sms_recipients (business_id, phone_number, consent, region)"
        " values ('*', %s, 'opted_in', 'US-FL'), ('shop', %s, 'opted_in', 'US-RI')",
        [texan, texan],
    )
    message = Message(texan, "Half price.", kind="marketing")
    claims = [store.queue_and_claim(message)[1], store.claim_now(store.queue(replace(message, business_id="shop")))]
    store.queue(replace(message, to_number="+12145550124", kind="otp"))
    claims += store.claim_due(10)
    assert [claim and claim.recipient_region for claim in claims] == ["US-FL", "US-RI", None]
    assert claims[0]
    # Half past eight on a Monday evening: open in Texas, and closed in Florida.
    now = datetime(2026, 11, 24, 2, 30, tzinfo=UTC)
    florida = claims[0]._replace(claimed_at=now, expires_at=now + timedelta(days=3))
    texas = florida._replace(recipient_region=None)
    assert isinstance(before_sending(florida, now, release_hours()), Deferred)
    assert isinstance(before_sending(texas, now, release_hours()), Go)


def test_erasing_a_person_who_opted_out_removes_the_region(db: psycopg.Connection) -> None:
    db.execute(
        "insert into sms_retry.sms_recipients (business_id, phone_number, consent, region)"
        " values ('*', '+12145550123', 'opted_out', 'US-FL')"
    )
    db.execute("select sms_retry.erase_sms_recipient('+12145550123')")
    assert one(db, "select (consent, region)::text from sms_retry.sms_recipients") == "(opted_out,)"


@pytest.mark.parametrize("region", ["Florida", "us-fl", "US-", ""])
def test_a_misspelled_region_cannot_be_stored(db: psycopg.Connection, region: str) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        db.execute(
            "insert into sms_retry.sms_recipients (business_id, phone_number, region) values ('*', '+14155550123', %s)",
            [region],
        )


def test_messages_are_claimed_after_the_migrator_of_release_0_1_removed_the_new_functions(
    db: psycopg.Connection, store: Store
) -> None:
    names = (
        "claim_sms(int, timestamptz)",
        "claim_one_sms(bigint)",
        "sms_overrides()",
        "sms_known_before(text, text, text)",
    )
    texts = [one(db, f"select pg_get_functiondef('sms_retry.{name}'::regprocedure)") for name in names]
    try:
        for name in names:
            db.execute(f"drop function sms_retry.{name}")
        first = store.claim_now(store.queue(replace(GERMAN, kind="otp")))
        store.queue(replace(GERMAN, kind="otp"))
        claims = [first, *store.claim_due(10)]
        assert [claim and (claim.attempt, claim.recipient_region) for claim in claims] == [(1, None), (1, None)]
        # Hours and keys cannot be checked, so the entry refuses nothing.
        override(db, CLOSED)
        assert store.all_overrides() == NOBODY
        assert store.known_before(GERMAN) is None
    finally:
        for text in texts:
            db.execute(text)


def test_an_operators_line_counts_at_the_entry(store: Store) -> None:
    closed = Overrides([], [("DE", "transactional", "", "", "", "open", "our lawyer")])
    said = refusal(store, GERMAN, overrides=closed)
    assert said
    assert "stay closed for 14 days" in said


def test_a_zone_that_the_database_does_not_know_is_named_in_the_refusal(db: psycopg.Connection, store: Store) -> None:
    with pytest.raises(psycopg.errors.InvalidParameterValue) as refused:
        store.queue(Message(**_fields(time_zone="Mars/Olympus")))
    assert refused.value.diag.message_primary == (
        "nothing was stored: time_zone must be an IANA time zone that this database knows, such as America/New_York"
    )
    assert count(db, "sms_messages") == 0
    assert one(db, "select sms_retry.queue_sms_retry('+4915112345678', 'Hello.', time_zone => 'Europe/Berlin')") == 1


def _fields(**fields: object) -> dict[str, object]:
    return {"to_number": GERMAN.to_number, "body": GERMAN.body, **fields}
