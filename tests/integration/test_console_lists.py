"""The console's lists: their messages, their order, and the number of rows that they read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.waiting import let_time_pass
from sms_retry import operate
from sms_retry.store import Store
from sms_retry.values import Hold, Message, Ticket
from tests.integration.examples import MINUTE, accepted, claimed, fill, finish, number, one, sid, take_in, unknown

FIRST, LAST, LAST_ID = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC), 2**63 - 1


def ids(rows: list[Any]) -> list[int]:
    return [row.message_id for row in rows]


def ended(store: Store, how: str, code: int | None = None, hours: int = 24, **after: Any) -> list[int]:
    since = datetime.now(UTC) - timedelta(hours=hours)
    before, before_id = after.get("before", LAST), after.get("before_id", LAST_ID)
    return ids(store.ended(how, code, since, before, before_id, after.get("limit", 50)))


@given(st.from_regex(r"\+[1-9][0-9]{1,14}", fullmatch=True))
def test_sql_masks_a_number_as_python_does(db: psycopg.Connection, phone_number: str) -> None:
    assert one(db, "select sms_retry.masked_sms_number(%s)", [phone_number]) == operate.masked(phone_number)


def test_a_list_shows_masked_numbers(store: Store) -> None:
    id = take_in(store, 1, business_id="shop")
    [row] = store.listed([id])
    assert (row.business_id, row.kind, row.status, row.queue_status, row.ended) == (
        "shop",
        "otp",
        "queued",
        "pending",
        False,
    )
    assert row.number == operate.masked(number(1))


def test_only_waiting_messages_are_listed_the_earliest_due_first(db: psycopg.Connection, store: Store) -> None:
    accepted(store, 1)
    claimed(store, 2)
    late, later, same, same_again = (take_in(store, n) for n in range(3, 7))
    for id, due in ((late, "9 min"), (later, "3 min"), (same, "5 min"), (same_again, "5 min")):
        db.execute(
            "update sms_retry.sms_retry_queue set scheduled_for = date_trunc('minute', now()) - %s::interval"
            " where message_id = %s",
            [due, id],
        )
    rows = store.waiting(FIRST, 0, 50)
    assert ids(rows) == [late, same, same_again, later]
    assert ids(store.waiting(rows[1].at, rows[1].queue_id, 1)) == [same_again]


def test_stuck_messages_are_listed_with_the_ones_for_a_person_first(db: psycopg.Connection, store: Store) -> None:
    parked = unknown(store, 1, on_unknown="hold").message_id
    let_time_pass(db, hours=73)
    store.release_unknown([Ticket(*row) for row in db.execute("select id, attempt from sms_retry.sms_retry_queue")])
    lost = claimed(store, 2).message_id
    overdue = take_in(store, 3)
    let_time_pass(db, minutes=6)
    asked = unknown(store, 4).message_id
    take_in(store, 5)
    claimed(store, 6)
    accepted(store, 7)

    rows = store.stuck(50)

    assert ids(rows) == [parked, lost, overdue, asked]
    assert [(row.queue_status, row.ended) for row in rows] == [
        ("unknown", True),
        ("processing", False),
        ("pending", False),
        ("unknown", False),
    ]


def test_a_cancelled_unknown_message_is_no_longer_stuck(db: psycopg.Connection, store: Store) -> None:
    id = unknown(store, 1).message_id
    assert ids(store.stuck(50)) == [id]
    operate.cancel(store, "ana", id)
    assert ids(store.stuck(50)) == []


def test_ended_messages_are_listed_by_status_and_code_the_latest_first(db: psycopg.Connection, store: Store) -> None:
    failed = []
    for n, code in enumerate((21211, 30007, 21211), 1):
        claim = claimed(store, n)
        finish(store, claim, "refused", code=code)
        failed.insert(0, claim.message_id)
        let_time_pass(db, hours=10)
    sent = accepted(store, 4).message_id

    assert ended(store, "failed", hours=100) == failed
    assert ended(store, "failed", 21211, hours=100) == failed[::2]
    assert ended(store, "failed", hours=15) == failed[:1]
    assert ended(store, "completed") == [sent]
    assert ended(store, "expired") == []
    assert ended(store, "failed", 1, hours=100) == []


def test_messages_that_ended_at_the_same_instant_are_listed_once_each(db: psycopg.Connection, store: Store) -> None:
    fill(db, 30)
    db.execute("update sms_retry.sms_retry_queue set status = 'failed', finished_at = date_trunc('hour', now())")
    seen: list[int] = []
    after: dict[str, Any] = {}
    while page := ended(store, "failed", limit=7, **after):
        seen += page
        [last] = store.listed(page[-1:])
        after = {"before": last.at, "before_id": last.queue_id}
    assert seen == list(range(30, 0, -1))


def test_all_messages_to_one_number_are_listed_the_latest_first(store: Store) -> None:
    sent = [take_in(store, 1), take_in(store, 1), take_in(store, 1)]
    take_in(store, 2)
    assert ids(store.to_same_person(sent[0], LAST_ID, 50)) == sent[::-1]
    assert ids(store.to_same_person(sent[0], sent[2], 1)) == [sent[1]]


def test_a_message_without_its_queue_row_is_still_listed_and_shown(db: psycopg.Connection, store: Store) -> None:
    id = accepted(store, 1).message_id
    let_time_pass(db, days=8)
    assert store.cleanup()
    [row] = store.to_same_person(id, LAST_ID, 50)
    assert (row.status, row.queue_status, row.ended) == ("sent", None, True)
    details = store.message_details(id)
    assert details
    assert (details.queue_status, details.max_retries, details.ended) == (None, None, True)


def test_a_word_finds_messages_by_id_key_sid_and_number(store: Store) -> None:
    id = store.queue(Message(number(1), "Hello.", message_key="order-1", business_id="bakery", kind="otp"))
    other = store.queue(Message(number(1), "Hello.", message_key="order-1", business_id="shop", kind="otp"))
    store.queue(Message(number(2), "Hello.", message_key="order-2", business_id="bakery", kind="otp"))
    sent = accepted(store, 3).message_id

    def found(word: str, phone_number: str | None = None) -> list[tuple[int, str]]:
        return [(row.message_id, row.found_by) for row in store.found(word, phone_number)]

    assert found(str(id)) == [(id, "id")]
    assert found("order-1") == [(id, "key"), (other, "key")]
    assert found(sid(3)) == [(sent, "sid")]
    assert found("+49...", number(1)) == [(other, "number")]
    assert found("nothing", number(9)) == found("nothing") == found("9" * 30) == []


def test_the_last_day_is_counted_by_hour_status_and_code(db: psycopg.Connection, store: Store) -> None:
    accepted(store, 1)
    finish(store, claimed(store, 2), "refused", code=21211)
    let_time_pass(db, hours=2)
    finish(store, claimed(store, 3), "refused", code=21211)
    let_time_pass(db, hours=30)
    accepted(store, 4)
    take_in(store, 5)
    rows = store.last_day()
    assert [(row.status, row.error_code, row.messages) for row in rows] == [("completed", None, 1)]
    assert rows[0].hour.minute == rows[0].hour.second == 0


def test_waiting_messages_are_counted_by_their_reason(store: Store) -> None:
    take_in(store, 1)
    for n in (2, 3):
        finish(store, claimed(store, n), "deferred", delays=(MINUTE * n,), reason="quiet_hours")
    counted = store.waiting_for()
    assert [(row.reason, row.messages) for row in counted] == [("quiet_hours", 2), (None, 1)]


def test_holds_are_listed_the_wider_first_and_with_masked_numbers(store: Store) -> None:
    for scope, key in (("recipient", number(1)), ("account", "*"), ("country", "+44")):
        store.set_hold(Hold(scope, key, MINUTE, "error_30002"))
    holds = store.current_holds()
    assert [(hold.scope, hold.masked_key) for hold in holds] == [
        ("account", "*"),
        ("country", "+44"),
        ("recipient", operate.masked(number(1))),
    ]


def test_two_hundred_holds_on_persons_hide_no_wider_hold(db: psycopg.Connection, store: Store) -> None:
    wide = ["account", "sender", "country", "business", "batch"]
    for scope in reversed(wide):
        store.set_hold(Hold(scope, "+44" if scope == "country" else "*", MINUTE, "by hand"))
    db.execute(
        """insert into sms_retry.sms_holds (scope, key, until, wait, reason)
        select 'recipient', '+49176' || n, now(), '1 hour', 'by hand' from generate_series(1000000, 1000199) n"""
    )
    assert [hold.scope for hold in store.current_holds()[:6]] == [*wide, "recipient"]


LISTS: dict[str, tuple[str, tuple[Any, ...], int]] = {
    "waiting": ("waiting_sms", (FIRST, 0, 50), 50),
    "stuck": ("stuck_sms", (50,), 50),
    "failed": ("ended_sms", ("failed", None, FIRST, LAST, LAST_ID, 50), 50),
    "failed with a code": ("ended_sms", ("failed", 30003, FIRST, LAST, LAST_ID, 50), 50),
    "failed with a code of no message": ("ended_sms", ("failed", 1, FIRST, LAST, LAST_ID, 50), 0),
    "to one person": ("sms_of_same_person", (1, LAST_ID, 50), 1),
}


def fill_with_ended(db: psycopg.Connection) -> None:
    """20,000 messages: every second one has ended within six hours, a tenth of those as failed."""
    # With statistics from before, so that the planner believes that the queue is empty.
    db.execute("analyze sms_retry.sms_retry_queue, sms_retry.sms_messages")
    fill(db, 20_000)
    db.execute(
        """update sms_retry.sms_retry_queue set status = case when id % 20 = 1 then 'failed' else 'completed' end,
            finished_at = now() - id * interval '1 second', last_error_code = case when id % 20 = 1 then 30003 end
        where id % 2 = 1"""
    )


@pytest.mark.parametrize("erased", [False, True])
@pytest.mark.parametrize("name", LISTS)
def test_a_list_reads_one_page_of_an_index(db: psycopg.Connection, name: str, erased: bool) -> None:
    fill_with_ended(db)
    if erased:
        db.execute("update sms_retry.sms_retry_queue set body_erased = true where finished_at is not null")
        db.execute("vacuum sms_retry.sms_retry_queue")
    function, given, rows = LISTS[name]
    places = ", ".join(["%s"] * len(given))
    listed, scanned, walked = _reading(
        db, f"select * from sms_retry.listed_sms(array(select sms_retry.{function}({places})))", given
    )
    assert (len(listed), scanned) == (rows, 0)
    # One entry to find a row, one of its earlier version, and two to show it.
    assert walked <= 4 * rows + 10


@pytest.mark.parametrize(("function", "most"), [("sms_waiting_for", 2_010), ("sms_last_day", 10_010)])
def test_a_chart_reads_an_index_and_only_the_next_thousand_waiting_messages(
    db: psycopg.Connection, function: str, most: int
) -> None:
    fill_with_ended(db)
    counted, scanned, walked = _reading(db, f"select messages from sms_retry.{function}()")
    assert sum(messages for (messages,) in counted) >= 1_000
    assert scanned == 0
    assert walked <= most


def _reading(
    db: psycopg.Connection, statement: str, given: tuple[Any, ...] = ()
) -> tuple[list[tuple[Any, ...]], int, int]:
    """The rows of a statement, and the number of table rows and index entries that it reads of queue and messages."""
    with db.transaction(force_rollback=True):
        before = _read(db)
        rows = db.execute(statement, given).fetchall()
        scanned, walked = (after - first for first, after in zip(before, _read(db), strict=True))
    return rows, scanned, walked


def _read(db: psycopg.Connection) -> tuple[int, int]:
    tables = "'sms_retry.sms_retry_queue'::regclass, 'sms_retry.sms_messages'::regclass"
    scanned = f"select sum(pg_stat_get_xact_tuples_returned(of)) from unnest(array[{tables}]) as of"
    walked = f"select sum(pg_stat_get_xact_tuples_returned(indexrelid)) from pg_index where indrelid in ({tables})"
    return int(one(db, scanned)), int(one(db, walked))
