"""The repairs bring the rows of earlier releases to the rules of this one, once."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from local.postgres.server import Server
from local.twilio.stand_in import TwilioStandIn
from sms_retry import worker
from sms_retry.migrate import migrate, sql_folder
from sms_retry.store import Store
from sms_retry.twilio import Send
from tests import released
from tests.integration.examples import five_minutes_left, one, statuses
from tests.integration.test_numbers import examples

DATABASES = count(1)
NUMBERS = {
    "+4407700900123": "+447700900123",
    "+447700900123": "+447700900123",
    "+49017612345678": "+4917612345678",
    "+330631966543": "+33631966543",
    "+610403745123": "+61403745123",
    "+114155550123": "+14155550123",
    "+310612345678": "+31612345678",
    "+8109012345678": "+819012345678",
    "+54111523456789": "+5491123456789",
    # The zero belongs to this number, and this one is impossible.
    "+390612345678": "+390612345678",
    "+2105551234": "+2105551234",
}
REPAIRS = ("repairs/0001_numbers", "repairs/0002_holds", "repairs/0003_lanes", "repairs/0004_numbers_of_ended")
OTHER, PERSON = "+4407700900123", "+447700900123"


@pytest.fixture
def old(server: Server, worker_id: str, tmp_path: Path) -> Iterator[str]:
    """A database of release 0.1."""
    name = f"repaired_{worker_id}_{next(DATABASES)}"
    url = server.create_database(name)
    released.migrate("0.1.0", url, tmp_path)
    yield url
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


@pytest.fixture
def db(old: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(old, autocommit=True) as connection:
        yield connection


def consents(db: psycopg.Connection) -> list[tuple[str, ...]]:
    return db.execute(
        """select business_id, phone_number, consent,
            to_char(consent_changed_at at time zone 'UTC', 'YYYY-MM-DD'), time_zone
        from sms_retry.sms_recipients order by 2, 1"""
    ).fetchall()


def know(db: psycopg.Connection, business: str, number: str, consent: str, day: str, zone: str | None = None) -> None:
    db.execute(
        "insert into sms_retry.sms_recipients values (%s, %s, %s, %s::date + time '12:00' at time zone 'UTC', %s)",
        [business, number, consent, day, zone],
    )


def test_messages_of_release_01_get_the_one_spelling(old: str, db: psycopg.Connection) -> None:
    for number in NUMBERS:
        db.execute("select sms_retry.queue_sms_retry(%s, 'Hello.')", [number])

    assert migrate(old).repairs == REPAIRS

    rows = db.execute("select to_number from sms_retry.sms_messages order by id").fetchall()
    assert [number for (number,) in rows] == list(NUMBERS.values())
    assert migrate(old).repairs == ()


def test_messages_of_release_01_get_their_lanes(old: str, db: psycopg.Connection) -> None:
    db.execute("insert into sms_retry.sms_recipients values ('*', '+4917600000002', 'opted_in', now())")
    queue = "select sms_retry.queue_sms_retry(%s, 'Hello.', kind => %s, business_id => %s)"
    for n, kind in enumerate(("otp", "transactional", "marketing", "emergency")):
        for business in ("a", "b", "c"):
            db.execute(queue, ["+4917600000002" if kind == "marketing" else f"+4917600001{n}0", kind, business])

    migrate(old)

    lanes = "select count(*) from sms_retry.sms_retry_queue q join sms_retry.sms_messages m on m.id = q.message_id"
    wrong = "q.lane <> sms_retry.sms_lane(m.kind, m.business_id, m.sender, false)"
    assert one(db, f"{lanes} where {wrong}") == 0
    kinds = db.execute("select kind from sms_retry.claim_sms(12)").fetchall()
    assert {kind for (kind,) in kinds[:6]} == {"otp", "emergency"}
    assert {kind for (kind,) in kinds[9:]} == {"marketing"}


def test_later_repairs_that_find_no_time_continue_at_the_next_run(
    old: str, db: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    db.execute(f"select sms_retry.queue_sms_retry('{OTHER}', 'Hello.') from generate_series(1, 5001)")
    monkeypatch.setattr("sms_retry.migrate.PART", 1_000)
    monkeypatch.setattr("sms_retry.migrate.LATER", 0)
    assert migrate(old).repairs == REPAIRS[:2]
    monkeypatch.setattr("sms_retry.migrate.LATER", 60)
    assert migrate(old).repairs == REPAIRS[2:]
    lane = "sms_retry.sms_lane('transactional', 'default', null, false)"
    assert one(db, f"select count(*) from sms_retry.sms_retry_queue where lane <> {lane}") == 0
    assert migrate(old).repairs == ()


@pytest.mark.parametrize("again", ["requeue_failed_sms(21211, now() - interval '1 day')", "retry_sms_now(1)"])
def test_a_failed_message_that_is_sent_again_before_its_repair_meets_the_opt_out(
    old: str, db: psycopg.Connection, monkeypatch: pytest.MonkeyPatch, again: str
) -> None:
    db.execute("select sms_retry.queue_sms_retry(%s, 'Hello.', error_code => 21211, delays => '{}')", [OTHER])
    monkeypatch.setattr("sms_retry.migrate.LATER", 0)
    migrate(old)
    know(db, "*", PERSON, "opted_out", "2026-01-01")
    db.execute(f"select sms_retry.{again}")
    assert one(db, "select consent from sms_retry.claim_sms(1)") == "opted_out"


def test_a_later_repair_that_waits_for_a_lock_ends_in_time(
    old: str, db: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    db.execute("select sms_retry.queue_sms_retry(%s, 'Hello.', error_code => 21211, delays => '{}')", [OTHER])
    monkeypatch.setattr("sms_retry.migrate.LATER", 0)
    migrate(old)
    monkeypatch.setattr("sms_retry.migrate.LATER", 1)
    monkeypatch.setattr("sms_retry.migrate.LOCK_TIMEOUT", "100ms")
    with psycopg.connect(old) as traffic:
        traffic.execute("select from sms_retry.sms_messages for update")
        assert migrate(old).repairs == ("repairs/0003_lanes",)
    assert migrate(old).repairs == ("repairs/0004_numbers_of_ended",)


def test_a_later_repair_does_not_wait_for_a_row_that_traffic_has_locked(old: str, db: psycopg.Connection) -> None:
    for number in (OTHER, PERSON):
        db.execute("select sms_retry.queue_sms_retry(%s, 'Hello.')", [number])
    lanes = (sql_folder() / "repairs/later/0003_lanes.sql").read_text()
    migrate(old)
    db.execute("update sms_retry.sms_retry_queue set lane = hashtext('default')")
    with psycopg.connect(old) as worker_of_01:
        worker_of_01.execute("select from sms_retry.sms_retry_queue where id = 1 for update")
        assert db.execute(lanes, {"after": 0, "upto": 9}).rowcount == 1


def test_a_call_of_release_01_that_is_under_way_ends_as_it_began(old: str, db: psycopg.Connection) -> None:
    """It has the body of release 0.1, and calls the functions that the migration leaves."""
    entry = "select pg_get_functiondef(oid) from pg_proc where proname = 'queue_sms_retry'"
    under_way = one(db, entry).replace(".queue_sms_retry(", ".under_way(").replace("queue_sms_retry.", "under_way.")
    migrate(old)
    db.execute(under_way)
    assert one(db, "select sms_retry.under_way(%s, 'Hello.')", [PERSON]) == 1


def test_every_number_with_a_second_spelling_is_found(old: str, db: psycopg.Connection) -> None:
    given = {f"+{code}{trunk}{national}"[:16] for code, trunk, national in examples()}
    db.execute(
        """insert into sms_retry.sms_messages (business_id, to_number, body, kind, on_unknown, expires_at, status)
        select 'default', n, 'Hello.', 'otp', 'resend', now(), 'failed' from unnest(%s::text[]) n""",
        [sorted(given)],
    )
    migrate(old)
    assert (
        one(db, "select count(*) from sms_retry.sms_messages where sms_retry.sms_number(to_number) <> to_number") == 0
    )
    assert one(db, "select count(*) from sms_retry.sms_messages where to_number <> all (%s)", [list(given)]) > 500


def test_of_the_consents_of_one_person_a_refusal_stays(old: str, db: psycopg.Connection) -> None:
    know(db, "*", OTHER, "opted_out", "2026-01-01")
    know(db, "*", PERSON, "opted_in", "2026-05-05", "Europe/London")
    know(db, "shop", OTHER, "opted_in", "2026-03-03")
    know(db, "shop", PERSON, "opted_in", "2026-02-02")
    know(db, "bank", OTHER, "unknown", "2026-03-03")
    know(db, "bank", PERSON, "opted_in", "2026-02-02")
    know(db, "gym", OTHER, "opted_out", "2026-04-04")
    know(db, "*", "+390612345678", "opted_out", "2026-01-01")
    know(db, "*", "rcs:+14155550123", "opted_out", "2026-01-01")

    migrate(old)

    assert consents(db) == [
        ("*", "+390612345678", "opted_out", "2026-01-01", None),
        ("*", PERSON, "opted_out", "2026-01-01", "Europe/London"),
        ("bank", PERSON, "opted_in", "2026-02-02", None),
        ("gym", PERSON, "opted_out", "2026-04-04", None),
        ("shop", PERSON, "opted_in", "2026-03-03", None),
        ("*", "rcs:+14155550123", "opted_out", "2026-01-01", None),
    ]


def test_of_the_holds_on_one_person_the_longest_stays(old: str, db: psycopg.Connection) -> None:
    for scope, key, hours in (
        ("recipient", OTHER, 5),
        ("recipient", PERSON, 2),
        ("recipient", "+330631966543", 3),
        ("country", "+440", 4),
        ("account", "*", 1),
    ):
        db.execute("select sms_retry.open_sms_hold(%s, %s, make_interval(hours => %s), 'by hand')", [scope, key, hours])

    migrate(old)

    holds = db.execute("select scope, key, extract(hour from wait)::int from sms_retry.sms_holds order by 3").fetchall()
    assert holds == [
        ("account", "*", 1),
        ("recipient", "+33631966543", 3),
        ("country", "+440", 4),
        ("recipient", PERSON, 5),
    ]


def test_a_message_that_waited_under_another_spelling_meets_the_opt_out(
    old: str, db: psycopg.Connection, stand_in: TwilioStandIn, send: Send
) -> None:
    know(db, "*", PERSON, "opted_out", "2026-01-01")
    db.execute("select sms_retry.queue_sms_retry(%s, 'Hello.', kind => 'otp')", [OTHER])
    migrate(old)
    store = Store(lambda: old)
    worker.drain(store, send, five_minutes_left, concurrency=2)
    store.close()
    assert statuses(db) == {"failed": 1}
    assert not stand_in.posts()


def test_a_rollback_and_a_second_upgrade_repair_what_release_01_wrote_meanwhile(
    old: str, db: psycopg.Connection, tmp_path: Path
) -> None:
    migrate(old)
    released.migrate("0.1.0", old, tmp_path)
    db.execute("select sms_retry.queue_sms_retry(%s, 'Hello.')", [OTHER])

    assert migrate(old).repairs == REPAIRS
    assert one(db, "select to_number from sms_retry.sms_messages") == PERSON


def test_the_repair_passes_quickly_over_numbers_that_have_one_spelling(old: str, db: psycopg.Connection) -> None:
    """The regular expression takes half of the time of a call of sms_number for each row."""
    db.execute(
        """insert into sms_retry.sms_messages (business_id, to_number, body, kind, on_unknown, expires_at, status)
        select 'default', '+4917' || lpad(n::text, 8, '0'), 'Hello.', 'otp', 'resend', now(), 'failed'
        from generate_series(1, 20000) n"""
    )
    migrate(old)
    calls = "select sum(calls)::int from pg_stat_user_functions where funcname = 'sms_number'"
    with psycopg.connect(old) as tracked:
        tracked.execute("set track_functions = 'all'")
        tracked.execute((sql_folder() / "repairs/0001_numbers.sql").read_text())
        counted = one(tracked, calls.replace("pg_stat_user", "pg_stat_xact_user"))
    assert (counted or 0) == 0
