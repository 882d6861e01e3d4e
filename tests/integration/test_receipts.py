"""The fence and the receipts: old news changes nothing, and a final status stays, whatever order they come in."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from itertools import permutations

import psycopg
import pytest

from local.waiting import let_time_pass
from sms_retry.store import Store
from sms_retry.values import Message, Report, Ticket
from tests.integration.examples import (
    MINUTE,
    accepted,
    claimed,
    count,
    finish,
    one,
    receipt,
    send_again,
    sid,
    standing,
    statuses,
    take_in,
    unknown,
    wait_until_blocked,
)

QUEUE = "update sms_retry.sms_retry_queue set "
MESSAGES = "update sms_retry.sms_messages set "


def test_a_stale_ticket_changes_nothing_and_does_not_spoil_its_batch(db: psycopg.Connection, store: Store) -> None:
    first = claimed(store, 1)
    finish(store, first, "deferred", delays=(0 * MINUTE,))
    second, good = send_again(db, store, first.message_id), claimed(store, 2)

    settled = store.finish(
        [
            Report(first.ticket, "accepted", sid=sid(1)),
            Report(Ticket(9999, 1), "accepted", sid=sid(9)),
            Report(good.ticket, "accepted", sid=sid(2)),
        ]
    )

    assert set(settled) == {good.ticket}
    assert standing(db, first.message_id)[:3] == ("queued", "processing", 2)
    assert finish(store, second, "refused", code=21211) == "failed"


def test_a_stale_worker_waits_for_whoever_settles_first_and_then_changes_nothing(
    db: psycopg.Connection, store: Store, database_url: str
) -> None:
    claim = claimed(store)
    with psycopg.connect(database_url) as first, ThreadPoolExecutor(1) as thread:
        first.execute("select sms_retry.record_sms_delivery(%s, 'delivered', null, %s, %s)", [sid(), *claim.ticket])
        stale = thread.submit(finish, store, claim, "refused", code=21211)
        wait_until_blocked(db, by=first)
        first.commit()
        assert stale.result(timeout=10) is None

    assert standing(db)[:2] == ("delivered", "completed")
    assert one(db, "select count(*) from sms_retry.sms_attempts where outcome = 'refused'") == 0


def test_a_receipt_waits_for_the_worker_that_is_writing(
    db: psycopg.Connection, store: Store, database_url: str
) -> None:
    claim = claimed(store)
    given = [[claim.id], [claim.attempt], ["accepted"], [sid()]]
    with psycopg.connect(database_url) as worker, ThreadPoolExecutor(1) as thread:
        worker.execute("select sms_retry.finish_sms_retries(%s, %s, %s, %s)", given)
        late = thread.submit(receipt, store, sid(), "delivered", None, claim.ticket)
        wait_until_blocked(db, by=worker)
        worker.commit()
        assert late.result(timeout=10) == "settled"

    assert standing(db)[:2] == ("delivered", "completed")
    assert count(db, "sms_attempts") == 1


def test_a_receipt_that_meets_its_acceptance_between_two_looks_is_heard(
    db: psycopg.Connection, store: Store, database_url: str
) -> None:
    claim = claimed(store)
    # It has looked for its SID in vain, and looks for its ticket next.
    pause = psycopg.connect(database_url)
    with pausing(db, pause, "record_sms_delivery", "select q.id as queue_id"), ThreadPoolExecutor(1) as thread:
        met = thread.submit(receipt, store, sid(), "delivered", None, claim.ticket)
        wait_until_blocked(db, by=pause)
        with closing(Store(lambda: database_url)) as worker:
            assert finish(worker, claim, "accepted", sid=sid()) == "completed"
        pause.rollback()
        assert met.result(timeout=10) == "settled"

    assert standing(db)[:2] == ("delivered", "completed")


def test_finishing_twice_changes_nothing(db: psycopg.Connection, store: Store) -> None:
    claim = claimed(store)
    assert finish(store, claim, "refused", code=30001, delays=(MINUTE, 5 * MINUTE)) == "pending"
    before = standing(db)

    assert finish(store, claim, "refused", code=30001, delays=(MINUTE, 5 * MINUTE)) is None
    assert finish(store, claim, "deferred", delays=(MINUTE,)) is None

    assert standing(db) == before
    assert count(db, "sms_attempts") == 1


def test_what_is_told_twice_is_known_and_what_is_not_ones_own_is_stale(db: psycopg.Connection, store: Store) -> None:
    claim = claimed(store)
    first = Report(claim.ticket, "refused", code=30001, delays=(0 * MINUTE,))
    store.finish([first])
    assert store.known([first]) == {claim.ticket: "pending"}
    assert store.known([Report(claim.ticket, "accepted", sid=sid(1))]) == {}

    second = Report(send_again(db, store).ticket, "accepted", sid=sid(2))
    store.finish([second])
    another = Report(second.ticket, "accepted", sid=sid(3))
    timed_out = Report(second.ticket, "unknown")
    assert store.known([first]) == {}
    assert store.known([another, Report(Ticket(9999, 1), "accepted", sid=sid(9))]) == {}
    assert store.known([second]) == store.known([timed_out]) == {second.ticket: "completed"}


def test_a_message_has_three_retries_however_many_waits_it_is_granted(db: psycopg.Connection, store: Store) -> None:
    claim = claimed(store)
    for spent in (1, 2, 3):
        assert finish(store, claim, "refused", code=30001, delays=(MINUTE,) * 5) == "pending"
        assert standing(db)[2:4] == (spent, spent)
        claim = send_again(db, store, minutes=1)
    assert finish(store, claim, "refused", code=30001, delays=(MINUTE,) * 5) == "failed"
    assert standing(db) == ("failed", "failed", 4, 3, None, "retries_spent", 30001, None)


def test_what_spends_nothing_is_never_the_last_try(db: psycopg.Connection, store: Store) -> None:
    claim = claimed(store)
    for _ in range(9):
        assert finish(store, claim, "refused", code=20429, delays=(MINUTE,), spends=False) == "pending"
        claim = send_again(db, store, minutes=1)
    assert standing(db)[:4] == ("queued", "processing", 10, 0)


@pytest.mark.parametrize("outcome", ["refused", "undelivered"])
def test_a_wait_that_would_end_past_the_expiry_ends_the_message_now(
    db: psycopg.Connection, store: Store, outcome: str
) -> None:
    claim = claimed(store)
    db.execute("update sms_retry.sms_messages set expires_at = now() + interval '4 minutes'")
    facts = {"sid": sid()} if outcome == "undelivered" else {}
    assert finish(store, claim, outcome, code=30003, delays=(5 * MINUTE,), **facts) == "expired"
    assert standing(db)[:5] == ("expired", "expired", 1, 0, None)


def test_the_code_of_the_last_failure_stays_until_a_send_goes_through(db: psycopg.Connection, store: Store) -> None:
    claim = claimed(store)
    finish(store, claim, "refused", code=30001, delays=(MINUTE,))
    claim = send_again(db, store, minutes=1)
    finish(store, claim, "unknown")
    assert standing(db).error_code == 30001

    finish(store, claim, "accepted", sid=sid())
    assert standing(db).error_code is None


@pytest.mark.parametrize(
    "change",
    [
        QUEUE + "claimed_at = null",
        QUEUE + "status = 'pending'",
        QUEUE + "status = 'completed', claimed_at = null",
        QUEUE + "status = 'failed', claimed_at = null",
        QUEUE + "finished_at = now()",
        QUEUE + "status = 'resting'",
        MESSAGES + "status = 'sent'",
        MESSAGES + "status = 'delivered'",
        MESSAGES + "delivered_at = now()",
        "insert into sms_retry.sms_attempts (queue_id, attempt, outcome) values (1, 1, 'accepted')",
    ],
)
def test_a_state_that_cannot_be_is_not_stored(db: psycopg.Connection, store: Store, change: str) -> None:
    claimed(store)
    with pytest.raises(psycopg.errors.CheckViolation):
        db.execute(change)


@pytest.mark.parametrize(
    ("status", "message", "queue"),
    [
        ("accepted", "sent", "completed"),
        ("scheduled", "sent", "completed"),
        ("queued", "sent", "completed"),
        ("sending", "sent", "completed"),
        ("sent", "sent", "completed"),
        ("delivered", "delivered", "completed"),
        ("read", "delivered", "completed"),
        ("partially_delivered", "delivered", "completed"),
        ("undelivered", "undelivered", "failed"),
        ("failed", "failed", "failed"),
        ("canceled", "cancelled", "cancelled"),
    ],
)
@pytest.mark.parametrize("written_down", [True, False], ids=["after its worker", "before its worker"])
def test_what_each_status_makes_of_a_message(
    db: psycopg.Connection, store: Store, status: str, message: str, queue: str, written_down: bool
) -> None:
    claim = accepted(store) if written_down else claimed(store)

    receipt(store, sid(), status, ticket=claim.ticket)

    assert standing(db)[:2] == (message, queue)
    assert standing(db).provider_sid == sid()
    if not written_down:
        assert finish(store, claim, "accepted", sid=sid()) is None
        assert standing(db)[:2] == (message, queue)


@pytest.mark.parametrize("last", ["delivered", "undelivered"])
@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
@pytest.mark.parametrize("by", ["ticket", "sid"])
def test_the_order_of_the_receipts_does_not_matter(
    db: psycopg.Connection, store: Store, order: tuple[int, ...], last: str, by: str
) -> None:
    code = 30003 if last == "undelivered" else None
    claim = accepted(store)
    told = [("queued", None), ("sent", None), (last, code)]

    for n in order:
        receipt(store, sid(), *told[n], ticket=claim.ticket if by == "ticket" else None)

    assert standing(db)[0] == last
    assert standing(db).error_code == code
    assert count(db, "sms_delivery_events") == 3


@pytest.mark.parametrize("order", list(permutations(["queued", "undelivered", "delivered"])), ids=str)
def test_a_delivery_wins_whatever_else_is_said(db: psycopg.Connection, store: Store, order: tuple[str, ...]) -> None:
    accepted(store)
    for status in order:
        receipt(store, sid(), status, 30003 if status == "undelivered" else None, delays=[MINUTE, MINUTE])
    assert standing(db)[:2] == ("delivered", "completed")
    assert store.claim_due(1) == []


def test_a_repeated_receipt_changes_nothing(db: psycopg.Connection, store: Store) -> None:
    accepted(store)
    assert receipt(store, sid(), "undelivered", 30003, delays=[MINUTE, MINUTE]) == "settled"
    before = standing(db)
    assert receipt(store, sid(), "undelivered", 30003, delays=[MINUTE, MINUTE]) == "repeated"
    assert receipt(store, sid(), "sent") == "noted"
    assert standing(db) == before


def test_a_receipt_that_nobody_knows_is_kept_until_its_worker_writes(db: psycopg.Connection, store: Store) -> None:
    claim = claimed(store)
    assert receipt(store, sid(), "undelivered", 30003, delays=[5 * MINUTE]) == "unheard_of"
    assert standing(db).queue == "processing"

    finish(store, claim, "accepted", sid=sid())

    assert standing(db) == ("queued", "pending", 1, 1, 5, None, 30003, sid())


def test_a_receipt_that_nobody_knows_is_kept_until_the_application_tells(db: psycopg.Connection, store: Store) -> None:
    receipt(store, sid(), "sent")
    assert receipt(store, sid(), "delivered") == "unheard_of"

    message_id = store.log_sent(Message("+4917600000001", "Hello."), sid())

    assert standing(db, message_id)[:2] == ("delivered", "completed")


def test_a_failed_delivery_goes_back_to_the_queue_and_spends_a_retry(db: psycopg.Connection, store: Store) -> None:
    claim = accepted(store)
    for spent in (1, 2):
        receipt(store, sid(claim.attempt), "undelivered", 30003, delays=[5 * MINUTE, 10 * MINUTE])
        assert standing(db)[:5] == ("queued", "pending", spent, spent, 5 * spent)
        claim = send_again(db, store, minutes=5 * spent)
        finish(store, claim, "accepted", sid=sid(claim.attempt))

    receipt(store, sid(3), "undelivered", 30003, delays=[5 * MINUTE, 10 * MINUTE])
    assert standing(db) == ("undelivered", "failed", 3, 2, None, "retries_spent", 30003, sid(3))


def test_a_delivery_that_comes_late_ends_the_waiting_retry(db: psycopg.Connection, store: Store) -> None:
    accepted(store)
    receipt(store, sid(), "undelivered", 30003, delays=[MINUTE])
    assert receipt(store, sid(), "delivered") == "settled"

    let_time_pass(db, minutes=5)
    assert store.claim_due(1) == []
    assert standing(db)[:2] == ("delivered", "completed")


@pytest.mark.parametrize(
    ("outcome", "facts"),
    [
        ("refused", {"code": 30001, "delays": (MINUTE,) * 3}),
        ("unknown", {}),
        ("deferred", {"delays": (MINUTE,)}),
        ("accepted", {"sid": sid(2)}),
    ],
)
def test_a_delivery_that_comes_during_the_next_attempt_ends_it_whatever_comes_of_it(
    db: psycopg.Connection, store: Store, outcome: str, facts: dict[str, object]
) -> None:
    accepted(store)
    receipt(store, sid(), "undelivered", 30003, delays=[MINUTE])
    again = send_again(db, store, minutes=1)
    assert receipt(store, sid(), "delivered") == "settled"

    finish(store, again, outcome, **facts)

    assert standing(db)[:2] == ("delivered", "completed")


def test_the_failure_of_an_older_attempt_does_not_undo_a_newer_one(db: psycopg.Connection, store: Store) -> None:
    accepted(store)
    receipt(store, sid(1), "undelivered", 30003, delays=[MINUTE])
    again = send_again(db, store, minutes=1)
    finish(store, again, "accepted", sid=sid(2))

    assert receipt(store, sid(1), "failed", 30008, delays=[MINUTE, MINUTE]) == "noted"

    assert standing(db)[:3] == ("sent", "completed", 2)
    assert standing(db).provider_sid == sid(2)


@pytest.mark.parametrize("then", ["undelivered", "failed", "sent"])
def test_a_receipt_without_a_code_does_not_erase_the_code(db: psycopg.Connection, store: Store, then: str) -> None:
    accepted(store)
    receipt(store, sid(), "undelivered", 30007)
    receipt(store, sid(), then)
    assert (standing(db).message, standing(db).error_code) == ("undelivered", 30007)


@pytest.mark.parametrize("ticket", [(10**18 - 1, 999_999_999), (9999, 1), (1, 2), (1, 0)], ids=str)
@pytest.mark.parametrize("status", ["sent", "delivered", "failed"])
def test_a_ticket_that_was_never_given_out_is_unheard_of(
    db: psycopg.Connection, store: Store, ticket: tuple[int, int], status: str
) -> None:
    claimed(store)
    before = standing(db)
    assert receipt(store, sid(8), status, ticket=Ticket(*ticket)) == "unheard_of"
    assert standing(db) == before


def test_a_row_that_was_never_claimed_has_no_ticket(db: psycopg.Connection, store: Store) -> None:
    take_in(store)
    assert receipt(store, sid(8), "delivered", ticket=Ticket(1, 0)) == "unheard_of"
    assert statuses(db) == {"queued": 1}


def test_a_second_sid_under_one_ticket_is_about_another_message(db: psycopg.Connection, store: Store) -> None:
    claim = accepted(store)
    assert receipt(store, sid(2), "failed", 30007, ticket=claim.ticket) == "unheard_of"
    assert statuses(db) == {"sent": 1}


def test_a_callback_settles_what_its_own_worker_saw_as_unknown(db: psycopg.Connection, store: Store) -> None:
    claim = unknown(store)
    assert receipt(store, sid(), "sent", ticket=claim.ticket) == "settled"
    assert standing(db)[:2] == ("sent", "completed")
    assert standing(db).provider_sid == sid()


@contextmanager
def pausing(db: psycopg.Connection, pause: psycopg.Connection, function: str, before: str) -> Iterator[None]:
    """Whoever calls the function waits before that text of it, until the transaction of `pause` ends."""
    source = one(db, "select pg_get_functiondef(%s::regproc)", [f"sms_retry.{function}"])
    assert source.count(before) == 1
    pause.execute("select pg_advisory_xact_lock(1)")
    db.execute(source.replace(before, f"perform pg_advisory_xact_lock_shared(1);\n{before}"))
    try:
        yield
    finally:
        pause.close()
        db.execute(source)
