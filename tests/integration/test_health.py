"""The health check: its counts, its status, and a cost that does not grow with the queue."""

from __future__ import annotations

import psycopg
import pytest

from local.waiting import let_time_pass
from sms_retry import health, operate
from sms_retry.store import Store
from sms_retry.values import Hold
from tests.integration.examples import (
    MINUTE,
    accepted,
    claim_again,
    claimed,
    fill,
    finish,
    number,
    one,
    receipt,
    sid,
    take_in,
    unknown,
)
from tests.integration.plans import nodes, plan

QUEUE = "'sms_retry.sms_retry_queue'::regclass"


def test_it_counts_waiting_messages_and_the_endings_of_the_last_day(db: psycopg.Connection, store: Store) -> None:
    assert store.health()["success_rate"] is None
    for n in range(1, 4):
        accepted(store, n)
    finish(store, claimed(store, 4), "refused", code=21211)
    take_in(store, 5)
    claimed(store, 6)
    unknown(store, 7)
    let_time_pass(db, minutes=2)
    finish(store, claimed(store, 8), "deferred", delays=(MINUTE,))
    take_in(store, 9)

    found = health.check(store)

    counted = ("pending", "due", "overdue", "processing", "unknown", "holds", "held_unknowns")
    assert [found[name] for name in counted] == [3, 2, 1, 1, 1, 0, 0]
    assert not found["pending_is_estimate"]
    assert 119 <= found["oldest_due_seconds"] <= 125
    assert 119 <= found["oldest_claim_seconds"] <= 125
    assert (found["completed_last_day"], found["failed_last_day"], found["success_rate"]) == (3, 1, 0.75)
    assert (found["ended_last_day"], found["errors_last_day"]) == ({"completed": 3, "failed": 1}, {"21211": 1})
    assert found["health_status"] == "warning"


@pytest.mark.parametrize(
    ("rate", "status"),
    [
        (None, "healthy"),
        (1.0, "healthy"),
        (0.8, "healthy"),
        (0.7999, "warning"),
        (0.6, "warning"),
        (0.5999, "critical"),
    ],
)
def test_the_success_rate_gives_the_health_status(rate: float | None, status: str) -> None:
    assert health.status(rate) == status


def test_an_empty_queue_is_healthy_and_has_no_rate(store: Store) -> None:
    found = health.check(store)
    assert found["health_status"] == "healthy"
    absent = {"SuccessRate", "RetrySuccessRate", "RetriesPerMessage", "CallbackLagSeconds"}
    absent |= {"DeliveryRate", "DeliverySeconds"}
    assert set(health.gauges(found)) == (health.GAUGES.keys() | health.PERCENTAGES.keys()) - absent


def test_the_success_rate_is_published_in_percent_also_if_it_is_zero(db: psycopg.Connection, store: Store) -> None:
    finish(store, claimed(store, 1), "refused", code=21211)
    assert health.gauges(health.check(store))["SuccessRate"] == 0
    for n in (2, 3, 4):
        accepted(store, n)
    assert health.gauges(health.check(store))["SuccessRate"] == 75


def test_retried_messages_have_a_separate_success_rate(db: psycopg.Connection, store: Store) -> None:
    accepted(store, 1)
    for n, code in ((2, None), (3, 21211)):
        finish(store, claimed(store, n), "refused", code=30001, delays=(MINUTE,))
        again = claim_again(db, store, n, minutes=2)
        finish(store, again, "refused" if code else "accepted", code=code, sid=None if code else sid(n))

    found = health.gauges(health.check(store))

    assert (found["RetrySuccessRate"], found["RetriesPerMessage"]) == (50, 0.6667)


def test_endings_of_more_than_a_day_ago_are_not_counted(db: psycopg.Connection, store: Store) -> None:
    finish(store, claimed(store), "refused", code=21211)
    let_time_pass(db, hours=25)
    found = health.check(store)
    assert (found["failed_last_day"], found["success_rate"], found["errors_last_day"]) == (0, None, {})


