"""Two at the same row at once: each function that changes state against each other, on two connections.

The first has done its part in a transaction that is still open when the second begins. Whether the first then commits
or rolls back, the tables end as if the two had come one after the other; or, where the second passes over what
somebody has locked, as if it had come before there was anything.
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
from tests.integration.examples import claimed, number, one, receipt, sid, standing

TAKE_IN = f"select sms_retry.queue_sms_retry('{number()}', 'Hello.', kind => 'otp')"
FINISH = "select from sms_retry.finish_sms_retries(array[{id}], array[1], array['%s']"
UNKNOWN = FINISH % "unknown" + ")"
FAILED = FINISH % "refused" + ", error_codes => array[21211])"

ACTS = {
    "claim_due": "select from sms_retry.claim_due_sms_retries(10)",
    "claim_now": "select from sms_retry.claim_sms_now({message_id})",
    "accepted": FINISH % "accepted" + f", array['{sid()}'])",
    "refused": FINISH % "refused" + ", error_codes => array[30001], delays => array['{{1 minute,5 minutes}}'])",
    "recover": "select sms_retry.recover_stuck_sms_retries()",
    "delivered": f"select sms_retry.record_sms_delivery('{sid()}', 'delivered', null, {{id}}, 1)",
    "undelivered": f"select sms_retry.record_sms_delivery('{sid()}', 'undelivered', 30003, {{id}}, 1, '{{{{1h}}}}')",
    "cancel": "select sms_retry.cancel_sms_retry({message_id})",
    "retry_now": "select sms_retry.retry_sms_now({message_id}, force => true)",
    "opt_out": f"select sms_retry.set_sms_consent('*', '{number()}', 'opted_out')",
    "release": "select from sms_retry.release_unknown_sms(array[{id}], array[1])",
    "unknown_due": "select from sms_retry.unknown_sms_due()",
    "cleanup": "select sms_retry.cleanup_sms_retries()",
    "requeue": "select sms_retry.requeue_failed_sms(21211, now() - interval '30 days')",
    "erase_bodies": "select sms_retry.erase_sms_bodies(1)",
    "erase": f"select sms_retry.erase_sms_recipient('{number()}')",
}
# These pass over a row that is locked: another worker has it, or the next run will.
PASS_OVER = {"claim_due", "claim_now", "recover", "opt_out", "unknown_due", "cleanup", "requeue", "erase_bodies"}

# What they leave behind all the same.
LEFT = {"opt_out": f"insert into sms_retry.sms_recipients values ('*', '{number()}', 'opted_out', now())"}

# How a row stands when the two come to it: what was done to it, and how many minutes ago.
STATES = {
    "waiting": ([], 1),
    "claimed": (["claim_now"], 40),
    "sent": (["claim_now", "accepted"], 40),
    "unknown": (["claim_now", UNKNOWN], 40),
    "ended": (["claim_now", FAILED], 8 * 24 * 60),
}
# Where each function has something to do.
AT_HOME = {
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
    "unknown_due": "unknown",
    "cleanup": "ended",
    "requeue": "ended",
    "erase_bodies": "ended",
    "erase": "ended",
}

# All that is kept, with instants in whole minutes from now.
TABLES = """
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
EMPTY = "; ".join(
    f"delete from sms_retry.sms_{name}"
    for name in ("delivery_events", "attempts", "retry_queue", "messages", "recipients", "holds")
)

Kept = tuple[Any, ...]


class Two(NamedTuple):
    """Two connections at the row, and one that looks on."""

    first: psycopg.Connection
    second: psycopg.Connection
    onlooker: psycopg.Connection


@pytest.fixture(scope="module")
def two(migrated: str) -> Iterator[Two]:
    onlooker = psycopg.connect(migrated, autocommit=True)
    with psycopg.connect(migrated) as first, psycopg.connect(migrated, autocommit=True) as second, onlooker:
        onlooker.execute(MINUTES)
        yield Two(first, second, onlooker)


@pytest.fixture(scope="module")
def thread() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as thread:
        yield thread


@pytest.mark.parametrize("second", ACTS)
@pytest.mark.parametrize("first", ACTS)
def test_two_at_one_row_end_as_one_after_the_other(
    two: Two, thread: ThreadPoolExecutor, first: str, second: str
) -> None:
    for state in sorted({AT_HOME[first], AT_HOME[second]}):
        passed_over = second in PASS_OVER
        after_both = [_in_turn(two, state, first, second), _in_turn(two, state, second, first)]
        after_both += [_in_turn(two, state, first, before=second)] if passed_over else []
        after_second = [_in_turn(two, state, second)]
        after_second += [_in_turn(two, state, before=second)] if passed_over else []

        assert _at_once(two, thread, state, first, second, two.first.commit) in after_both, f"{state}, committed"
        assert _at_once(two, thread, state, first, second, two.first.rollback) in after_second, f"{state}, rolled back"


def test_a_receipt_and_an_acceptance_that_miss_each_other_meet_when_it_is_told_again(
    db: psycopg.Connection, store: Store, database_url: str
) -> None:
    claim = claimed(store)
    with psycopg.connect(database_url) as worker:
        worker.execute(ACTS["accepted"].format(id=claim.id))
        assert receipt(store, sid(), "delivered") == "unheard_of"
    assert standing(db).message == "sent"

    assert receipt(store, sid(), "delivered") == "settled"
    assert standing(db).message == "delivered"


@cache
def _in_turn(two: Two, state: str, *acts: str, before: str | None = None) -> Kept:
    """What is kept after these acts; `before` found nothing that it could touch."""
    with two.onlooker.transaction(force_rollback=True):
        two.onlooker.execute(EMPTY)
        ids = _set_up(two.onlooker, state)
        if before in LEFT:
            two.onlooker.execute(LEFT[before])
        for act in acts:
            two.onlooker.execute(ACTS[act].format(**ids))
        return _kept(two.onlooker)


def _at_once(
    two: Two, thread: ThreadPoolExecutor, state: str, first: str, second: str, end: Callable[[], None]
) -> Kept:
    """What is kept when `second` begins while `first` is not ended yet. No error, and no deadlock."""
    two.onlooker.execute(EMPTY)
    ids = _set_up(two.onlooker, state)
    two.first.execute(ACTS[first].format(**ids))
    running = thread.submit(two.second.execute, ACTS[second].format(**ids))
    waits = _waits(two, running)
    end()
    running.result(timeout=10)
    assert not (waits and second in PASS_OVER - {"opt_out"}), f"{second} waited for {first}"
    return _kept(two.onlooker)


def _set_up(db: psycopg.Connection, state: str) -> dict[str, int]:
    message_id = one(db, TAKE_IN)
    ids = {"message_id": message_id, "id": one(db, "select max(id) from sms_retry.sms_retry_queue")}
    acts, minutes = STATES[state]
    for act in acts:
        db.execute(ACTS.get(act, act).format(**ids))
    let_time_pass(db, minutes=minutes)
    return ids


def _waits(two: Two, running: Future[Any]) -> bool:
    """Whether the second has to wait for the first; known once it is done or does."""
    give_up = time.monotonic() + 10
    pids = [two.first.info.backend_pid, two.second.info.backend_pid]
    while not running.done():
        if one(two.onlooker, "select %s = any (pg_blocking_pids(%s))", pids):
            return True
        assert time.monotonic() < give_up, "the second neither ends nor waits for the first"
        time.sleep(0.001)
    return False


def _kept(db: psycopg.Connection) -> Kept:
    return tuple(db.execute(TABLES.replace("minutes(", "pg_temp.minutes(")).fetchone() or ())
