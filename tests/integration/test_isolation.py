"""Each pair of functions that change the state of a message, on two connections and one row at the same time.

The second function starts while the transaction of the first is open. The first transaction then commits or rolls
back. In both cases the tables end as if the two functions had run one after the other. A second function that skips
locked rows may also end as if it had run before the message existed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import Any, NamedTuple

import psycopg
import pytest

from local.waiting import let_time_pass
from sms_retry.store import Store
from tests.integration.examples import assert_state, claimed, number, one, receipt, sid
from tests.tables import delete_all

TAKE_IN = f"select sms_retry.queue_sms_retry('{number()}', 'Hello.', kind => 'otp')"
FINISH = "select from sms_retry.finish_sms_retries(array[{id}], array[1], array['%s']"
UNKNOWN = FINISH % "unknown" + ")"
FAILED = FINISH % "refused" + ", error_codes => array[21211])"

ACTS = {
    "claim_due": "select from sms_retry.claim_sms(10)",
    "claim_now": "select from sms_retry.claim_sms_now({message_id})",
    "accepted": FINISH % "accepted" + f", array['{sid()}'])",
    "refused": FINISH % "refused" + ", error_codes => array[30001], delays => array['{{1 minute,5 minutes}}'])",
    "recover": "select sms_retry.recover_stuck_sms_retries()",
    "delivered": f"select sms_retry.record_sms_receipt('{sid()}', 'delivered', null, {{id}}, 1, null, true, null,"
    f" '{number()}')",
    "undelivered": f"select sms_retry.record_sms_delivery('{sid()}', 'undelivered', 30003, {{id}}, 1, '{{{{1h}}}}')",
    "cancel": "select sms_retry.cancel_sms_retry({message_id})",
    "retry_now": "select sms_retry.retry_sms_now({message_id}, force => true)",
    "opt_out": f"select sms_retry.set_sms_consent('*', '{number()}', 'opted_out')",
    "release": "select from sms_retry.release_unknown_sms(array[{id}], array[1])",
    "park": "select from sms_retry.decide_unknown_sms(array[{id}], array[1], array['stranger'])",
    "unknown_due": "select from sms_retry.unknown_sms_due()",
    "cleanup": "select sms_retry.cleanup_sms_retries()",
    "requeue": "select sms_retry.requeue_failed_sms(21211, now() - interval '30 days')",
    "doubt": "select sms_retry.doubt_sms_since(now() - interval '1 hour')",
    "erase_bodies": "select sms_retry.erase_sms_bodies(1)",
    "erase": f"select sms_retry.erase_sms_recipient('{number()}')",
}
# These skip a locked row: another worker has claimed it, or the next run will take it.
SKIP_LOCKED = {"claim_due", "claim_now", "recover", "opt_out", "unknown_due", "cleanup", "requeue", "erase_bodies"}

# A function that skips the locked row may still write to another table.
WRITES_ELSEWHERE = {"opt_out": f"insert into sms_retry.sms_recipients values ('*', '{number()}', 'opted_out', now())"}

# The state of the row at the start: the functions that were called for it, and the minutes since then.
STATES = {
    "waiting": ([], 1),
    "claimed": (["claim_now"], 40),
    "sent": (["claim_now", "accepted"], 40),
    "unknown": (["claim_now", UNKNOWN], 40),
    "ended": (["claim_now", FAILED], 8 * 24 * 60),
}
# A state in which each function changes something.
CHANGES = {
    "claim_due": "waiting",
    "claim_now": "waiting",
    "accepted": "claimed",
    "refused": "claimed",
    "recover": "claimed",
    "delivered": "sent",
    "undelivered": "sent",
    "cancel": "waiting",
    "retry_now": "ended",
    "opt_out": "waiting",
    "release": "unknown",
    "park": "unknown",
    "unknown_due": "unknown",
    "cleanup": "ended",
    "requeue": "ended",
    "doubt": "waiting",
    "erase_bodies": "ended",
    "erase": "ended",
}

# All rows of the message, with instants in whole minutes from now.
ROWS = """
select
    (select array_agg(concat_ws(' ', status, provider_sid, error_code, retry_count, on_unknown, minutes(ask_at),
        minutes(sent_at), minutes(delivered_at), minutes(expires_at), body is null)) from sms_retry.sms_messages),
    (select array_agg(concat_ws(' ', status, attempt, retry_count, max_retries, minutes(claimed_at),
        minutes(scheduled_for), reason, last_error_code, minutes(finished_at), body_erased))
        from sms_retry.sms_retry_queue),
    (select array_agg(concat_ws(' ', attempt, outcome, message_sid, error_code) order by attempt, outcome)
        from sms_retry.sms_attempts),
    (select array_agg(concat_ws(' ', message_sid, status, error_code) order by status)
        from sms_retry.sms_delivery_events),
    (select array_agg(concat_ws(' ', business_id, phone_number, consent)) from sms_retry.sms_recipients)
