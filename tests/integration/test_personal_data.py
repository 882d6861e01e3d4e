"""Erasing, the export and retention reach every column that can hold a number or a text.

The columns are found in the tables: a new column or table fails these tests until it is reached too.
"""

from __future__ import annotations

from datetime import timedelta

import psycopg
import pytest
from psycopg import sql

from local.waiting import let_time_pass
from sms_retry import operate
from sms_retry.store import Store
from sms_retry.values import Message
from tests.integration.examples import claimed, count, finish, number, receipt, sid, take_in

MARK = "private text"

# The rows of one person in each table.
ROWS = {
    "sms_messages": "true",
    "sms_retry_queue": "true",
    "sms_attempts": "true",
    "sms_delivery_events": "true",
    "sms_recipients": "true",
    "sms_holds": "scope = 'recipient'",
    "sms_outbox": "true",
}
# No row of these tables concerns one person: reference data, settings, sums, and actions, whose numbers are masked.
NOBODYS = {
    "sms_actions",
    "sms_area_codes",
    "sms_budgets",
    "sms_calling_codes",
    "sms_error_overrides",
    "sms_event_types",
    "sms_hours_overrides",
    "sms_limits",
    "sms_replies",
    "sms_senders",
    "sms_usage",
}
# The keys that join the rows of a person, or name the message to its application. They are not texts of a message.
KEYS = {
    ("sms_messages", "to_number"),
    ("sms_messages", "provider_sid"),
    ("sms_attempts", "message_sid"),
    ("sms_delivery_events", "message_sid"),
    ("sms_recipients", "phone_number"),
    ("sms_holds", "key"),
}
# The columns of a message that its text does not reach.
NO_TEXTS = {
    "message_key",
    "business_id",
    "time_zone",
    "error_message",
    "sender",
    "batch",
    "content_sid",
}


def tables(db: psycopg.Connection) -> set[str]:
    """The tables of the schema, without those of the migrations."""
    found = db.execute("select tablename from pg_tables where schemaname = 'sms_retry'")
    return {name for (name,) in found if name.startswith("sms_") and "migration" not in name and "repair" not in name}


def text_columns(db: psycopg.Connection, table: str) -> list[tuple[str, str]]:
    """The columns of a table that can hold any text, with their types."""
    found = db.execute(
        """select column_name, case data_type when 'ARRAY' then udt_name else data_type end
        from information_schema.columns
        where table_schema = 'sms_retry' and table_name = %s
            and (data_type in ('text', 'character varying', 'json', 'jsonb', 'bytea')
                or udt_name in ('_text', '_varchar'))
        order by 1""",
        [table],
    )
    return [(name, type) for name, type in found if (table, name) not in KEYS]


def mark(db: psycopg.Connection) -> set[tuple[str, str]]:
    """Write a text of its own to every column of the person's rows; returns the columns that took it."""
    marked = set()
    for table, rows in ROWS.items():
        assert db.execute(f"select 1 from sms_retry.{table} where {rows}").fetchone(), table
        for column, type in text_columns(db, table):
            value = f"{MARK} {table}.{column}"
            given = f'{{"x": "{value}"}}' if type.startswith("json") else f'{{"{value}"}}' if type[0] == "_" else value
            update = sql.SQL("update {} set {} = %s where {}").format(
                sql.Identifier("sms_retry", table), sql.Identifier(column), sql.SQL(rows)
            )
            try:
                with db.transaction():
                    db.execute(update, [given])
            except psycopg.errors.CheckViolation:
                # A column with a list of values holds no text.
                continue
            marked.add((table, column))
    return marked


def left(db: psycopg.Connection) -> dict[str, str]:
    """The rows of each table that hold a marked text or the person's number, as text."""
    found = {}
    for table in tables(db):
        rows = str(db.execute(f"select t::text from sms_retry.{table} t").fetchall())
        if MARK in rows or number(1) in rows:
            found[table] = rows
    return found


@pytest.fixture
def marked(db: psycopg.Connection, store: Store) -> set[tuple[str, str]]:
    """One person with a row in every table of persons; the message has ended."""
    claim = claimed(store, 1, message_key="order-1")
    finish(store, claim, "accepted", sid=sid(1))
    receipt(store, sid(1), "delivered")
    store.set_consent("default", number(1), "opted_in")
    operate.hold(store, "anna", "recipient", number(1), timedelta(minutes=1), "asked for a pause")
    db.execute("insert into sms_retry.sms_outbox (type, message_id) values ('delivered', %s)", [claim.message_id])
    return mark(db)