def test_endings_are_counted_also_if_their_texts_are_erased_at_once(db: psycopg.Connection, store: Store) -> None:
    for n in range(1, 4):
        claim = claimed(store, n)
        finish(store, claim, "accepted", sid=sid(n))
        receipt(store, sid(n), "delivered")
    finish(store, claimed(store, 4), "refused", code=21211)
    named = (
        "completed_last_day",
        "failed_last_day",
        "success_rate",
        "ended_last_day",
        "errors_last_day",
        "sent_last_hour",
    )
    before = health.check(store)
    by_hour = store.last_day()

    assert store.erase_bodies(0) == 4

    found = health.check(store)
    assert [found[name] for name in named] == [before[name] for name in named]
    assert found["success_rate"] == 0.75
    assert sorted(store.last_day()) == sorted(by_hour)


def test_parked_messages_that_have_ended_are_counted_separately(db: psycopg.Connection, store: Store) -> None:
    parked = unknown(store, 1, on_unknown="hold")
    let_time_pass(db, hours=73)
    assert store.release_unknown([parked.ticket]) == ["unknown"]
    unknown(store, 2)
    unknown(store, 3, on_unknown="hold")

    found = health.check(store)
    assert (found["unknown"], found["held_unknowns"]) == (2, 2)

    let_time_pass(db, hours=25)
    assert health.check(store)["held_unknowns"] == 1


def test_an_unknown_message_that_was_cancelled_or_opted_out_is_not_parked(db: psycopg.Connection, store: Store) -> None:
    cancelled, opted_out = unknown(store, 1, on_unknown="hold"), unknown(store, 2)
    operate.cancel(store, "anna", cancelled.message_id)
    store.set_consent("*", number(2), "opted_out")
    assert health.check(store)["held_unknowns"] == 0

    let_time_pass(db, hours=73)
    assert store.release_unknown([cancelled.ticket, opted_out.ticket]) == ["unknown", "unknown"]
    assert health.check(store)["held_unknowns"] == 0


def test_holds_are_counted(store: Store) -> None:
    store.set_hold(Hold("country", "+44", MINUTE, "error_21408"))
    assert health.check(store)["holds"] == 1


def test_receipts_and_their_lag_are_measured(db: psycopg.Connection, store: Store) -> None:
    for n in (1, 2, 3):
        accepted(store, n)
        let_time_pass(db, seconds=10)
    for n in (1, 2, 3):
        receipt(store, sid(n), "delivered")
    receipt(store, sid(9), "delivered")

    found = health.check(store)

    assert (found["sent_last_hour"], found["callbacks_last_hour"]) == (3, 4)
    assert 20 <= found["callback_lag_seconds"] <= 25
    let_time_pass(db, hours=2)
    silent = health.check(store)
    assert (silent["sent_last_hour"], silent["callbacks_last_hour"], silent["callback_lag_seconds"]) == (0, 0, None)


def test_a_transaction_that_keeps_dead_rows_from_vacuum_is_reported(
    db: psycopg.Connection, store: Store, database_url: str
) -> None:
    assert health.check(store)["oldest_snapshot_seconds"] == 0
    with psycopg.connect(database_url) as idle:
        idle.execute("set transaction isolation level repeatable read")
        idle.execute("select pg_sleep(1.6)")
        assert health.check(store)["oldest_snapshot_seconds"] >= 1


def test_dead_rows_are_reported_as_postgres_counts_them(db: psycopg.Connection, store: Store) -> None:
    seen = health.check(store)["dead_tuples"]
    assert seen == one(db, f"select pg_stat_get_dead_tuples({QUEUE})")


