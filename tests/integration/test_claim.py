"""The claim gives each queue row to one worker, the longest due first, at a cost that does not grow with the queue."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import pairwise
from typing import Any

import psycopg
import pytest

from local.waiting import let_time_pass
from sms_retry.store import Store
from sms_retry.values import Claim, Hold, Message, Report
from tests.integration.examples import (
    MINUTE,
    assert_state,
    count,
    fill,
    finish,
    in_parallel,
    number,
    one,
    sid,
    take_in,
)
from tests.integration.plans import nodes, plan

CLAIM_TABLES = [f"sms_retry.{name}" for name in ("sms_messages", "sms_retry_queue", "sms_holds", "sms_recipients")]


@pytest.fixture(params=["fresh", "stale"])
def statistics(request: pytest.FixtureRequest, db: psycopg.Connection) -> Iterator[Callable[[], None]]:
    """Analyzes the filled tables. With the parameter "stale" the statistics stay those of the empty tables."""

    def analyze() -> None:
        db.execute(f"analyze {', '.join(CLAIM_TABLES)}")

    for table in CLAIM_TABLES:
        db.execute(f"alter table {table} set (autovacuum_enabled = false)")
    analyze()
    yield analyze if request.param == "fresh" else lambda: None
    for table in CLAIM_TABLES:
        db.execute(f"alter table {table} reset (autovacuum_enabled)")


def test_eight_workers_claim_each_row_once(
    db: psycopg.Connection, open_store: Callable[[], Store], statistics: Callable[[], None]
) -> None:
    fill(db, 5000)
    statistics()
    stores = [open_store() for _ in range(8)]

    def work(n: int) -> list[Claim]:
        mine: list[Claim] = []
        roll = random.Random(n)
        while True:
            limit = roll.randint(1, 50)
            claims = stores[n].claim_due(limit)
            assert len(claims) <= limit
            if not claims:
                return mine
            mine += claims

    tickets = [claim.ticket for mine in in_parallel(8, work) for claim in mine]

    assert len(tickets) == 5000
    assert len({ticket.id for ticket in tickets}) == 5000
    assert {ticket.attempt for ticket in tickets} == {1}


def test_a_claim_takes_at_most_the_rows_it_was_asked_for(
    db: psycopg.Connection, store: Store, statistics: Callable[[], None]
) -> None:
    fill(db, 600)
    statistics()
    for calls in range(1, 6):
        assert len(store.claim_due(10)) == 10
        assert one(db, "select count(*) from sms_retry.sms_retry_queue where status = 'processing'") == 10 * calls


@pytest.mark.parametrize("limit", [0, 1])
def test_a_claim_may_ask_for_no_row_or_for_one(db: psycopg.Connection, store: Store, limit: int) -> None:
    fill(db, 20)
    assert len(store.claim_due(limit)) == limit


@pytest.mark.parametrize("waiting", [3_000, 30_000])
def test_a_claim_reads_as_many_rows_as_it_takes(
    db: psycopg.Connection, store: Store, statistics: Callable[[], None], waiting: int
) -> None:
    fill(db, waiting)
    statistics()
    with db.transaction():
        before = _rows_read(db)
        assert len(db.execute("select * from sms_retry.claim_sms(20)").fetchall()) == 20
        read = {name: rows - before[name] for name, rows in _rows_read(db).items()}

    assert read["sms_retry_queue by scan"] == read["sms_messages by scan"] == 0
    assert read["sms_retry_queue_due"] <= 21
    assert read["sms_retry_queue by index"] <= 5 * 20
    assert read["sms_messages by index"] <= 2 * 20


def test_a_hundred_thousand_held_messages_do_not_slow_the_claim(db: psycopg.Connection, store: Store) -> None:
    fill(db, 100_000)
    store.set_hold(Hold("country", "+49", timedelta(hours=1), "error_21408"))
    with db.transaction():
        before = _rows_read(db)
        held = db.execute("select held_until > now() from sms_retry.claim_sms(20)").fetchall()
        read = {name: rows - before[name] for name, rows in _rows_read(db).items()}

    assert held == [(True,)] * 20
    assert read["sms_retry_queue by scan"] == read["sms_messages by scan"] == 0
    assert read["sms_retry_queue by index"] <= 5 * 20

    store.set_hold(Hold("account", "*", timedelta(hours=1), "error_20003"))
    with db.transaction():
        before = _rows_read(db)
        assert db.execute("select * from sms_retry.claim_sms(20)").fetchall() == []
        assert _rows_read(db)["sms_retry_queue by index"] - before["sms_retry_queue by index"] <= 5


def test_a_claim_reads_its_lanes_in_order(db: psycopg.Connection, statistics: Callable[[], None]) -> None:
    fill(db, 3_000)
    statistics()

    read = list(nodes(_plan_of_the_claim(db, limit=20)))

    lanes = [node for node in read if node.get("Index Name") == "sms_retry_queue_lanes"]
    assert [node["Node Type"] for node in lanes] == ["Index Scan"]
    assert "scheduled_for" in lanes[0]["Index Cond"]
    assert lanes[0]["Actual Rows"] <= 21
    assert not {"Incremental Sort", "Seq Scan", "Bitmap Heap Scan"} & {node["Node Type"] for node in read}
    # Only the claimed rows are sorted, and no row of the queue.
    sorts = [node for node in read if node["Node Type"] == "Sort"]
    assert not [node for node in sorts if "sms_retry_queue" in str(node) or node["Actual Rows"] > 20]


def test_the_longest_due_message_is_claimed_first(db: psycopg.Connection, store: Store) -> None:
    fill(db, 200, due="now() - make_interval(mins => (n * 7919) % 200 + 1)")

    claims = [claim for _ in range(4) for claim in store.claim_due(50)]

    due = dict(db.execute("select id, scheduled_for from sms_retry.sms_retry_queue").fetchall())
    assert len(claims) == 200
    assert all(due[earlier.id] <= due[later.id] for earlier, later in pairwise(claims))


def test_a_business_with_many_messages_does_not_delay_another(db: psycopg.Connection, store: Store) -> None:
    fill(db, 3_000)
    late = [store.queue(Message(number(n), "Hello.", kind="otp", business_id=f"b{n}")) for n in range(5)]

    taken = {claim.message_id for claim in store.claim_due(20)}

    assert taken >= set(late)
    assert len(taken) == 20


def test_one_message_of_each_business_comes_before_the_others(db: psycopg.Connection, store: Store) -> None:
    fill(db, 120)
    single = {store.queue(Message(number(n), "Hello.", kind="otp", business_id=f"b{n}")) for n in range(500, 506)}
    assert single < {claim.message_id for claim in store.claim_due(30)[:7]}


def test_a_claim_takes_equal_shares_of_the_businesses(db: psycopg.Connection, store: Store) -> None:
    business = {
        store.queue(Message(number(n), "Hello.", kind="otp", business_id=f"b{n % 8}")): n % 8 for n in range(80)
    }
    shares = Counter(business[claim.message_id] for claim in store.claim_due(20))
    assert sorted(shares.values()) == [2, 2, 2, 2, 3, 3, 3, 3]


def test_each_of_more_businesses_than_rows_in_a_claim_has_its_turn(db: psycopg.Connection, store: Store) -> None:
    fill(db, 3_000)
    late = {store.queue(Message(number(n), "Hello.", kind="otp", business_id=f"b{n}")) for n in range(60)}
    for _ in range(100):
        late -= {claim.message_id for claim in store.claim_due(20)}
    assert not late


def test_a_message_is_not_claimed_before_it_is_due(db: psycopg.Connection, store: Store) -> None:
    fill(db, 20, due="now() + make_interval(mins => n - 10)")
    assert len(store.claim_due(50)) == 10
    assert store.claim_due(50) == []

    let_time_pass(db, minutes=1)
    assert len(store.claim_due(50)) == 1


def test_a_message_that_is_not_due_cannot_be_claimed_by_id(db: psycopg.Connection, store: Store) -> None:
    fill(db, 1, due="now() + interval '1 minute'")
    assert store.claim_now(1) is None


def test_a_claim_skips_a_locked_row(db: psycopg.Connection, store: Store, database_url: str) -> None:
    fill(db, 3)
    with psycopg.connect(database_url) as other:
        other.execute("select from sms_retry.sms_retry_queue where id = 1 for update")
        assert [claim.id for claim in store.claim_due(10)] == [2, 3]
        assert store.claim_now(1) is None
    assert [claim.id for claim in store.claim_due(10)] == [1]


def test_a_claim_contains_all_that_a_send_needs(db: psycopg.Connection, store: Store) -> None:
    db.execute(
        "insert into sms_retry.sms_recipients (business_id, phone_number, consent, time_zone)"
        " values ('acme', %s, 'opted_in', 'Asia/Tokyo')",
        [number(7)],
    )
    message_id = take_in(store, 7, business_id="acme", kind="marketing", time_zone="Asia/Kolkata")
    [claim] = store.claim_due(1)

    assert (claim.ticket, claim.message_id) == ((1, 1), message_id)
    assert (claim.to_number, claim.body, claim.business_id) == (number(7), "Your parcel is here.", "acme")
    assert (claim.kind, claim.consent, claim.held_until) == ("marketing", "opted_in", None)
    assert (claim.time_zone, claim.recipient_time_zone) == ("Asia/Kolkata", "Asia/Tokyo")
    assert claim.claimed_at == one(db, "select claimed_at from sms_retry.sms_retry_queue")
    assert claim.expires_at == one(db, "select expires_at from sms_retry.sms_messages")


def test_each_claim_raises_the_attempt_and_nothing_lowers_it(db: psycopg.Connection, store: Store) -> None:
    take_in(store)
    endings = [
        ("deferred", {"delays": (MINUTE,)}),
        ("refused", {"delays": (MINUTE,), "spends": False}),
        ("refused", {"delays": (MINUTE,), "code": 30001}),
        ("unknown", {}),
        ("accepted", {"sid": "SM" + "0" * 32}),
    ]
    for attempt, (outcome, facts) in enumerate(endings, start=1):
        [claim] = store.claim_due(1)
        assert claim.attempt == attempt
        finish(store, claim, outcome, **facts)
        let_time_pass(db, minutes=31)
        store.release_unknown([claim.ticket])
        assert_state(db, attempt=attempt)
    assert_state(db, message="sent")


@pytest.mark.parametrize(
    ("to_one_business", "to_all", "consent"),
    [
        (None, None, "unknown"),
        ("opted_in", None, "opted_in"),
        ("opted_out", None, "opted_out"),
        (None, "opted_in", "opted_in"),
        ("opted_in", "opted_out", "opted_out"),
        ("opted_out", "opted_in", "opted_out"),
        ("unknown", "opted_in", "opted_in"),
    ],
)
def test_an_opt_out_from_all_businesses_outweighs_an_opt_in_to_one(
    db: psycopg.Connection, store: Store, to_one_business: str | None, to_all: str | None, consent: str
) -> None:
    message_id = take_in(store)
    for business_id, said in (("default", to_one_business), ("*", to_all)):
        if said:
            row = [business_id, number(), said]
            db.execute(
                "insert into sms_retry.sms_recipients (business_id, phone_number, consent) values (%s, %s, %s)", row
            )
    claim = store.claim_now(message_id)
    assert claim
    assert claim.consent == consent


@pytest.mark.parametrize(
    ("kind", "consent", "status"),
    [
        ("transactional", "unknown", "queued"),
        ("transactional", "opted_out", "failed"),
        ("otp", "opted_out", "failed"),
        ("emergency", "opted_out", "failed"),
        ("marketing", "unknown", "failed"),
        ("marketing", "opted_in", "queued"),
    ],
)
def test_a_message_without_consent_fails_at_the_entry(
    db: psycopg.Connection, store: Store, kind: str, consent: str, status: str
) -> None:
    store.set_consent("*", number(), consent)
    assert_state(db, take_in(store, kind=kind), message=status)


def test_an_opt_out_ends_the_waiting_messages_of_that_person(db: psycopg.Connection, store: Store) -> None:
    same_person, other_business, other_person = take_in(store), take_in(store, business_id="acme"), take_in(store, 2)

    assert store.set_consent("acme", number(), "opted_out") == 1
    assert_state(db, other_business, message="failed", queue="failed")
    assert_state(db, same_person, message="queued")

    assert store.set_consent("*", number(), "opted_out") == 1
    assert_state(db, same_person, message="failed", reason="opted_out")
    assert_state(db, other_person, message="queued")
    assert count(db, "sms_recipients") == 2


@pytest.mark.parametrize(("begins_at_the_oldest", "least", "most"), [(True, 10, 40), (False, 400, 450)])
def test_a_claim_passes_over_the_index_entries_that_an_open_snapshot_keeps(
    db: psycopg.Connection, store: Store, database_url: str, begins_at_the_oldest: bool, least: int, most: int
) -> None:
    fill(db, 420, due="now() - interval '1 hour' + n * interval '1 second'")
    with psycopg.connect(database_url) as report:
        report.execute("set transaction isolation level repeatable read")
        report.execute("select from sms_retry.sms_retry_queue")
        for claim in store.claim_due(400):
            store.finish([Report.accepted(claim.ticket, sid(), 201)])
        since = store.take_stock(1).since if begins_at_the_oldest else None
        with db.transaction():
            assert len(db.execute("select from sms_retry.claim_sms(10, %s)", [since]).fetchall()) == 10
            read = sum(
                one(db, f"select pg_stat_get_xact_tuples_returned('sms_retry.sms_retry_queue_{index}'::regclass)")
                for index in ("due", "lanes")
            )
    assert least <= read <= most


def test_a_row_that_becomes_due_before_the_oldest_waits_for_the_next_run(db: psycopg.Connection, store: Store) -> None:
    take_in(store)
    let_time_pass(db, hours=1)
    since = store.take_stock(1).since
    late = take_in(store, 2)
    db.execute(
        "update sms_retry.sms_retry_queue set scheduled_for = now() - interval '2 hours' where message_id = %s", [late]
    )
    assert late not in [claim.message_id for claim in store.claim_due(10, since)]
    assert [claim.message_id for claim in store.claim_due(10, store.take_stock(1).since)] == [late]


def test_a_message_of_a_transaction_that_began_before_the_run_is_claimed_in_it(
    db: psycopg.Connection, store: Store
) -> None:
    since = store.take_stock(1).since
    message_id = take_in(store)
    let_time_pass(db, seconds=50)
    assert [claim.message_id for claim in store.claim_due(10, since)] == [message_id]


def _rows_read(db: psycopg.Connection) -> dict[str, int]:
    """The rows that this transaction has read so far, by table and through the due index."""
    read: dict[str, int] = {}
    for table in ("sms_retry_queue", "sms_messages"):
        of = f"'sms_retry.{table}'::regclass"
        read[f"{table} by scan"] = one(db, f"select pg_stat_get_xact_tuples_returned({of})")
        read[f"{table} by index"] = one(db, f"select pg_stat_get_xact_tuples_fetched({of})")
    index = "'sms_retry.sms_retry_queue_due'::regclass"
    read["sms_retry_queue_due"] = one(db, f"select pg_stat_get_xact_tuples_returned({index})")
    return read


def _plan_of_the_claim(db: psycopg.Connection, limit: int) -> dict[str, Any]:
    def statement(source: str) -> str:
        found = re.search(r"with due as .*?;", source, re.DOTALL)
        assert found
        statement = found[0].replace(" into more, lanes", "")
        values = {
            "lanes": "'{0}'::int[]",
            "ids": "'{}'::bigint[]",
            "taken": "'{}'::bigint[]",
            "before": "now()",
            "since": "'-infinity'",
        }
        for variable, value in (values | {"places": str(limit), "share": str(limit)}).items():
            statement = re.sub(rf"(?<!\.)\b{variable}\b", value, statement)
        return statement

    return plan(db, "due_sms_of_lanes(bigint[],bigint[],int,timestamptz,timestamptz,bigint[])", statement)


@pytest.mark.parametrize(
    "parts",
    [
        {"sender": "+15005550009"},
        {"media_urls": ("https://shop.example.com/a.jpg",)},
        {"content_sid": "HX" + "0" * 32},
    ],
)
def test_the_claims_of_release_01_leave_out_messages_that_it_cannot_send(
    db: psycopg.Connection, store: Store, parts: dict[str, Any]
) -> None:
    plain = take_in(store, 1)
    message_id = store.queue(Message(number(2), "Your parcel is here.", kind="otp", **parts))
    former = db.execute("select message_id from sms_retry.claim_due_sms_retries(10)").fetchall()
    assert former == [(plain,)]
    assert db.execute("select from sms_retry.claim_sms_now(%s)", [message_id]).fetchall() == []

    [claim] = store.claim_due(10)
    assert claim.message_id == message_id
    assert claim.sender == parts.get("sender")


def test_release_01_takes_in_no_message_that_it_would_send_from_another_sender(
    db: psycopg.Connection, store: Store
) -> None:
    db.execute("insert into sms_retry.sms_senders (sender, business_id) values ('+15005550009', 'shop')")
    [row] = db.execute(
        "select id, message_id from sms_retry.queue_and_claim_sms(%s, 'Hello.', business_id => 'shop')", [number()]
    ).fetchall()
    assert row == (None, one(db, "select id from sms_retry.sms_messages"))
    assert [claim.sender for claim in store.claim_due(10)] == ["+15005550009"]
