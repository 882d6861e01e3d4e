"""The shared vocabulary of the integration tests: messages in a given state, and the state of a message by name."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier, Lock
from typing import Any, NamedTuple, TypeVar

import psycopg
import pytest
from psycopg.rows import namedtuple_row

from local.waiting import let_time_pass, wait_until
from sms_retry.store import Store
from sms_retry.twilio import Send
from sms_retry.values import Answer, Claim, Message, Receipt, Report, Retry, Ticket

Found = TypeVar("Found")

MINUTE = timedelta(minutes=1)


class State(NamedTuple):
    """One message and its queue row. `message` and `queue` are their statuses.

    `wait` is in whole minutes from now, and None unless the queue row is pending.
    """

    message: str
    queue: str
    attempt: int
    retry_count: int
    wait: int | None
    reason: str | None
    error_code: int | None
    provider_sid: str | None


def five_minutes_left() -> float:
    """The seconds that a worker has left: enough for everything in a test."""
    return 300.0


def number(n: int = 1) -> str:
    return f"+49176{n:08}"


def sid(n: int = 1) -> str:
    return f"SM{n:032x}"


def take_in(store: Store, n: int = 1, **fields: str) -> int:
    """Queue a message to `number(n)`, an otp unless `kind` says otherwise; returns its id."""
    return store.queue(Message(number(n), "Your parcel is here.", **{"kind": "otp", **fields}))


def fill(db: psycopg.Connection, count: int, due: str = "now() - interval '1 hour'") -> None:
    """Queue `count` messages in one statement. `due` is an SQL expression of `n`, from 1."""
    db.execute(
        f"""with messages as (
            insert into sms_retry.sms_messages
                (business_id, to_number, body, kind, on_unknown, expires_at, status, error_message)
            select 'default', '+49176' || lpad(n::text, 8, '0'), 'Hello.', 'otp', 'resend', now() + interval '3 days',
                'queued', n
            from generate_series(1, {count}) n
            returning id, kind, business_id, error_message::int as n)
        insert into sms_retry.sms_retry_queue (message_id, lane, status, scheduled_for)
        select id, sms_retry.sms_lane(kind, business_id, null, false), 'pending', {due} from messages order by id"""
    )


def claimed(store: Store, n: int = 1, **fields: str) -> Claim:
    """A queued and claimed message."""
    claim = store.claim_now(take_in(store, n, **fields))
    assert claim
    return claim


def accepted(store: Store, n: int = 1, **fields: str) -> Claim:
    """A message that Twilio accepted as `sid(n)`."""
    claim = claimed(store, n, **fields)
    assert finish(store, claim, "accepted", sid=sid(n)) == "completed"
    return claim


def unknown(store: Store, n: int = 1, **fields: str) -> Claim:
    """A message with the outcome unknown."""
    claim = claimed(store, n, **fields)
    assert finish(store, claim, "unknown") == "unknown"
    return claim


def finish(store: Store, claim: Claim, outcome: str, **facts: Any) -> str | None:
    """Report one outcome; returns the new status of the queue row, or None if the ticket is stale."""
    return store.finish([Report(claim.ticket, outcome, **facts)]).get(claim.ticket)


def receipt(
    store: Store,
    message_sid: str,
    status: str,
    code: int | None = None,
    ticket: Ticket | None = None,
    delays: Sequence[timedelta] | None = (),
    to_number: str = number(),
) -> str:
    """Record a delivery receipt; returns the answer of the store, as "settled" or "unheard_of"."""
    verdict = Retry(tuple(delays), None) if delays else None
    return store.record_delivery(Receipt(message_sid, status, code, ticket, to_number), verdict)


def assert_state(db: psycopg.Connection, message_id: int = 1, **expected: object) -> None:
    """Compare the given fields of `State`, and no others."""
    __tracebackhide__ = True
    found = state_of(db, message_id)._asdict()
    assert {name: found[name] for name in expected} == expected


def state_of(db: psycopg.Connection, message_id: int = 1) -> State:
    with db.cursor(row_factory=namedtuple_row) as cursor:
        row = cursor.execute(
            """select m.status as message, q.status as queue, q.attempt, q.retry_count,
                case when q.status = 'pending' then round(extract(epoch from q.scheduled_for - now()) / 60)::int end,
                q.reason, m.error_code, m.provider_sid, m.retry_count as of_message
            from sms_retry.sms_messages m join sms_retry.sms_retry_queue q on q.message_id = m.id
            where m.id = %s""",
            [message_id],
        ).fetchone()
    assert row
    assert row[-1] == row.retry_count
    return State(*row[:-1])


def statuses(db: psycopg.Connection) -> Counter[str]:
    return Counter(row[0] for row in db.execute("select status from sms_retry.sms_messages"))


def count(db: psycopg.Connection, table: str) -> int:
    return int(one(db, f"select count(*) from sms_retry.{table}"))


def one(db: psycopg.Connection, statement: str, given: Sequence[Any] = ()) -> Any:
    """The first column of the first row."""
    row = db.execute(statement, given).fetchone()
    assert row
    return row[0]


def in_parallel(threads: int, work: Callable[[int], Found]) -> list[Found]:
    """The results of `work(0)`, `work(1)`, …, run in as many threads that begin at the same moment."""
    together = Barrier(threads)

    def begin(n: int) -> Found:
        together.wait(timeout=10)
        return work(n)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(begin, range(threads)))


def wait_until_blocked(db: psycopg.Connection, by: psycopg.Connection) -> None:
    """Returns as soon as a connection waits for a lock that `by` holds."""
    waiting = "select exists (select from pg_locks where %s = any (pg_blocking_pids(pid)))"
    wait_until(lambda: one(db, waiting, [by.info.backend_pid]))


def claim_again(db: psycopg.Connection, store: Store, message_id: int = 1, **time: float) -> Claim:
    """Let time pass until this message is due, and claim it."""
    let_time_pass(db, **time)
    claim = store.claim_now(message_id)
    assert claim
    return claim


def end_connections(db: psycopg.Connection) -> None:
    """End the connections of all stores, as an administrator or a failover does; returns when they are gone."""
    db.execute(
        "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
        " where application_name = 'sms_retry' and datname = current_database()"
    )


def after_sending(send: Send, happens: Callable[[], object]) -> Send:
    """A send that calls `happens` after its first answer, before the worker can write that answer."""
    once = Lock()

    def send_then(claim: Claim, valid_for: timedelta) -> Answer:
        answer = send(claim, valid_for)
        if once.acquire(blocking=False):
            happens()
        return answer

    return send_then


def freeze(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lambda freezes the container for an hour: only the wall clock goes on."""
    monkeypatch.setattr(store._connection, "_used_at", time.time() - 3600)