@pytest.mark.parametrize("waiting", [10_000, 30_000])
def test_it_counts_ten_thousand_waiting_messages_and_estimates_beyond(
    db: psycopg.Connection, store: Store, waiting: int
) -> None:
    fill(db, waiting)
    db.execute("analyze sms_retry.sms_retry_queue")

    found = health.check(store)

    assert found["pending_is_estimate"] == (waiting > 10_000)
    assert found["pending"] == pytest.approx(waiting, rel=0.05 if waiting > 10_000 else 0)
    assert (found["due"], found["overdue"]) == (10_000, 10_000)


@pytest.mark.parametrize("analyzed", [True, False])
@pytest.mark.parametrize("ended", [100, 10_000])
def test_it_reads_only_index_entries_and_only_those_that_it_counts(
    db: psycopg.Connection, store: Store, analyzed: bool, ended: int
) -> None:
    _many(db, waiting=30_000, ended_today=ended, ended_before=20_000)
    db.execute("vacuum sms_retry.sms_retry_queue")
    if analyzed:
        db.execute("analyze sms_retry.sms_retry_queue")
    with db.transaction():
        before = _read(db)
        db.execute("select sms_retry.sms_retry_health()")
        read = {name: rows - before[name] for name, rows in _read(db).items()}

    assert read["rows by scan"] == 0
    assert read["sms_retry_queue_due"] == 10_001
    # It reads the last day once, and the last hour again for the sent and for the parked messages.
    assert read["sms_retry_queue_ended"] <= 3 * ended
    assert read["rows by index"] == 0, "it read table rows too"


@pytest.mark.parametrize("function", ["sms_retry_health", "held_sms", "recent_sms_callbacks"])
def test_none_of_its_statements_scans_the_queue(db: psycopg.Connection, function: str) -> None:
    _many(db, waiting=3_000, ended_today=1_000, ended_before=1_000)
    read = list(nodes(plan(db, f"{function}()")))
    scans = {node["Node Type"] for node in read if node.get("Relation Name") == "sms_retry_queue"}
    assert scans <= {"Index Only Scan", "Index Scan"}
    assert "Seq Scan" not in {node["Node Type"] for node in read}


def _many(db: psycopg.Connection, waiting: int, ended_today: int, ended_before: int) -> None:
    """Fill the queue; a tenth of the ended rows have failed."""
    fill(db, waiting + ended_today + ended_before)
    db.execute(
        f"""update sms_retry.sms_retry_queue
        set status = case when id % 10 = 0 then 'failed' else 'completed' end,
            last_error_code = case when id % 10 = 0 then 30003 end,
            finished_at = now() - make_interval(hours => case when id > {waiting + ended_today} then 48 else 2 end)
        where id > {waiting}"""
    )


def _read(db: psycopg.Connection) -> dict[str, int]:
    """The queue rows and index entries that this transaction has read so far."""
    read = {
        "rows by scan": one(db, f"select pg_stat_get_xact_tuples_returned({QUEUE})"),
        "rows by index": one(db, f"select pg_stat_get_xact_tuples_fetched({QUEUE})"),
    }
    for index in ("sms_retry_queue_due", "sms_retry_queue_ended"):
        read[index] = one(db, f"select pg_stat_get_xact_tuples_returned('sms_retry.{index}'::regclass)")
    return read


def test_the_last_hour_has_a_delivery_rate_and_a_time_once_it_has_twenty_deliveries(
    db: psycopg.Connection, store: Store
) -> None:
    for n in range(1, 26):
        accepted(store, n)
    for n in range(1, 20):
        receipt(store, sid(n), "delivered")
    assert "DeliverySeconds" not in health.gauges(health.check(store))

    let_time_pass(db, minutes=15)
    for n in range(20, 24):
        receipt(store, sid(n), "delivered")
    receipt(store, sid(24), "undelivered", 30005)
    receipt(store, sid(25), "undelivered", 30005)
    found = health.gauges(health.check(store))
    assert found["DeliveryRate"] == 92
    assert 900 <= found["DeliverySeconds"] <= 960

    let_time_pass(db, hours=1)
    assert "DeliveryRate" not in health.gauges(health.check(store))
