"""Both moves, with a thousand messages in every state: none is sent twice, none is lost, and consents are kept."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

import psycopg
import pytest

from local.twilio.stand_in import ACCOUNT_SID, AUTH_TOKEN, Accept, Callbacks, TwilioStandIn
from local.waiting import let_time_pass
from sms_retry import delivery, listing, reconcile, worker
from sms_retry.store import Store
from sms_retry.twilio import Credentials, Send
from tests.integration.examples import number, one
from tests.moving import old_service
from tests.moving.old_service import PERSONS, ROOT, STATES, accepted, move, state_of_person

# Minutes after the move at which the functions run.
MINUTES = (1, 6, 11, 21, 31, 36, 41, 61, 81, 120, 180, 240, 720, 780, 1440)
WAITING = ("waiting", "in flight", "timeout")
PSQL = shutil.which("psql")


@dataclass(frozen=True)
class Old:
    """One of the services that move, and the business of its consents here."""

    name: str
    fill: old_service.Fill
    consents: str


CELERY = Old("celery", old_service.fill_celery, "*")
CRON = Old("cron", old_service.fill_cron, "7")


@contextmanager
def tables_of(db: psycopg.Connection, old: Old) -> Iterator[Old]:
    """The empty tables of an old service, beside those of this one."""
    schema = (ROOT / "tests" / "moving" / f"{old.name}_tables.sql").read_text()
    tables = ", ".join(re.findall(r"create table (\S+)", schema))
    db.execute(f"drop table if exists {tables} cascade")
    db.execute(schema)
    yield old
    db.execute(f"drop table {tables} cascade")


@pytest.fixture(params=[CELERY, CRON], ids=["celery", "cron"])
def old(request: pytest.FixtureRequest, db: psycopg.Connection) -> Iterator[Old]:
    with tables_of(db, request.param) as old:
        yield old


@pytest.fixture
def old_celery(db: psycopg.Connection) -> Iterator[None]:
    with tables_of(db, CELERY):
        yield


@pytest.fixture
def old_cron(db: psycopg.Connection) -> Iterator[None]:
    with tables_of(db, CRON):
        yield


@pytest.fixture
def to_the_end(db: psycopg.Connection, store: Store, stand_in: TwilioStandIn, send: Send) -> Callable[[], None]:
    """Runs the worker and `reconcile` for a day. All receipts are lost, so that Twilio is asked for each status."""
    stand_in.behave(default=lambda to, nth: Accept(callbacks=Callbacks(lost=1)))
    record = partial(delivery.record, store, now=datetime.now(UTC))

    def run() -> None:
        # An otp ignores the sending hours, so that the test does not depend on the time of day.
        db.execute("update sms_retry.sms_messages set kind = 'otp'")
        last = 0
        with listing.open_listing(Credentials(ACCOUNT_SID, AUTH_TOKEN), stand_in.url) as (sent_to, look_up):
            for minute in MINUTES:
                let_time_pass(db, minutes=minute - last)
                stand_in.let_time_pass(60.0 * (minute - last))
                last = minute
                worker.drain(store, send, lambda: 300.0, concurrency=20)
                stand_in.deliver_callbacks()
                reconcile.reconcile(store, sent_to, look_up, record, lambda: 300.0)

    return run


def test_no_message_is_sent_twice_none_is_lost_and_consents_are_kept(
    db: psycopg.Connection, stand_in: TwilioStandIn, old: Old, to_the_end: Callable[[], None]
) -> None:
    old_service.run_old_service(db, stand_in, old.fill)
    results = move(db, f"{old.name}.sql")
    assert {result for _, result, _ in results} == {"moved"}
    assert sum(count for kind, _, count in results if kind in ("waiting", "in flight")) == sum(
        state_of_person(n).queue in WAITING for n in range(1, PERSONS + 1)
    )
    # A second run finds nothing that a person or Twilio would notice.
    assert {kind for kind, _, _ in move(db, f"{old.name}.sql")} <= {"SID"}

    to_the_end()

    sent = Counter[tuple[str, int]]()
    for n, count in enumerate(accepted(stand_in), 1):
        sent[state_of_person(n).name, count] += 1
    assert set(sent) == {(state.name, state.wanted) for state in STATES}
    assert ends(db) == {(state.name, state.ends) for state in STATES}
    assert consents(db, old.consents) == {(state.name, state.consent) for state in STATES}


def ends(db: psycopg.Connection) -> set[tuple[str, str]]:
    """The states of the old service, with the status of their messages here."""
    rows = db.execute("select to_number, status from sms_retry.sms_messages").fetchall()
    return {(state_of_person(int(to[-8:])).name, status) for to, status in rows}


def consents(db: psycopg.Connection, business: str) -> set[tuple[str, bool | None]]:
    rows = db.execute(
        """select phone_number, case consent when 'opted_in' then true when 'opted_out' then false end
        from sms_retry.sms_recipients where business_id = %s and time_zone = 'Europe/Berlin'""",
        [business],
    ).fetchall()
    assert len(rows) == PERSONS
    return {(state_of_person(int(to[-8:])).name, consent) for to, consent in rows}


def test_both_services_run_together_for_a_week(
    db: psycopg.Connection, store: Store, stand_in: TwilioStandIn, to_the_end: Callable[[], None], old_celery: None
) -> None:
    """A failure of the old service reaches this one after its SID. Opt-outs go both ways."""
    person = celery_person(db, 1)
    sid = old_service.post(stand_in, 1, old_service.IS_LOST)
    insert = partial(old_service.insert, db, user_id=person, phone_number=number(1), message=old_service.text(1))
    insert("sms_usage_logs", message_sid=sid, status="sent")
    assert move(db, "celery.sql") == [("SID", "moved", 1)]

    insert("sms_retry_queue", message_sid=sid, status="pending", error_code="30003")
    celery_person(db, 2, sms_enabled=False)
    store.set_consent("*", number(3), "opted_out")
    back = celery_person(db, 3, sms_enabled=True)
    assert move(db, "celery.sql") == [("opt-out", "moved", 1), ("waiting", "moved", 1)]
    assert move(db, "celery.sql") == []
    assert one(db, "select sms_enabled from public.users where id = %s", [back]) is False
    to_the_end()
    assert accepted(stand_in)[:2] == [2, 0]
    assert one(db, "select string_agg(status, ' ') from sms_retry.sms_messages") == "delivered"


@pytest.mark.parametrize("refused", [True, False], ids=["refused", "sent"])
def test_an_old_worker_that_finishes_after_the_move_sends_nothing_twice(
    db: psycopg.Connection, stand_in: TwilioStandIn, to_the_end: Callable[[], None], old_celery: None, refused: bool
) -> None:
    """It writes its result into the row that moved: the row waits again in the old queue, and moves once more."""
    person = celery_person(db, 1)
    insert = partial(old_service.insert, db, user_id=person, phone_number=number(1), message=old_service.text(1))
    insert("sms_retry_queue", status="retrying")
    assert move(db, "celery.sql") == [("in flight", "moved", 1)]
    sid = None if refused else old_service.post(stand_in, 1, old_service.IS_LOST)
    code = "30001" if refused else "30003"
    db.execute("update public.sms_retry_queue set status = 'pending', error_code = %s, message_sid = %s", [code, sid])
    stand_in.deliver_callbacks()
    assert move(db, "celery.sql") == [("waiting", "moved", 1)]
    to_the_end()
    assert accepted(stand_in)[0] == (1 if refused else 2)
    assert one(db, "select string_agg(status, ' ') from sms_retry.sms_messages") == "delivered"


def test_a_start_after_the_move_is_not_taken_back_by_the_next_run(db: psycopg.Connection, old_celery: None) -> None:
    person = celery_person(db, 1, sms_enabled=True)
    old_service.insert(
        db, "sms_usage_logs", user_id=person, phone_number=number(1), message="x", status="failed", error_code="21610"
    )
    move(db, "celery.sql")
    consent = "select consent from sms_retry.sms_recipients"
    assert one(db, consent) == "opted_out"
    one(db, "select sms_retry.take_sms_reply(null, %s, 'start')", [number(1)])
    move(db, "celery.sql")
    assert one(db, consent) == "unknown"


def test_a_row_that_cannot_move_stays_and_is_named(db: psycopg.Connection, old_celery: None) -> None:
    for phone in ("12", "(415) 555-0123"):
        facts = {"user_id": celery_person(db, 1, phone_number=phone, sms_enabled=False), "phone_number": phone}
        old_service.insert(db, "sms_retry_queue", message="Hello.", status="pending", **facts)
    assert [(kind, result[:24], count) for kind, result, count in move(db, "celery.sql")] == [
        ("opt-out", "moved", 1),
        ("opt-out", "this is no phone number", 1),
        ("waiting", "moved", 1),
        ("waiting", "nothing was stored: to_n", 1),
    ]
    left = db.execute("select phone_number from public.sms_retry_queue where status = 'pending'")
    assert left.fetchall() == [("12",)]


def test_marketing_moves_only_to_persons_who_opted_in(db: psycopg.Connection, old_cron: None) -> None:
    for n, consent in enumerate(("opted_in", "pending"), 1):
        person = old_service.insert(db, "customers", business_id=7, phone=number(n), sms_consent_status=consent)
        facts = {"business_id": 7, "customer_id": person, "body": "Sale!", "message_type": "marketing"}
        log = old_service.insert(db, "send_logs", status="queued", **facts)
        row = {"send_log_id": log, "reason": "quiet_hours", "attempt_count": 0, "status": "pending"}
        old_service.insert(db, "sms_retry_queue", **row)
    move(db, "cron.sql")
    rows = db.execute("select status, retry_count from sms_retry.sms_messages order by to_number")
    assert rows.fetchall() == [("queued", 0), ("failed", 0)]


@pytest.mark.skipif(PSQL is None, reason="psql is not installed")
def test_the_commands_of_the_page_run(db: psycopg.Connection, database_url: str, old_celery: None) -> None:
    celery_person(db, 1, sms_enabled=True)
    page = (ROOT / "docs" / "moving.md").read_text()
    for command, persons in zip(re.findall(r"psql .*", page), (0, 1), strict=True):
        done = subprocess.run(
            command,
            shell=True,
            cwd=ROOT,
            env=os.environ | {"DATABASE_URL": database_url},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert one(db, "select count(*) from sms_retry.sms_recipients") == persons


def celery_person(db: psycopg.Connection, n: int, **fields: object) -> int:
    return old_service.insert(db, "users", **{"phone_number": number(n), **fields})
