"""The cost of a message in counts that do not depend on the machine: statements, rows read, bytes of WAL."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from local.waiting import wait_until
from sms_retry import delivery, worker
from sms_retry.store import Store
from sms_retry.values import Accepted, Answer, Claim, Receipt, Report, Ticket
from tests.integration.examples import accepted, fill, five_minutes_left, number, one, sid
from tests.tables import delete_all

MEASURED = "sms_retry.sms_messages, sms_retry.sms_retry_queue, sms_retry.sms_attempts, sms_retry.sms_delivery_events"


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The statements that stores have sent to Postgres; each is one round trip."""
    seen: list[str] = []
    execute = psycopg.Cursor.execute

    def noted(cursor: psycopg.Cursor[Any], query: Any, *given: Any, **options: Any) -> Any:
        if cursor.connection.info.get_parameters().get("application_name") == "sms_retry":
            seen.append(str(query))
        return execute(cursor, query, *given, **options)

    monkeypatch.setattr(psycopg.Cursor, "execute", noted)
    return seen


STORE_CONNECTIONS = "select count(*) from pg_stat_activity where application_name = 'sms_retry'"


def accept_immediately(claim: Claim, _valid_for: timedelta) -> Answer:
    return Accepted(sid(claim.id), 201)


def test_a_message_costs_a_tenth_of_a_statement_at_a_hundred_in_flight(
    db: psycopg.Connection, store: Store, statements: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "FLUSH_AFTER", 30.0)
    fill(db, 400)
    assert worker.drain(store, accept_immediately, five_minutes_left, 100).success == 400
    assert 0 < len(statements) <= 40


def test_an_empty_tick_executes_at_most_two_statements(store: Store, statements: list[str]) -> None:
    worker.drain(store, accept_immediately, five_minutes_left, 20)
    assert 0 < len(statements) <= 2


def test_a_delivered_receipt_executes_one_statement(
    db: psycopg.Connection, store: Store, statements: list[str]
) -> None:
    claim = accepted(store)
    statements.clear()
    receipt = Receipt(sid(), "delivered", None, claim.ticket, number())
    assert delivery.record(store, receipt, claim.claimed_at).answer == "settled"
    assert len(statements) == 1


def accept(store: Store) -> None:
    assert len(store.finish([Report(Ticket(n, 1), "accepted", sid(n)) for n in range(1, 101)])) == 100


def refuse(store: Store) -> None:
    assert len(store.finish([Report(Ticket(n, 1), "refused", code=21211) for n in range(1, 101)])) == 100


def claim(store: Store) -> None:
    assert len(store.claim_due(100)) == 100


def deliver(store: Store) -> None:
    accept(store)
    for n in range(1, 101):
        assert store.record_delivery(Receipt(sid(n), "delivered", None, Ticket(n, 1), number(n))) == "settled"


def report_twice(store: Store) -> None:
    accept(store)
    assert len(store.known([Report(Ticket(n, 1), "accepted", sid(n)) for n in range(1, 101)])) == 100


@pytest.mark.parametrize(
    ("work", "most"), [(claim, 500), (accept, 1_000), (refuse, 1_500), (deliver, 2_500), (report_twice, 1_400)]
)
# The statistics are of all tables while empty, of all while full, or of one while it had only deleted rows.
@pytest.mark.parametrize("analysed", ["empty", "full", "sms_messages", "sms_retry_queue", "sms_attempts"])
def test_the_rows_read_depend_on_the_batch_and_not_on_the_statistics(
    db: psycopg.Connection, database_url: str, work: Callable[[Store], None], most: int, analysed: str
) -> None:
    others = one(db, STORE_CONNECTIONS)
    store = Store(lambda: database_url)
    if analysed != "full":
        db.execute(f"vacuum analyze {MEASURED}")
        # Postgres also caches the plans that it makes now.
        work_on_few(db, store)
    if analysed.startswith("sms_"):
        db.execute(f"analyze sms_retry.{analysed}")
    rows = 4_000
    fill(db, rows)
    db.execute(
        "insert into sms_retry.sms_delivery_events (message_sid, status) "
        f"select 'SM-' || n, 'delivered' from generate_series(1, {rows}) n"
    )
    if work is not claim:
        db.execute("update sms_retry.sms_retry_queue set status = 'processing', attempt = 1, claimed_at = now()")
    if analysed == "full":
        db.execute(f"vacuum analyze {MEASURED}")
    before = read(db)
    work(store)
    store.close()
    # A backend reports the rows that it read when it ends.
    wait_until(lambda: one(db, STORE_CONNECTIONS) <= others)
    assert 100 <= read(db) - before <= most


def work_on_few(db: psycopg.Connection, store: Store) -> None:
    """Claim, finish and deliver with two messages, and delete them."""
    fill(db, 2)
    first, second = store.claim_due(2)
    store.finish([Report(first.ticket, "accepted", sid(1))])
    store.finish([Report(second.ticket, "refused", code=21211)])
    store.record_delivery(Receipt(sid(1), "delivered", None, first.ticket, number()))
    # Not truncate_all: after it, Postgres would make the plans again.
    delete_all(db)
    for table in ("sms_messages", "sms_retry_queue"):
        db.execute(f"select setval(pg_get_serial_sequence('sms_retry.{table}', 'id'), 1, false)")


def read(db: psycopg.Connection) -> int:
    """The rows read so far from all tables, by scans and through indexes, also by this connection."""
    db.execute("select pg_stat_force_next_flush()")
    return int(one(db, "select sum(seq_tup_read + coalesce(idx_tup_fetch, 0)) from pg_stat_user_tables"))


def test_a_messages_row_has_three_check_constraints(db: psycopg.Connection) -> None:
    # Postgres reads the checks of a table again for each statement, but caches the checks of domains.
    checks = "select count(*) from pg_constraint where conrelid = 'sms_retry.sms_messages'::regclass and contype = 'c'"
    assert one(db, checks) == 3


def test_a_message_writes_less_than_2500_bytes_of_wal(db: psycopg.Connection, store: Store) -> None:
    fill(db, 500)
    least = []
    for _ in range(4):
        before = one(db, "select pg_current_wal_insert_lsn()")
        store.finish([Report(claim.ticket, "accepted", sid(claim.id)) for claim in store.claim_due(100)])
        least.append(one(db, "select pg_current_wal_insert_lsn() - %s::pg_lsn", [before]) / 100)
    assert min(least) < 2_500
