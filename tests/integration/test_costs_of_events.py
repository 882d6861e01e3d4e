"""Without a subscription the outbox costs nothing: as many statements and bytes of WAL as functions without events."""

from __future__ import annotations

import re
from contextlib import closing
from typing import NamedTuple

import psycopg

from local.aws.container import ROOT
from local.postgres.server import Server
from sms_retry import publish
from sms_retry.migrate import migrate
from sms_retry.store import Store
from tests.integration.examples import five_minutes_left, number, one, take_in
from tests.integration.test_costs import statements as statements  # a fixture
from tests.integration.test_events import every_ending, reply
from tests.tables import truncate_all

# An insert into the outbox: as a part of a statement, after one update, or as a whole statement.
EVENTS = (
    (re.compile(r",\n    events as \(\n.*?\n    \)", re.DOTALL), ""),
    (
        re.compile(r"with message as \((.*?)\s+returning m\.\*\n    \)\n    insert into sms_outbox .*?;", re.DOTALL),
        r"\1;",
    ),
    (re.compile(r"insert into sms_outbox .*?;", re.DOTALL), ""),
)


class Cost(NamedTuple):
    statements: int
    wal: int


def without_events(db: psycopg.Connection) -> int:
    """Replace every function that writes events by the same function without that part; the number of functions."""
    found = 0
    for file in sorted((ROOT / "sql/functions").glob("*/*.sql")):
        text = file.read_text()
        if "insert into sms_outbox" not in text:
            continue
        for written, nothing in EVENTS:
            text = written.sub(nothing, text)
        assert "sms_outbox" not in text, file.name
        db.execute(text)
        found += 1
    return found


def cost(url: str, db: psycopg.Connection, statements: list[str]) -> Cost:
    """The cost of every ending, of an opt-out and of a reply, in empty tables."""
    types = db.execute("select type from sms_retry.sms_event_types").fetchall()
    truncate_all(db)
    db.execute("select sms_retry.subscribe_sms_events(%s)", [[name for (name,) in types]])
    statements.clear()
    before = written(db)
    with closing(Store(lambda: url)) as store:
        every_ending(db, store)
        take_in(store, 7)
        store.set_consent("*", number(7), "opted_out")
        take_in(store, 7, message_key="refused")
        reply(store, "Thanks!")
    return Cost(len(statements), written(db) - before)


def written(db: psycopg.Connection) -> int:
    """The bytes of WAL, without the headers of its pages (24 bytes each 8 KB) and of its files (16 more each 16 MB)."""
    position = int(one(db, "select pg_current_wal_insert_lsn() - '0/0'::pg_lsn"))
    return position - 24 * (position // 8192) - 16 * (position // 2**24)


def test_without_a_subscription_the_outbox_costs_no_statement_and_no_wal(
    server: Server, worker_id: str, statements: list[str]
) -> None:
    ours, without = (server.create_database(f"costs_{name}_events_{worker_id}") for name in ("of", "without"))
    for url in (ours, without):
        migrate(url)
    with psycopg.connect(ours, autocommit=True) as db, psycopg.connect(without, autocommit=True) as other:
        assert without_events(other) == 9
        # In turns, and the least of nine: vacuum, the clean-up of pages and the age of a database only add to the WAL.
        pairs = [(cost(ours, db, statements), cost(without, other, statements)) for _ in range(9)]
        db.execute("select sms_retry.subscribe_sms_events(array['expired'])")
        with_one_event = min(cost(ours, db, statements).wal for _ in range(9))
    assert len({each.statements for pair in pairs for each in pair}) == 1
    unsubscribed, never = (min(each.wal for each in costs) for costs in zip(*pairs, strict=True))
    assert unsubscribed - never < 100 < (with_one_event - unsubscribed) / 2


def test_a_reply_without_a_subscription_costs_one_statement_that_writes_nothing(
    db: psycopg.Connection, store: Store, statements: list[str]
) -> None:
    least = []
    for n in range(5):
        statements.clear()
        before = written(db)
        assert not reply(store, "Thanks!", f"SM{n}")
        least.append(Cost(len(statements), written(db) - before))
    assert min(least) == Cost(statements=1, wal=0)


def test_a_publisher_without_events_executes_one_statement_each_look(store: Store, statements: list[str]) -> None:
    done = publish.publish(store, publish.event_bus("messages"), five_minutes_left, 0)
    assert done == publish.Published(0, 0)
    assert len(statements) == 1