"""
MINUTES = """
create or replace function pg_temp.minutes(at timestamptz) returns numeric language sql
    return round(extract(epoch from at - now()) / 60)
"""

Rows = tuple[Any, ...]


class Connections(NamedTuple):
    """`first` and `second` change the row; `observer` prepares and reads it."""

    first: psycopg.Connection
    second: psycopg.Connection
    observer: psycopg.Connection


@pytest.fixture(scope="module")
def connections(migrated: str) -> Iterator[Connections]:
    observer = psycopg.connect(migrated, autocommit=True)
    with psycopg.connect(migrated) as first, psycopg.connect(migrated, autocommit=True) as second, observer:
        observer.execute(MINUTES)
        yield Connections(first, second, observer)


@pytest.fixture(scope="module")
def thread() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as thread:
        yield thread


@pytest.mark.parametrize("second", ACTS)
@pytest.mark.parametrize("first", ACTS)
def test_two_concurrent_functions_end_as_if_run_one_after_the_other(
    connections: Connections, thread: ThreadPoolExecutor, first: str, second: str
) -> None:
    for state in sorted({CHANGES[first], CHANGES[second]}):
        skips = second in SKIP_LOCKED
        after_both = [_in_turn(connections, state, first, second), _in_turn(connections, state, second, first)]
        after_both += [_in_turn(connections, state, first, before=second)] if skips else []
        after_second = [_in_turn(connections, state, second)]
        after_second += [_in_turn(connections, state, before=second)] if skips else []

        assert _at_once(connections, thread, state, first, second, connections.first.commit) in after_both, (
            f"{state}, committed"
        )
        assert _at_once(connections, thread, state, first, second, connections.first.rollback) in after_second, (
            f"{state}, rolled back"
        )


def test_a_repeated_receipt_settles_an_acceptance_that_committed_meanwhile(
    db: psycopg.Connection, store: Store, database_url: str
) -> None:
    claim = claimed(store)
    with psycopg.connect(database_url) as worker:
        worker.execute(ACTS["accepted"].format(id=claim.id))
        assert receipt(store, sid(), "delivered") == "unheard_of"
    assert_state(db, message="sent")

    assert receipt(store, sid(), "delivered") == "settled"
    assert_state(db, message="delivered")


@cache
def _in_turn(connections: Connections, state: str, *acts: str, before: str | None = None) -> Rows:
    """The rows after these functions, one after the other; the function `before` runs first and finds no row."""
    with connections.observer.transaction(force_rollback=True):
        delete_all(connections.observer)
        ids = _set_up(connections.observer, state)
        if before in WRITES_ELSEWHERE:
            connections.observer.execute(WRITES_ELSEWHERE[before])
        for act in acts:
            connections.observer.execute(ACTS[act].format(**ids))
        return _rows(connections.observer)


def _at_once(
    connections: Connections, thread: ThreadPoolExecutor, state: str, first: str, second: str, end: Callable[[], None]
) -> Rows:
    """The rows when `second` starts before `first` ends its transaction. Neither may fail or deadlock."""
    delete_all(connections.observer)
    ids = _set_up(connections.observer, state)
    connections.first.execute(ACTS[first].format(**ids))
    running = thread.submit(connections.second.execute, ACTS[second].format(**ids))
    waits = _waits(connections, running)
    end()
    running.result(timeout=10)
    assert not (waits and second in SKIP_LOCKED - {"opt_out"}), f"{second} waited for {first}"
    return _rows(connections.observer)


def _set_up(db: psycopg.Connection, state: str) -> dict[str, int]:
    message_id = one(db, TAKE_IN)
    ids = {"message_id": message_id, "id": one(db, "select max(id) from sms_retry.sms_retry_queue")}
    acts, minutes = STATES[state]
    for act in acts:
        db.execute(ACTS.get(act, act).format(**ids))
    let_time_pass(db, minutes=minutes)
    return ids


def _waits(connections: Connections, running: Future[Any]) -> bool:
    """Whether the second function waits for the first."""
    give_up = time.monotonic() + 10
    pids = [connections.first.info.backend_pid, connections.second.info.backend_pid]
    while not running.done():
        if one(connections.observer, "select %s = any (pg_blocking_pids(%s))", pids):
            return True
        assert time.monotonic() < give_up, "the second function neither ends nor waits for the first"
        time.sleep(0.001)
    return False


def _rows(db: psycopg.Connection) -> Rows:
    return tuple(db.execute(ROWS.replace("minutes(", "pg_temp.minutes(")).fetchone() or ())
