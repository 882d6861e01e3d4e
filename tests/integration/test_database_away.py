"""The database goes away in mid-run: the answers of Twilio are still written, and no message is claimed twice."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import psycopg
import pytest

from local.postgres.cable import Cable
from local.postgres.server import postgres
from local.stack import ENVIRONMENT
from local.twilio.stand_in import ACCOUNT_SID, AUTH_TOKEN, TwilioStandIn
from local.waiting import let_time_pass, wait_until
from sms_retry import connection, delivery, listing, reconcile, worker
from sms_retry.connection import LoginFailed, NotConnected
from sms_retry.migrate import migrate
from sms_retry.store import Store
from sms_retry.twilio import Credentials, Send
from sms_retry.values import Message, Report
from tests.chaos import worker as killable
from tests.integration.examples import (
    after_sending,
    claimed,
    end_connections,
    five_minutes_left,
    freeze,
    one,
    state_of,
    statuses,
    take_in,
    wait_until_blocked,
)
from tests.tables import reset_settings

QUEUE = "select count(*) from sms_retry.sms_retry_queue where "


def ask_twilio(store: Store, stand_in: TwilioStandIn) -> None:
    record = partial(delivery.record, store, now=datetime.now(UTC))
    with listing.open_listing(Credentials(ACCOUNT_SID, AUTH_TOKEN), stand_in.url) as (sent_to, look_up):
        reconcile.reconcile(store, sent_to, look_up, record, five_minutes_left)


@pytest.fixture
def cable(database_url: str) -> Iterator[Cable]:
    with closing(Cable(database_url)) as cable:
        yield cable


@pytest.fixture
def far_store(cable: Cable) -> Iterator[Store]:
    """A store that reaches the database through the cable."""
    with closing(Store(lambda: cable.url)) as store:
        yield store


def test_an_answer_is_written_although_the_connection_ended_after_the_post(
    db: psycopg.Connection, store: Store, stand_in: TwilioStandIn, send: Send
) -> None:
    for n in range(2):
        take_in(store, n)

    tally = worker.drain(store, after_sending(send, lambda: end_connections(db)), five_minutes_left, concurrency=2)

    assert (tally.success, tally.stale) == (2, 0)
    assert statuses(db) == {"sent": 2}
    assert len(stand_in.posts()) == 2


def test_an_answer_is_written_although_postgres_crashed_after_the_post(
    stand_in: TwilioStandIn, send: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The test restarts the server, so it must not use the server of LOCAL_DATABASE_URL.
    monkeypatch.delenv("LOCAL_DATABASE_URL", raising=False)
    programs = os.environ.get("POSTGRES_BIN")
    with postgres(Path(programs) if programs else None, durable=False) as server, closing(Store(lambda: url)) as store:
        # Its commits must survive a crash of its processes, though not of the machine.
        url = server.url + "?options=-csynchronous_commit%3Don"
        migrate(url)
        for n in range(2):
            take_in(store, n)

        tally = worker.drain(store, after_sending(send, server.restart), five_minutes_left, concurrency=2)

        assert (tally.success, tally.stale) == (2, 0)
        with psycopg.connect(url) as db:
            assert statuses(db) == {"sent": 2}
    assert len(stand_in.posts()) == 2


def test_an_answer_is_written_although_the_server_is_a_standby_for_a_moment(
    db: psycopg.Connection, store: Store, send: Send
) -> None:
    def read_only(state: str) -> None:
        db.execute(f'alter database "{db.info.dbname}" set default_transaction_read_only = {state}')

    def fail_over() -> None:
        read_only("on")
        end_connections(db)
        threading.Timer(0.2, read_only, ["off"]).start()

    take_in(store)

    assert worker.drain(store, after_sending(send, fail_over), five_minutes_left, concurrency=2).success == 1
    assert statuses(db) == {"sent": 1}


def test_an_interrupted_write_is_repeated(db: psycopg.Connection, database_url: str, store: Store) -> None:
    claim = claimed(store)
    with psycopg.connect(database_url) as other, ThreadPoolExecutor(1) as worker_thread:
        other.execute("select from sms_retry.sms_retry_queue for update")
        written = worker_thread.submit(store.finish, [Report(claim.ticket, "refused", code=30001)])
        wait_until_blocked(db, by=other)
        end_connections(db)
        other.rollback()

        assert claim.ticket in written.result()
    assert state_of(db).message == "failed"


def test_a_write_that_is_repeated_after_a_lost_confirmation_changes_nothing(
    db: psycopg.Connection, cable: Cable, far_store: Store
) -> None:
    claim = claimed(far_store)

    cable.loses_the_next_answer = True
    waits = (timedelta(minutes=1), timedelta(minutes=5))
    assert far_store.finish([Report(claim.ticket, "refused", code=30001, delays=waits)]) == {}

    found = state_of(db)
    assert (found.queue, found.retry_count, found.wait) == ("pending", 1, 1)


def test_an_interrupted_claim_is_not_repeated(db: psycopg.Connection, database_url: str, store: Store) -> None:
    take_in(store)
    with psycopg.connect(database_url) as other, ThreadPoolExecutor(1) as worker_thread:
        other.execute("lock table sms_retry.sms_holds in access exclusive mode")
        claims = worker_thread.submit(store.claim_due, 2)
        wait_until_blocked(db, by=other)
        end_connections(db)
        other.rollback()

        with pytest.raises(psycopg.OperationalError):
            claims.result()
    assert (state_of(db).queue, state_of(db).attempt) == ("pending", 0)


def test_a_claim_is_not_repeated_after_a_lost_answer(db: psycopg.Connection, cable: Cable, far_store: Store) -> None:
    for n in range(6):
        take_in(far_store, n)

    cable.loses_the_next_answer = True
    with pytest.raises(psycopg.OperationalError):
        far_store.claim_due(2)

    assert one(db, QUEUE + "status = 'processing'") == 2
    let_time_pass(db, minutes=11)
    assert far_store.take_stock(1)[0] == 2


def test_a_connection_that_ended_while_the_container_was_frozen_is_replaced_before_the_claim(
    db: psycopg.Connection, store: Store, stand_in: TwilioStandIn, send: Send
) -> None:
    for n in range(3):
        take_in(store, n)
        assert worker.drain(store, send, five_minutes_left, concurrency=2).success == 1
        end_connections(db)
    take_in(store, 3)
    end_connections(db)

    assert len(store.claim_due(1)) == 1
    assert statuses(db) == {"sent": 3, "queued": 1}
    assert one(db, QUEUE + "attempt <> 1") == 0
    assert len(stand_in.posts()) == 3


def test_a_silently_dropped_flow_is_replaced_before_the_claim(
    db: psycopg.Connection, cable: Cable, far_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "ANSWER", 0.2)
    take_in(far_store)
    cable.go_silent()
    freeze(far_store, monkeypatch)

    assert len(far_store.claim_due(1)) == 1
    assert (state_of(db).queue, state_of(db).attempt) == ("processing", 1)


def test_only_a_statement_that_must_not_run_twice_probes_an_idle_connection_first(
    cable: Cable, far_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answers_to(*statements: Callable[[], object]) -> int:
        before = cable.answers
        for statement in statements:
            statement()
        return cable.answers - before

    far_store.health()
    assert answers_to(partial(far_store.claim_due, 1)) == 1
    freeze(far_store, monkeypatch)
    assert answers_to(partial(far_store.claim_due, 1)) == 2
    freeze(far_store, monkeypatch)
    assert answers_to(partial(far_store.take_stock, 1), partial(far_store.claim_due, 1)) == 2


def test_a_drain_raises_if_the_database_stays_away_and_later_ticks_settle_its_messages(
    db: psycopg.Connection,
    store: Store,
    cable: Cable,
    far_store: Store,
    stand_in: TwilioStandIn,
    send: Send,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(far_store._connection, "_patience", timedelta(seconds=0.2))
    for n in range(6):
        take_in(store, n)

    with pytest.raises(psycopg.OperationalError):
        worker.drain(far_store, after_sending(send, cable.pull_out), five_minutes_left, concurrency=2)
    assert stand_in.accepted()
    assert one(db, QUEUE + "status = 'processing'") >= len(stand_in.accepted())

    for _ in range(10):
        let_time_pass(db, minutes=5)
        stand_in.let_time_pass(300)
        worker.drain(store, send, five_minutes_left, concurrency=2)
        ask_twilio(store, stand_in)
    assert statuses(db) == {"sent": 6}
    assert sorted(stand_in.times_accepted().values()) == [1] * 6


def test_a_worker_that_receives_sigterm_finishes_its_posts_and_gives_the_other_rows_back(
    db: psycopg.Connection, store: Store, database_url: str
) -> None:
    login = {"account_sid": ENVIRONMENT["TWILIO_ACCOUNT_SID"], "auth_token": ENVIRONMENT["TWILIO_AUTH_TOKEN"]}
    for n in range(20):
        take_in(store, n)
    with TwilioStandIn(callbacks="manual", **login) as stand_in:
        stand_in.behave(latency=0.2)
        process = killable.start(database_url, stand_in.url)
        wait_until(lambda: len(stand_in.posts()) == killable.CONCURRENCY)
        assert process.pid
        os.kill(process.pid, signal.SIGTERM)
        process.join(timeout=10)

        assert process.exitcode == 0
        assert len(stand_in.accepted()) == killable.CONCURRENCY
    assert statuses(db) == {"sent": killable.CONCURRENCY, "queued": 20 - killable.CONCURRENCY}
    assert one(db, QUEUE + "status = 'processing'") == 0
    assert one(db, QUEUE + "status = 'pending' and attempt = 1 and retry_count = 0 and scheduled_for <= now()") > 0


FAILS_TWICE = """
create sequence public.calls;
create function public.fails_twice(code text) returns text language plpgsql as $$
begin
    if nextval('public.calls') <= 2 then
        raise exception 'in the way' using errcode = code;
    end if;
    return 'done';
