"""Through PgBouncer in transaction mode, where each statement may run on another server connection.

The service works as without PgBouncer, and leaves no session state on any server connection.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from datetime import UTC, timedelta
from itertools import count
from pathlib import Path

import psycopg
import pytest

from local.postgres.pgbouncer import PROGRAM, SERVER_CONNECTIONS, PgBouncer, pgbouncer
from local.postgres.server import Server, postgres
from local.stack import stack as local_stack
from local.twilio.stand_in import BadAnswer, Reset, TwilioStandIn
from local.waiting import let_time_pass, wait_until
from sms_retry import operate, worker
from sms_retry.migrate import migrate
from sms_retry.store import Store
from sms_retry.twilio import Send
from sms_retry.values import Claim, Hold, Message, Ticket
from tests.e2e.messages import message, queue
from tests.e2e.messages import statuses as statuses_of
from tests.integration.examples import (
    after_sending,
    claim_again,
    claimed,
    end_connections,
    fill,
    finish,
    five_minutes_left,
    freeze,
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
from tests.tables import reset_settings

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="pgbouncer is not installed (Debian's package `pgbouncer`)")

NUMBERS = count(1)

SESSION_STATE = """
select 'prepared statement ' || name from pg_prepared_statements
union all select 'channel ' || channel from pg_listening_channels() channel
union all select 'lock ' || locktype from pg_locks where pid = pg_backend_pid() and locktype = 'advisory'
union all select 'table ' || relname from pg_class where relnamespace = pg_my_temp_schema()
union all select 'cursor ' || name from pg_cursors where is_holdable
-- PgBouncer itself sets these, to the values that the client gave when it connected.
union all select 'setting ' || name from pg_settings
where source = 'session' and name not in ('application_name', 'DateStyle', 'TimeZone', 'client_encoding')
"""


@pytest.fixture(scope="module")
def bouncer(migrated: str) -> Iterator[PgBouncer]:
    with pgbouncer(migrated) as bouncer:
        yield bouncer


@pytest.fixture
def open_store(database_url: str, bouncer: PgBouncer) -> Iterator[Callable[[], Store]]:
    """Opens a store through PgBouncer, as a container does."""
    with ExitStack() as stores:
        yield lambda: stores.enter_context(closing(Store(lambda: bouncer.url)))


@pytest.fixture
def empty(server: Server, worker_id: str) -> str:
    """The name of a database with nothing in it."""
    name = f"pooled_{worker_id}_{next(NUMBERS)}"
    server.create_database(name)
    return name


def backends(db: psycopg.Connection) -> set[int]:
    """The open server connections that have served sms-retry."""
    ours = "select pid from pg_stat_activity where application_name = 'sms_retry' and datname = current_database()"
    return {pid for (pid,) in db.execute(ours)}


def session_state(bouncer: PgBouncer) -> list[str]:
    """The session state on all server connections outside of transactions."""
    with ExitStack() as opened:
        found, seen = [], set()
        for _ in range(SERVER_CONNECTIONS):
            holding = opened.enter_context(psycopg.connect(bouncer.url, prepare_threshold=None))
            seen.add(one(holding, "select pg_backend_pid()"))
            found += [what for (what,) in holding.execute(SESSION_STATE)]
        assert len(seen) == SERVER_CONNECTIONS
        return found


def test_a_message_goes_from_the_queue_to_its_delivery_receipt(db: psycopg.Connection, store: Store) -> None:
    take_in(store)
    (claim,) = store.claim_due(10)
    assert finish(store, claim, "refused", code=30003, delays=[timedelta(minutes=5)]) == "pending"
    claim = claim_again(db, store, minutes=5)
    assert finish(store, claim, "accepted", sid=sid()) == "completed"
    assert receipt(store, sid(), "delivered", ticket=claim.ticket) == "settled"

    found = state_of(db)
    assert (found.message, found.queue) == ("delivered", "completed")
    assert (found.attempt, found.retry_count) == (2, 1)
    assert finish(store, claim, "unknown") is None


def test_the_claim_of_a_dead_worker_is_asked_about_and_then_sent_again(db: psycopg.Connection, store: Store) -> None:
    claim = claimed(store)
    let_time_pass(db, minutes=11)
    assert store.take_stock(1)[0] == 1
    let_time_pass(db, minutes=1)
    assert [ticket for ticket, *_ in store.unknown_due(10)] == [claim.ticket]
    let_time_pass(db, minutes=20)
    assert store.release_unknown([claim.ticket]) == ["pending"]

    assert [claim.ticket for claim in store.claim_due(10)] == [Ticket(claim.ticket.id, 2)]


def test_all_other_statements_of_the_store_work_too(db: psycopg.Connection, store: Store) -> None:
    assert store.queue_and_claim(Message(number(1), "Hello.", kind="otp"))[1]
    sent = store.log_sent(Message(number(2), "Hello."), sid(2))
    assert store.unowned_sids([sid(2), sid(3)]) == {sid(3)}
    let_time_pass(db, hours=2)
    assert store.silent_due(10) == [(sent, sid(2), None)]
    store.note_asked({sent: True})
    waiting = take_in(store, 3)
    store.set_hold(Hold("account", "*", timedelta(minutes=5), "error_20003"))
    assert store.claim_due(10) == []
    assert operate.retry(store, "ann", waiting)
    assert store.set_consent("*", number(3), "opted_out") == 1
    found = store.state(waiting)
    assert found
    assert found.status == "failed"
    assert store.overrides() == []
    assert store.health()["processing"] == 1
    assert operate.erase(store, "ann", number(2)).messages == 1
    let_time_pass(db, days=30)
    assert store.cleanup() > 0


def test_the_whole_stack_works_through_it(
    bouncer: PgBouncer, server: Server, empty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    direct = psycopg.conninfo.conninfo_to_dict(server.url) | {"dbname": empty}
    with local_stack(psycopg.conninfo.make_conninfo("", **direct)) as stack:
        monkeypatch.setenv("DATABASE_URL", bouncer.to(empty))
        assert stack.invoke("migrate")["functions"] > 0
        stack.twilio.plan("+4917600000001", BadAnswer(500))
        stack.twilio.plan("+4917600000002", Reset())
        for n in range(8):
            queue(stack, n)
        assert stack.invoke("send_sms", message(9))["status"] == "sent"
        stack.let_minutes_pass(60)

        assert statuses_of(stack) == {"delivered": 9}
        assert sorted(stack.twilio.times_accepted().values()) == [1] * 9
        assert stack.invoke("health_check")["health_status"] == "healthy"
        assert stack.invoke("cleanup_retries")["removed"] == 0
    assert empty in {row["database"] for row in bouncer.command("show stats")}


def test_settings_of_the_database_change_nothing_behind_it(
    db: psycopg.Connection, bouncer: PgBouncer, open_store: Callable[[], Store]
) -> None:
    """PgBouncer passes the parameters of the startup message on to each server connection that it uses."""
    settings = ("timezone = 'America/New_York'", "datestyle = 'German'", "client_encoding = 'SQL_ASCII'")
    for setting in settings:
        db.execute(f"alter database {db.info.dbname} set {setting}")
    try:
        bouncer.command("reconnect")
        wait_until(lambda: not backends(db))
        stores = [open_store() for _ in range(3)]
        for store in stores:
            store.queue(Message(number(1), "Grüße", kind="otp"))
        claims = [claim for store in stores for claim in store.claim_due(1)]
        assert {(claim.body, claim.claimed_at.tzinfo) for claim in claims} == {("Grüße", UTC)}
        assert migrate(bouncer.url).migrations == ()
    finally:
        reset_settings(db)
        bouncer.command("reconnect")


def test_two_concurrent_migrations_apply_the_release_once(bouncer: PgBouncer, empty: str) -> None:
    done = in_parallel(2, lambda _: migrate(bouncer.to(empty)))

    assert sorted(each.migrations == () for each in done) == [False, True]
    assert {each.dropped for each in done} == {()}


def test_many_workers_over_two_server_connections_claim_each_row_once(
    db: psycopg.Connection, bouncer: PgBouncer, open_store: Callable[[], Store]
) -> None:
    fill(db, 1000)
    stores = [open_store() for _ in range(16)]

    def work(n: int) -> list[Claim]:
        mine: list[Claim] = []
        while claims := stores[n].claim_due(7):
            mine += claims
        return mine

    tickets = [claim.ticket for mine in in_parallel(16, work) for claim in mine]

    assert len(tickets) == len({ticket.id for ticket in tickets}) == 1000
    assert {ticket.attempt for ticket in tickets} == {1}
    assert len(backends(db)) == SERVER_CONNECTIONS


def test_server_connections_can_be_recycled_between_statements(
    db: psycopg.Connection, bouncer: PgBouncer, store: Store
) -> None:
    served: set[int] = set()

    def recycled() -> Store:
        served.update(backends(db))
        bouncer.command("reconnect")
        wait_until(lambda: not backends(db))
        return store

    take_in(recycled())
    (claim,) = recycled().claim_due(10)
    assert finish(recycled(), claim, "accepted", sid=sid()) == "completed"
    assert receipt(recycled(), sid(), "delivered") == "settled"
    assert recycled().health()["pending"] == 0
    assert len(served) >= 4


def test_no_session_state_is_left_on_a_server_connection(
    db: psycopg.Connection, bouncer: PgBouncer, open_store: Callable[[], Store], send: Send
) -> None:
    stores = [open_store() for _ in range(4)]
    fill(db, 40)
    in_parallel(4, lambda n: worker.drain(stores[n], send, five_minutes_left, concurrency=2))
    for _ in range(20):
        in_parallel(4, lambda n: stores[n].health())
    migrate(bouncer.url)

    assert statuses(db) == {"sent": 40}
    assert session_state(bouncer) == []


def test_an_idle_store_claims_each_row_once_after_a_restart(
    db: psycopg.Connection, bouncer: PgBouncer, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(db, 3)
    tickets = [claim.ticket for claim in store.claim_due(1)]
    bouncer.restart()
    tickets += [claim.ticket for claim in store.claim_due(1)]
    bouncer.restart()
    freeze(store, monkeypatch)
    tickets += [claim.ticket for claim in store.claim_due(1)]

    assert sorted(tickets) == [Ticket(1, 1), Ticket(2, 1), Ticket(3, 1)]
    assert one(db, "select count(*) from sms_retry.sms_retry_queue where attempt <> 1") == 0


def test_results_are_written_although_pgbouncer_restarted_after_the_post(
    db: psycopg.Connection, bouncer: PgBouncer, store: Store, stand_in: TwilioStandIn, send: Send
) -> None:
    for n in range(2):
        take_in(store, n)

    tally = worker.drain(store, after_sending(send, bouncer.restart), five_minutes_left, concurrency=2)

    # The reports may be written twice, and do not count as stale.
    assert (tally.success, tally.stale) == (2, 0)
    assert statuses(db) == {"sent": 2}
    assert len(stand_in.posts()) == 2


def test_a_claim_that_a_restart_interrupted_is_not_repeated(
    db: psycopg.Connection, database_url: str, bouncer: PgBouncer, store: Store
) -> None:
    take_in(store)
    with psycopg.connect(database_url) as other, ThreadPoolExecutor(1) as worker:
        other.execute("lock table sms_retry.sms_holds in access exclusive mode")
        claims = worker.submit(store.claim_due, 2)
        wait_until_blocked(db, by=other)
        bouncer.restart()
        with pytest.raises(psycopg.OperationalError):
            claims.result()
    # Postgres still makes the claim: it notices the closed connection only when it answers.
    wait_until(lambda: state_of(db).queue == "processing")
    let_time_pass(db, minutes=11)

    assert store.take_stock(1)[0] == 1
    found = state_of(db)
    assert (found.message, found.queue, found.attempt) == ("unknown", "unknown", 1)


def test_a_result_is_written_although_the_pool_leads_to_a_standby_for_a_moment(
    db: psycopg.Connection, bouncer: PgBouncer, store: Store
) -> None:
    def read_only(state: str) -> None:
        db.execute(f'alter database "{db.info.dbname}" set default_transaction_read_only = {state}')
        end_connections(db)

    claim = claimed(store)
    read_only("on")
    promotion = threading.Timer(0.2, read_only, ["off"])
    promotion.start()
    try:
        assert finish(store, claim, "accepted", sid=sid()) == "completed"
    finally:
        promotion.join()


def test_a_result_is_written_although_postgres_crashed_behind_pgbouncer(
    stand_in: TwilioStandIn, send: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The test restarts the server, so it must not use the server of LOCAL_DATABASE_URL.
    monkeypatch.delenv("LOCAL_DATABASE_URL", raising=False)
    programs = os.environ.get("POSTGRES_BIN")
    with ExitStack() as opened:
        server = opened.enter_context(postgres(Path(programs) if programs else None))
        bouncer = opened.enter_context(pgbouncer(server.url, server_login_retry="1"))
        store = opened.enter_context(closing(Store(lambda: bouncer.url)))
        migrate(bouncer.url)
        unknown(store, 1)
        for n in (2, 3):
            take_in(store, n)

        assert worker.drain(store, after_sending(send, server.restart), five_minutes_left, concurrency=2).success == 2
        with psycopg.connect(server.url) as db:
            assert statuses(db) == {"unknown": 1, "sent": 2}
    assert len(stand_in.posts()) == 2
