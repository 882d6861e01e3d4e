"""The life of some messages in a database that has many others already: each step, and what the server spends on it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

import psycopg

from local.postgres.server import postgres
from sms_retry.migrate import migrate
from sms_retry.store import Store
from sms_retry.values import Message, Receipt, Report, Ticket
from tests.scale.reading import Spent, sessions, spent

# Messages that the database has already, and the messages whose lives are measured.
OTHERS, MEASURED = 300_000, 4_000
BATCH = 100
# 105 characters.
BODY = "Your table for four at the Old Harbour is ready. Please come within fifteen minutes, or call us. Thank you"
RECEIPTS = ("queued", "sent", "delivered")
KEPT = 8
USAGE = "counts of usage added together"
REMOVED = ("queue row, attempt and receipts removed", "message removed")
# A second way to be queued: it is no step of the life.
AT_ONCE = f"queued, {MEASURED:,} a call"

# Keys, numbers and SIDs in no order, as those of applications, persons and Twilio.
FILL = f"""
with messages as (
    insert into sms_retry.sms_messages (message_key, business_id, to_number, body, kind, on_unknown, expires_at, status,
        provider_sid, sent_at, ask_at, delivered_at, segments)
    select 'order-' || md5(n::text), 'business-' || n %% 1000, '+1' || 2000000000 + (hashint4(n) & 2147483647)::bigint,
        %(body)s, 'transactional', 'resend', now() + interval '3 days', 'delivered', 'SM' || md5('sid' || n), now(),
        now(), now(), 1
    from generate_series(1, {OTHERS}) n
    returning id, kind, business_id, provider_sid
)
, queue as (
    insert into sms_retry.sms_retry_queue (message_id, lane, status, scheduled_for, attempt, finished_at)
    select id, sms_retry.sms_lane(kind, business_id, null, false), 'completed', now(), 1, now() from messages
    returning id, message_id
)
, attempts as (
    insert into sms_retry.sms_attempts (queue_id, attempt, outcome, message_sid, http_status, twilio_request_id)
    select q.id, 1, 'accepted', m.provider_sid, 201, 'RQ' || md5('request' || q.id)
    from queue q join messages m on m.id = q.message_id
)
insert into sms_retry.sms_delivery_events (message_sid, status, ticket)
select m.provider_sid, e.status, '1-1' from messages m cross join unnest(%(receipts)s::text[]) e (status)
"""
# Vacuum comes when a step calls it, and no sooner.
NO_VACUUM = "alter table sms_retry.%s set (autovacuum_enabled = off)"
OURS = "select min(id) from sms_retry.sms_messages where message_key like 'ours-%'"
# As if the messages had ended long ago.
AGE = """
with aged as (
    update sms_retry.sms_messages
    set created_at = created_at - interval '400 days', updated_at = updated_at - interval '400 days'
    where message_key like 'ours-%' returning id)
update sms_retry.sms_retry_queue q set finished_at = finished_at - interval '400 days'
from aged where aged.id = q.message_id
"""

SIZES = """
select relname, pg_total_relation_size(oid) from pg_class
where relnamespace = 'sms_retry'::regnamespace
    and relname in ('sms_messages', 'sms_retry_queue', 'sms_attempts', 'sms_delivery_events')
"""

Step = Callable[[Store], object]


@dataclass(frozen=True)
class Life:
    """`steps` is what each step spends on a message; `bytes` what a message has in each table and its indexes."""

    steps: dict[str, Spent]
    bytes: dict[str, float]


def life(durable: bool) -> Life:
    """A server that is not durable writes no images of pages into its write-ahead log."""
    with postgres(durable=durable) as server:
        url = server.create_database("sms_retry_life")
        migrate(url)
        with psycopg.connect(url, autocommit=True) as db:
            fill(db)
            at_rest = {table: float(size) / OTHERS for table, size in db.execute(SIZES).fetchall()}
            return Life({name: _step(db, url, step) for name, step in _steps(db)}, at_rest)


def fill(db: psycopg.Connection) -> None:
    for (table,) in db.execute("select tablename from pg_tables where schemaname = 'sms_retry'").fetchall():
        db.execute(NO_VACUUM % table)  # type: ignore[call-overload]
    db.execute(FILL, {"body": BODY, "receipts": list(RECEIPTS)})
    db.execute("vacuum analyze")


def _step(db: psycopg.Connection, url: str, step: Step) -> Spent:
    """After a checkpoint, so that a page's first change in the step writes its image."""
    db.execute("checkpoint")
    before = spent(db)
    with closing(Store(lambda: url)) as store:
        step(store)
        ours = sessions(db)
    return spent(db, ours).per(before, MEASURED)


def _steps(db: psycopg.Connection) -> Iterator[tuple[str, Step]]:
    tickets: list[Ticket] = []
    yield AT_ONCE, _queue_at_once
    yield "queued, one a call", _queue
    yield f"claimed, {BATCH} a call", partial(_claim, tickets)
    yield f"accepted, {BATCH} a call", partial(_finish, tickets)
    for status in RECEIPTS:
        yield f"receipt: {status}", partial(_receive, tickets, status)
    yield USAGE, lambda store: store.fold_usage()
    row = db.execute(OURS).fetchone()
    assert row
    db.execute(AGE)
    yield REMOVED[0], lambda store: _all_of(store.cleanup())
    yield REMOVED[1], lambda store: _all_of(store.remove_old(KEPT, row[0] - 1)[0])


def _queue(store: Store) -> None:
    for n in range(MEASURED):
        store.queue(Message(_number(n), BODY, f"ours-{_digest(n)}", f"business-{n % 1000}"))


def _queue_at_once(store: Store) -> None:
    """They wait until tomorrow, so that no later step meets them."""
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    each = [(_number(-n), f"later-{_digest(n)}", f"business-{n % 1000}") for n in range(1, MEASURED + 1)]
    messages = [
        {"to": to, "body": BODY, "message_key": key, "business_id": business, "scheduled_for": tomorrow}
        for to, key, business in each
    ]
    _all_of(len(store.queue_many(json.dumps(messages), None)))


def _claim(tickets: list[Ticket], store: Store) -> None:
    while claims := store.claim_due(BATCH):
        tickets += [claim.ticket for claim in claims]
    _all_of(len(tickets))


def _finish(tickets: list[Ticket], store: Store) -> None:
    for start in range(0, MEASURED, BATCH):
        batch = tickets[start : start + BATCH]
        store.finish(
            [Report(each, "accepted", _sid(each), http_status=201, request_id=f"RQ{_sid(each)[2:]}") for each in batch]
        )


def _receive(tickets: list[Ticket], status: str, store: Store) -> None:
    for ticket in tickets:
        answer = store.record_delivery(Receipt(_sid(ticket), status, None, ticket, ""))
        assert answer == ("settled" if status == "delivered" else "noted"), answer


def _all_of(count: int) -> None:
    assert count == MEASURED, count


def _digest(n: int) -> str:
    return hashlib.md5(str(n).encode(), usedforsecurity=False).hexdigest()


def _number(n: int) -> str:
    return f"+1201{2000000 + int(_digest(n), 16) % 8000000}"


def _sid(ticket: Ticket) -> str:
    return f"SM{_digest(-ticket.id)}"