end
$$;
"""


@pytest.fixture
def _fails_twice(db: psycopg.Connection) -> Iterator[None]:
    """A function that fails at its first two calls."""
    db.execute(FAILS_TWICE)
    yield
    db.execute("drop function public.fails_twice; drop sequence public.calls")


@pytest.mark.usefixtures("_fails_twice")
@pytest.mark.parametrize("code", ["40001", "40P01", "55P03", "25006", "57P05"])
def test_an_error_that_proves_that_nothing_happened_is_repeated(store: Store, code: str) -> None:
    assert store._connection.once("select public.fails_twice(%s)", [code]) == [("done",)]


@pytest.mark.usefixtures("_fails_twice")
@pytest.mark.parametrize("code", ["57014", "23505", "XX000"])
def test_every_other_error_is_reported_at_once(db: psycopg.Connection, store: Store, code: str) -> None:
    with pytest.raises(psycopg.Error):
        store._connection.once("select public.fails_twice(%s)", [code])
    assert one(db, "select last_value from public.calls") == 1


def test_a_claim_waits_for_a_lock_beyond_the_lock_timeout_of_the_role(
    db: psycopg.Connection, database_url: str, store: Store
) -> None:
    take_in(store)
    end_connections(db)
    db.execute(f"alter database {db.info.dbname} set lock_timeout = '50ms'")
    try:
        with psycopg.connect(database_url) as other, ThreadPoolExecutor(1) as worker_thread:
            other.execute("lock table sms_retry.sms_holds in access exclusive mode")
            claims = worker_thread.submit(store.claim_due, 2)
            for _ in range(2):
                wait_until_blocked(db, by=other)
                wait_until(lambda: not one(db, "select exists (select from pg_locks where not granted)"))
            other.rollback()
            assert len(claims.result()) == 1
    finally:
        reset_settings(db)
    assert (state_of(db).queue, state_of(db).attempt) == ("processing", 1)


def test_a_message_is_stored_once_although_the_first_connections_were_refused(
    db: psycopg.Connection, database_url: str
) -> None:
    refused = "postgresql://app@127.0.0.1:1/app"
    urls = iter([refused, refused])
    with closing(Store(lambda: next(urls, database_url))) as store:
        message_id, claim = store.queue_and_claim(Message("+4917600000001", "Hello.", kind="otp"))
    assert claim
    assert claim.message_id == message_id == 1
    assert statuses(db) == {"queued": 1}


@pytest.fixture(scope="module")
def guarded_server() -> Iterator[tuple[str, str]]:
    """A database as its administrator, and as the role `app`, which needs its password and may have one connection."""
    programs = os.environ.get("POSTGRES_BIN")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.delenv("DATABASE_URL", raising=False)
        with postgres(Path(programs) if programs else None, durable=False) as server:
            with psycopg.connect(server.url, autocommit=True) as db:
                db.execute("create role app login password 's3cret' connection limit 1")
                db.execute("grant create on database postgres to app")
                rules = Path(one(db, "show hba_file"))
            rules.write_text("host all app all scram-sha-256\n" + rules.read_text())
            server.restart("fast")
            url = psycopg.conninfo.make_conninfo(server.url, user="app", password="s3cret")
            migrate(url)
            yield server.url, url


@pytest.fixture
def guarded(guarded_server: tuple[str, str]) -> str:
    """The database as the role `app`, once the server has ended the connections that its clients closed."""
    admin, url = guarded_server
    with psycopg.connect(admin, autocommit=True) as db:
        wait_until(lambda: one(db, "select count(*) from pg_stat_activity where usename = 'app'") == 0)
    return url


def test_a_message_is_sent_although_the_role_had_too_many_connections(guarded: str) -> None:
    other = psycopg.connect(guarded)
    with closing(Store(lambda: guarded)) as store, ThreadPoolExecutor(1) as pool:
        stored = pool.submit(store.queue_and_claim, Message("+4917600000001", "Hello.", kind="otp"))
        with pytest.raises(TimeoutError):
            stored.result(timeout=0.5)
        other.close()
        assert stored.result()[1]


def test_too_many_connections_are_not_reported_as_a_wrong_password(guarded: str) -> None:
    read_again: list[str] = []
    with (
        psycopg.connect(guarded),
        closing(Store(lambda: guarded, timedelta(0), lambda: read_again.append("") or None)) as store,
        pytest.raises(psycopg.OperationalError, match="too many connections for role") as raised,
    ):
        store.claim_due(1)
    assert (type(raised.value), "password is wrong" in str(raised.value), read_again) == (NotConnected, False, [])

    wrong = psycopg.conninfo.make_conninfo(guarded, password="wrong")
    with (
        closing(Store(lambda: wrong)) as store,
        pytest.raises(LoginFailed, match="if its password is wrong, correct it"),
    ):
        store.claim_due(1)
