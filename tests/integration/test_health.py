"""The health check: what it counts, what it makes of it, and that it stays cheap however many wait."""

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
    claimed,
    fill,
    finish,
    number,
    one,
    receipt,
    send_again,
    sid,
    take_in,
    unknown,
)
from tests.integration.plans import nodes, plan

QUEUE = "'sms_retry.sms_retry_queue'::regclass"


def test_it_counts_what_waits_and_how_the_last_day_went(db: psycopg.Connection, store: Store) -> None:
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
    ("rate", "word"),
    [
        (None, "healthy"),
        (1.0, "healthy"),
        (0.8, "healthy"),
        (0.7999, "warning"),
        (0.6, "warning"),
        (0.5999, "critical"),
    ],
)
def test_the_success_rate_in_one_word(rate: float | None, word: str) -> None:
    assert health.status(rate) == word


def test_an_empty_queue_is_healthy_and_has_no_rate(store: Store) -> None:
    found = health.check(store)
    assert found["health_status"] == "healthy"
    absent = {"SuccessRate", "RetrySuccessRate", "RetriesPerMessage", "CallbackLagSeconds"}
    assert set(health.gauges(found)) == (health.GAUGES.keys() | health.PERCENTAGES.keys()) - absent


def test_a_rate_is_published_in_percent_even_where_it_is_none(db: psycopg.Connection, store: Store) -> None:
    finish(store, claimed(store, 1), "refused", code=21211)
    assert health.gauges(health.check(store))["SuccessRate"] == 0
    for n in (2, 3, 4):
        accepted(store, n)
    assert health.gauges(health.check(store))["SuccessRate"] == 75


def test_how_the_retried_went_is_told_apart(db: psycopg.Connection, store: Store) -> None:
    accepted(store, 1)
    for n, code in ((2, None), (3, 21211)):
        finish(store, claimed(store, n), "refused", code=30001, delays=(MINUTE,))
        again = send_again(db, store, n, minutes=2)
        finish(store, again, "refused" if code else "accepted", code=code, sid=None if code else sid(n))

    found = health.gauges(health.check(store))

    assert (found["RetrySuccessRate"], found["RetriesPerMessage"]) == (50, 0.6667)


def test_what_ended_more_than_a_day_ago_no_longer_counts(db: psycopg.Connection, store: Store) -> None:
    finish(store, claimed(store), "refused", code=21211)
    let_time_pass(db, hours=25)
    found = health.check(store)
    assert (found["failed_last_day"], found["success_rate"], found["errors_last_day"]) == (0, None, {})


def test_an_unknown_that_waits_for_a_person_is_told_apart(db: psycopg.Connection, store: Store) -> None:
    ended = unknown(store, 1, on_unknown="hold")
    let_time_pass(db, hours=73)
    assert store.release_unknown([ended.ticket]) == ["unknown"]
    unknown(store, 2)
    unknown(store, 3, on_unknown="hold")

    found = health.check(store)
    assert (found["unknown"], found["held_unknowns"]) == (2, 2)

    let_time_pass(db, hours=25)
    assert health.check(store)["held_unknowns"] == 1


def test_an_unknown_that_was_called_off_or_refused_waits_for_nobody(db: psycopg.Connection, store: Store) -> None:
    called_off, refused = unknown(store, 1, on_unknown="hold"), unknown(store, 2)
    operate.cancel(store, "anna", called_off.message_id)
    store.set_consent("*", number(2), "opted_out")
    assert health.check(store)["held_unknowns"] == 0

    let_time_pass(db, hours=73)
    assert store.release_unknown([called_off.ticket, refused.ticket]) == ["unknown", "unknown"]
    assert health.check(store)["held_unknowns"] == 0


def test_open_holds_are_counted(store: Store) -> None:
    store.set_hold(Hold("country", "+44", MINUTE, "error_21408"))
    assert health.check(store)["holds"] == 1


def test_callbacks_are_counted_and_how_late_they_come(db: psycopg.Connection, store: Store) -> None:
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


def test_a_transaction_that_keeps_the_dead_from_being_removed_is_seen(
    db: psycopg.Connection, store: Store, database_url: str
) -> None:
    assert health.check(store)["oldest_snapshot_seconds"] == 0
    with psycopg.connect(database_url) as forgotten:
        forgotten.execute("set transaction isolation level repeatable read")
        forgotten.execute("select pg_sleep(1.6)")
        assert health.check(store)["oldest_snapshot_seconds"] >= 1


def test_the_dead_rows_are_those_that_postgres_counts(db: psycopg.Connection, store: Store) -> None:
    seen = health.check(store)["dead_tuples"]
    assert seen == one(db, f"select pg_stat_get_dead_tuples({QUEUE})")


@pytest.mark.parametrize("waiting", [10_000, 30_000])
def test_of_what_waits_it_counts_ten_thousand_and_then_reckons(
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
def test_it_reads_indexes_and_no_more_of_them_than_it_counts(
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
    # The day once, and its last hour for what was sent and what is held.
    assert read["sms_retry_queue_ended"] <= 3 * ended
    assert read["rows by index"] == 0, "the table was looked at as well"


@pytest.mark.parametrize("function", ["sms_retry_health", "held_sms", "recent_sms_callbacks"])
def test_no_statement_of_it_scans_the_queue(db: psycopg.Connection, function: str) -> None:
    _many(db, waiting=3_000, ended_today=1_000, ended_before=1_000)
    read = list(nodes(plan(db, f"{function}()")))
    scans = {node["Node Type"] for node in read if node.get("Relation Name") == "sms_retry_queue"}
    assert scans <= {"Index Only Scan", "Index Scan"}
    assert "Seq Scan" not in {node["Node Type"] for node in read}


def _many(db: psycopg.Connection, waiting: int, ended_today: int, ended_before: int) -> None:
    """So many rows, of which a tenth of what ended has failed."""
    fill(db, waiting + ended_today + ended_before)
    db.execute(
        f"""update sms_retry.sms_retry_queue
        set status = case when id % 10 = 0 then 'failed' else 'completed' end,
            last_error_code = case when id % 10 = 0 then 30003 end,
            finished_at = now() - make_interval(hours => case when id > {waiting + ended_today} then 48 else 2 end)
        where id > {waiting}"""
    )


def _read(db: psycopg.Connection) -> dict[str, int]:
    """How much of the queue this transaction has read so far."""
    read = {
        "rows by scan": one(db, f"select pg_stat_get_xact_tuples_returned({QUEUE})"),
        "rows by index": one(db, f"select pg_stat_get_xact_tuples_fetched({QUEUE})"),
    }
    for index in ("sms_retry_queue_due", "sms_retry_queue_ended"):
        read[index] = one(db, f"select pg_stat_get_xact_tuples_returned('sms_retry.{index}'::regclass)")
    return read