def test_each_table_is_known_to_hold_rows_of_persons_or_not(db: psycopg.Connection) -> None:
    assert tables(db) == set(ROWS) | NOBODYS


def test_the_search_for_columns_finds_those_with_texts(marked: set[tuple[str, str]]) -> None:
    assert {
        ("sms_messages", "body"),
        ("sms_messages", "media_urls"),
        ("sms_messages", "content_variables"),
        ("sms_messages", "error_message"),
        ("sms_attempts", "error_message"),
        ("sms_outbox", "detail"),
        ("sms_holds", "reason"),
    } <= marked


def test_erasing_a_person_leaves_no_number_and_no_text(
    db: psycopg.Connection, store: Store, marked: set[tuple[str, str]]
) -> None:
    assert set(left(db)) == set(ROWS) - {"sms_retry_queue"} | {table for table, _ in marked}
    operate.erase(store, "anna", number(1))
    assert left(db) == {}


def test_the_export_has_every_column_of_the_person(store: Store, marked: set[tuple[str, str]]) -> None:
    exported = str(operate.export(store, "anna", number(1)))
    assert [column for column in marked if f"{MARK} {'.'.join(column)}" not in exported] == []


def test_an_export_is_recorded_without_the_number_and_has_nothing_of_others(
    db: psycopg.Connection, store: Store
) -> None:
    take_in(store, 1)
    store.queue(Message(number(2), "For another person.", message_key="other"))

    exported = operate.export(store, "anna", number(1))

    assert [message["to_number"] for message in exported["messages"]] == [number(1)]
    assert number(2) not in str(exported)
    actions = db.execute("select actor, action, subject, result from sms_retry.sms_actions").fetchall()
    assert actions == [("anna", "export", "+4917*******01", "messages: 1")]


def test_the_erasing_of_texts_reaches_every_text_of_a_message(
    db: psycopg.Connection, store: Store, marked: set[tuple[str, str]]
) -> None:
    assert {column for column, _ in text_columns(db, "sms_messages")} >= NO_TEXTS
    texts = {column for table, column in marked if table == "sms_messages"} - NO_TEXTS
    let_time_pass(db, days=1, seconds=1)
    assert store.erase_bodies(1) == 1
    message = str(db.execute("select m::text from sms_retry.sms_messages m").fetchall())
    assert [column for column in texts if f"{MARK} sms_messages.{column}" in message] == []


@pytest.mark.usefixtures("marked")
def test_retention_leaves_only_the_consent_and_events_that_no_consumer_has_confirmed(
    db: psycopg.Connection, store: Store
) -> None:
    let_time_pass(db, days=8)
    while store.cleanup():
        pass
    assert store.remove_old(30) == (0, None)
    let_time_pass(db, days=30)
    assert store.remove_old(30) == (1, 1)
    assert store.remove_old(30, 1) == (0, None)
    assert set(left(db)) <= {"sms_recipients", "sms_outbox"}


def test_retention_removes_only_messages_that_ended_long_ago(db: psycopg.Connection, store: Store) -> None:
    waiting = store.queue(Message(number(1), "Later.", kind="otp"))
    finish(store, claimed(store, 2), "refused", code=21211)
    let_time_pass(db, days=31)
    young = claimed(store, 3)
    finish(store, young, "refused", code=21211)
    # The queue row of an old message is removed first.
    assert store.remove_old(30)[0] == 0
    while store.cleanup():
        pass

    assert store.remove_old(30)[0] == 1

    assert {row[0] for row in db.execute("select id from sms_retry.sms_messages")} == {waiting, young.message_id}
    assert count(db, "sms_messages") == 2


@pytest.mark.parametrize(("how", "erased"), [("delivered", 1), ("undelivered", 1), (None, 0)])
def test_zero_days_erase_a_text_at_the_end_of_its_message_and_not_while_it_may_be_sent_again(
    db: psycopg.Connection, store: Store, how: str | None, erased: int
) -> None:
    finish(store, claimed(store, 1), "accepted", sid=sid(1))
    if how:
        receipt(store, sid(1), how)
    let_time_pass(db, seconds=1)
    assert store.erase_bodies(0) == erased
    let_time_pass(db, days=1)
    assert store.erase_bodies(0) == 1 - erased
