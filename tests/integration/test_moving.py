"""Both moves to sms-retry, with a thousand messages in every state: none is sent twice, none is lost, consents are kept."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
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


@dataclass(frozen=True)
class Old:
    """One of the services that move: its name, the business of its messages here, and that of its opt-outs."""

    name: str
    fill: old_service.Fill
    business: str
    consents: str
    taken: str


CELERY = Old("celery", old_service.fill_celery, "default", "*", "error_code = 'moved'")
CRON = Old("cron", old_service.fill_cron, "7", "7", "reason = 'moved'")


@pytest.fixture(params=[CELERY, CRON], ids=["celery", "cron"])
def old(request: pytest.FixtureRequest, db: psycopg.Connection) -> Iterator[Old]:
    """The empty tables of an old service, beside those of this one."""
    service: Old = request.param
    schema = (ROOT / "tests" / "moving" / f"{service.name}_tables.sql").read_text()
    tables = ", ".join(reversed(re.findall(r"create table (\S+)", schema)))
    db.execute(f"drop table if exists {tables}")
    db.execute(schema)
    yield service
    db.execute(f"drop table {tables} cascade")


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
