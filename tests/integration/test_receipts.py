"""Tickets and receipts: a stale report changes nothing, and a final status stays in any order of receipts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from itertools import permutations

import psycopg
import pytest

from local.waiting import let_time_pass
from sms_retry.store import Store
from sms_retry.values import Claim, Message, Report, Ticket
from tests.integration.examples import (
    MINUTE,
    accepted,
    assert_state,
    claim_again,
    claimed,
    count,
    finish,
    number,
    one,
    receipt,
    sid,
    state_of,
    statuses,
    take_in,
    unknown,
    wait_until_blocked,
)

QUEUE = "update sms_retry.sms_retry_queue set "
MESSAGES = "update sms_retry.sms_messages set "


def test_a_stale_ticket_changes_nothing_and_the_rest_of_its_batch_settles(db: psycopg.Connection, store: Store) -> None:
    first = claimed(store, 1)
    finish(store, first, "deferred", delays=(0 * MINUTE,))
    second, good = claim_again(db, store, first.message_id), claimed(store, 2)

    settled = store.finish(
        [
            Report(first.ticket, "accepted", sid=sid(1)),
            Report(Ticket(9999, 1), "accepted", sid=sid(9)),
            Report(good.ticket, "accepted", sid=sid(2)),
        ]
    )

    assert set(settled) == {good.ticket}
    assert_state(db, first.message_id, message="queued", queue="processing", attempt=2)
    assert finish(store, second, "refused", code=21211) == "failed"


def test_a_stale_worker_waits_for_a_concurrent_receipt_and_changes_nothing(
    db: psycopg.Connection, store: Store, database_url: str
) -> None:
    claim = claimed(store)
    with psycopg.connect(database_url) as first, ThreadPoolExecutor(1) as thread:
        first.execute("select sms_retry.record_sms_delivery(%s, 'delivered', null, %s, %s)", [sid(), *claim.ticket])
        stale = thread.submit(finish, store, claim, "refused", code=21211)
        wait_until_blocked(db, by=first)
        first.commit()
        assert stale.result(timeout=10) is None

    assert_state(db, message="delivered", queue="completed")
    assert one(db, "select count(*) from sms_retry.sms_attempts where outcome = 'refused'") == 0


def test_a_receipt_waits_for_the_worker_that_writes_the_acceptance(
    db: psycopg.Connection, store: Store, database_url: str
) -> None:
    claim = claimed(store)
    given = [[claim.id], [claim.attempt], ["accepted"], [sid()]]
    with psycopg.connect(database_url) as worker, ThreadPoolExecutor(1) as thread:
        worker.execute("select sms_retry.finish_sms_retries(%s, %s, %s, %s)", given)
        waiting = thread.submit(receipt, store, sid(), "delivered", None, claim.ticket)
        wait_until_blocked(db, by=worker)
        worker.commit()
        assert waiting.result(timeout=10) == "settled"

    assert_state(db, message="delivered", queue="completed")
    assert count(db, "sms_attempts") == 1


def test_a_receipt_settles_an_acceptance_that_commits_between_its_two_lookups(
    db: psycopg.Connection, store: Store, database_url: str
) -> None:
    claim = claimed(store)
    # Pause after the lookup by SID, which finds nothing, and before the lookup by ticket.
    pause = psycopg.connect(database_url)
    with pausing(db, pause, "record_sms_delivery", "select q.id as queue_id"), ThreadPoolExecutor(1) as thread:
        paused = thread.submit(receipt, store, sid(), "delivered", None, claim.ticket)
        wait_until_blocked(db, by=pause)
        with closing(Store(lambda: database_url)) as worker:
            assert finish(worker, claim, "accepted", sid=sid()) == "completed"
        pause.rollback()
        assert paused.result(timeout=10) == "settled"

    assert_state(db, message="delivered", queue="completed")


def test_finishing_twice_changes_nothing(db: psycopg.Connection, store: Store) -> None:
    claim = claimed(store)
    assert finish(store, claim, "refused", code=30001, delays=(MINUTE, 5 * MINUTE)) == "pending"
    before = state_of(db)

    assert finish(store, claim, "refused", code=30001, delays=(MINUTE, 5 * MINUTE)) is None
    assert finish(store, claim, "deferred", delays=(MINUTE,)) is None

    assert state_of(db) == before
    assert count(db, "sms_attempts") == 1


def test_a_repeated_report_is_known_and_any_other_late_report_is_stale(db: psycopg.Connection, store: Store) -> None:
    claim = claimed(store)
    first = Report(claim.ticket, "refused", code=30001, delays=(0 * MINUTE,))
    store.finish([first])
    assert store.known([first]) == {claim.ticket: "pending"}
    assert store.known([Report(claim.ticket, "accepted", sid=sid(1))]) == {}

    second = Report(claim_again(db, store).ticket, "accepted", sid=sid(2))
    store.finish([second])
    another = Report(second.ticket, "accepted", sid=sid(3))
    timed_out = Report(second.ticket, "unknown")
    assert store.known([first]) == {}
    assert store.known([another, Report(Ticket(9999, 1), "accepted", sid=sid(9))]) == {}
    assert store.known([second]) == store.known([timed_out]) == {second.ticket: "completed"}


def test_a_message_has_three_retries_even_if_more_waits_are_given(db: psycopg.Connection, store: Store) -> None:
    claim = claimed(store)
    for spent in (1, 2, 3):
        assert finish(store, claim, "refused", code=30001, delays=(MINUTE,) * 5) == "pending"
        assert_state(db, attempt=spent, retry_count=spent)
        claim = claim_again(db, store, minutes=1)
    assert finish(store, claim, "refused", code=30001, delays=(MINUTE,) * 5) == "failed"
    assert_state(db, message="failed", queue="failed", attempt=4, retry_count=3, wait=None)
    assert_state(db, reason="retries_spent", error_code=30001, provider_sid=None)


def test_a_failure_that_spends_no_retry_is_never_the_last_attempt(db: psycopg.Connection, store: Store) -> None:
    claim = claimed(store)
    for _ in range(9):
        assert finish(store, claim, "refused", code=20429, delays=(MINUTE,), spends=False) == "pending"
        claim = claim_again(db, store, minutes=1)
    assert_state(db, message="queued", queue="processing", attempt=10, retry_count=0)


@pytest.mark.parametrize("outcome", ["refused", "undelivered"])
def test_a_wait_beyond_the_expiry_expires_the_message_at_once(
    db: psycopg.Connection, store: Store, outcome: str
) -> None:
    claim = claimed(store)
    db.execute("update sms_retry.sms_messages set expires_at = now() + interval '4 minutes'")
    facts = {"sid": sid()} if outcome == "undelivered" else {}
    assert finish(store, claim, outcome, code=30003, delays=(5 * MINUTE,), **facts) == "expired"
    assert_state(db, message="expired", queue="expired", attempt=1, retry_count=0, wait=None)


def test_the_error_code_of_the_last_failure_stays_until_an_acceptance(db: psycopg.Connection, store: Store) -> None:
    claim = claimed(store)
    finish(store, claim, "refused", code=30001, delays=(MINUTE,))
    claim = claim_again(db, store, minutes=1)
    finish(store, claim, "unknown")
    assert_state(db, error_code=30001)

    finish(store, claim, "accepted", sid=sid())
    assert_state(db, error_code=None)


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
def test_an_impossible_state_cannot_be_stored(db: psycopg.Connection, store: Store, change: str) -> None:
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
@pytest.mark.parametrize("after_acceptance", [True, False], ids=["after the acceptance", "before the acceptance"])
def test_each_receipt_status_gives_one_status_of_message_and_queue_row(
    db: psycopg.Connection, store: Store, status: str, message: str, queue: str, after_acceptance: bool
) -> None:
    claim = accepted(store) if after_acceptance else claimed(store)

    receipt(store, sid(), status, ticket=claim.ticket)

    assert_state(db, message=message, queue=queue, provider_sid=sid())
    if not after_acceptance:
        assert finish(store, claim, "accepted", sid=sid()) is None
        assert_state(db, message=message, queue=queue)


@pytest.mark.parametrize("last", ["delivered", "undelivered"])
@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
@pytest.mark.parametrize("by", ["ticket", "sid"])
def test_the_order_of_the_receipts_does_not_matter(
    db: psycopg.Connection, store: Store, order: tuple[int, ...], last: str, by: str
) -> None:
    code = 30003 if last == "undelivered" else None
    claim = accepted(store)
    receipts = [("queued", None), ("sent", None), (last, code)]

    for n in order:
        receipt(store, sid(), *receipts[n], ticket=claim.ticket if by == "ticket" else None)

    assert_state(db, message=last, error_code=code)
    assert count(db, "sms_delivery_events") == 3


@pytest.mark.parametrize("order", list(permutations(["queued", "undelivered", "delivered"])), ids=str)
def test_a_delivered_receipt_outweighs_any_other_in_any_order(
    db: psycopg.Connection, store: Store, order: tuple[str, ...]
) -> None:
    accepted(store)
    for status in order:
        receipt(store, sid(), status, 30003 if status == "undelivered" else None, delays=[MINUTE, MINUTE])
    assert_state(db, message="delivered", queue="completed")
    assert store.claim_due(1) == []


def test_a_repeated_receipt_changes_nothing(db: psycopg.Connection, store: Store) -> None:
    accepted(store)
    assert receipt(store, sid(), "undelivered", 30003, delays=[MINUTE, MINUTE]) == "settled"
    before = state_of(db)
    assert receipt(store, sid(), "undelivered", 30003, delays=[MINUTE, MINUTE]) == "repeated"
    assert receipt(store, sid(), "sent") == "noted"
    assert state_of(db) == before


def test_a_receipt_with_an_unowned_sid_is_kept_until_the_worker_reports_it(
    db: psycopg.Connection, store: Store
) -> None:
    claim = claimed(store)
    assert receipt(store, sid(), "undelivered", 30003, delays=[5 * MINUTE]) == "unheard_of"
    assert_state(db, queue="processing")

    finish(store, claim, "accepted", sid=sid())

    assert_state(db, message="queued", queue="pending", attempt=1, retry_count=1, wait=5)
    assert_state(db, reason=None, error_code=30003, provider_sid=sid())


def test_a_receipt_with_an_unowned_sid_is_kept_until_the_application_logs_it(
    db: psycopg.Connection, store: Store
) -> None:
    receipt(store, sid(), "sent")
    assert receipt(store, sid(), "delivered") == "unheard_of"

    message_id = store.log_sent(Message("+4917600000001", "Hello."), sid())

    assert_state(db, message_id, message="delivered", queue="completed")


def test_a_failed_delivery_goes_back_to_the_queue_and_spends_a_retry(db: psycopg.Connection, store: Store) -> None:
    claim = accepted(store)
    for spent in (1, 2):
        receipt(store, sid(claim.attempt), "undelivered", 30003, delays=[5 * MINUTE, 10 * MINUTE])
        assert_state(db, message="queued", queue="pending", attempt=spent, retry_count=spent, wait=5 * spent)
        claim = claim_again(db, store, minutes=5 * spent)
        finish(store, claim, "accepted", sid=sid(claim.attempt))

    receipt(store, sid(3), "undelivered", 30003, delays=[5 * MINUTE, 10 * MINUTE])
    assert_state(db, message="undelivered", queue="failed", attempt=3, retry_count=2, wait=None)
    assert_state(db, reason="retries_spent", error_code=30003, provider_sid=sid(3))


def test_a_late_delivered_receipt_cancels_the_waiting_retry(db: psycopg.Connection, store: Store) -> None:
    accepted(store)
    receipt(store, sid(), "undelivered", 30003, delays=[MINUTE])
    assert receipt(store, sid(), "delivered") == "settled"

    let_time_pass(db, minutes=5)
    assert store.claim_due(1) == []
    assert_state(db, message="delivered", queue="completed")


@pytest.mark.parametrize(
    ("outcome", "facts"),
    [
        ("refused", {"code": 30001, "delays": (MINUTE,) * 3}),
        ("unknown", {}),
        ("deferred", {"delays": (MINUTE,)}),
        ("accepted", {"sid": sid(2)}),
    ],
)
def test_a_delivered_receipt_during_the_next_attempt_outweighs_its_outcome(
    db: psycopg.Connection, store: Store, outcome: str, facts: dict[str, object]
) -> None:
    accepted(store)
    receipt(store, sid(), "undelivered", 30003, delays=[MINUTE])
    again = claim_again(db, store, minutes=1)
    assert receipt(store, sid(), "delivered") == "settled"

    finish(store, again, outcome, **facts)

    assert_state(db, message="delivered", queue="completed")


def test_a_failed_receipt_of_an_older_attempt_does_not_change_a_newer_one(db: psycopg.Connection, store: Store) -> None:
    accepted(store)
    receipt(store, sid(1), "undelivered", 30003, delays=[MINUTE])
    again = claim_again(db, store, minutes=1)
    finish(store, again, "accepted", sid=sid(2))

    assert receipt(store, sid(1), "failed", 30008, delays=[MINUTE, MINUTE]) == "noted"

    assert_state(db, message="sent", queue="completed", attempt=2, provider_sid=sid(2))


@pytest.mark.parametrize("by", ["receipt", "late receipt", "report"])
def test_a_delivered_message_has_no_error_code(db: psycopg.Connection, store: Store, by: str) -> None:
    claim = claimed(store)
    finish(store, claim, "refused", code=30003, message="Off", delays=(MINUTE,) * 3)
    claim = claim_again(db, store, minutes=1)
    finish(store, claim, "accepted", sid=sid())
    if by == "late receipt":
        receipt(store, sid(), "undelivered", 30008, delays=[MINUTE, MINUTE])
    if by == "report":
        finish(store, claim, "delivered", sid=sid(), code=30008)
    else:
        receipt(store, sid(), "delivered", 30008)

    assert_state(db, message="delivered", error_code=None)
    assert one(db, "select error_message from sms_retry.sms_messages") is None


def test_a_failure_of_the_next_attempt_gives_a_delivered_message_no_error_code(
    db: psycopg.Connection, store: Store
) -> None:
    accepted(store)
    receipt(store, sid(), "undelivered", 30003, delays=[MINUTE])
    again = claim_again(db, store, minutes=1)
    receipt(store, sid(), "delivered")
    finish(store, again, "refused", code=21610)
    assert_state(db, message="delivered", error_code=None)


@pytest.mark.parametrize("then", ["undelivered", "failed", "sent"])
def test_a_receipt_without_an_error_code_keeps_the_earlier_code(
    db: psycopg.Connection, store: Store, then: str
) -> None:
    accepted(store)
    receipt(store, sid(), "undelivered", 30007)
    receipt(store, sid(), then)
    assert_state(db, message="undelivered", error_code=30007)


@pytest.mark.parametrize("ticket", [(10**18 - 1, 999_999_999), (9999, 1), (1, 2), (1, 0)], ids=str)
@pytest.mark.parametrize("status", ["sent", "delivered", "failed"])
def test_a_receipt_with_an_invented_ticket_is_unheard_of(
    db: psycopg.Connection, store: Store, ticket: tuple[int, int], status: str
) -> None:
    claimed(store)
    before = state_of(db)
    assert receipt(store, sid(8), status, ticket=Ticket(*ticket)) == "unheard_of"
    assert state_of(db) == before


def test_a_receipt_for_a_row_that_was_never_claimed_is_unheard_of(db: psycopg.Connection, store: Store) -> None:
    take_in(store)
    assert receipt(store, sid(8), "delivered", ticket=Ticket(1, 0)) == "unheard_of"
    assert statuses(db) == {"queued": 1}


def test_a_second_sid_with_the_ticket_of_an_acceptance_is_unheard_of(db: psycopg.Connection, store: Store) -> None:
    claim = accepted(store)
    assert receipt(store, sid(2), "failed", 30007, ticket=claim.ticket) == "unheard_of"
    assert statuses(db) == {"sent": 1}


@pytest.mark.parametrize("status", ["sent", "delivered", "failed"])
@pytest.mark.parametrize("make", [claimed, unknown])
def test_a_receipt_for_another_person_does_not_settle_the_ticket(
    db: psycopg.Connection, store: Store, make: Callable[[Store], Claim], status: str
) -> None:
    """After a restore: the POST with this ticket, and this receipt, were of a message that the database has lost."""
    claim = make(store)
    before = state_of(db)
    assert receipt(store, sid(8), status, ticket=claim.ticket, to_number=number(2)) == "unheard_of"
    assert state_of(db) == before

    assert receipt(store, sid(9), "delivered", ticket=claim.ticket, to_number=number(1)) == "settled"
    assert_state(db, message="delivered", provider_sid=sid(9))


@pytest.mark.parametrize(
    "to_number",
    [f"rcs:{number()}", f"whatsapp:{number()}", f"{number()[:-4]}XXXX", f"rcs:{number()[:-4]}XXXX", ""],
)
def test_a_recipient_with_a_channel_or_a_mask_does_not_hide_the_ticket(
    db: psycopg.Connection, store: Store, to_number: str
) -> None:
    claim = unknown(store)
    assert receipt(store, sid(), "delivered", ticket=claim.ticket, to_number=to_number) == "settled"


def test_the_recipient_of_a_receipt_is_compared_in_its_one_spelling(db: psycopg.Connection, store: Store) -> None:
    """Release 0.1 stored numbers as they were given."""
    claim = unknown(store)
    db.execute("update sms_retry.sms_messages set to_number = '+4407700900123'")
    assert receipt(store, sid(), "delivered", ticket=claim.ticket, to_number="+447700900123") == "settled"


def test_beside_an_owned_sid_the_recipient_of_a_receipt_does_not_matter(db: psycopg.Connection, store: Store) -> None:
    claim = accepted(store)
    assert receipt(store, sid(), "delivered", ticket=claim.ticket, to_number="rcs:agent") == "settled"


def test_a_receipt_settles_its_ticket_with_the_functions_of_release_0_1(db: psycopg.Connection, store: Store) -> None:
    """Its migrator, after a rollback, removes the functions that only this release has."""
    claim = unknown(store)
    source = one(db, "select pg_get_functiondef('sms_retry.record_sms_receipt'::regproc)")
    db.execute("drop function sms_retry.record_sms_receipt")
    try:
        assert receipt(store, sid(), "delivered", ticket=claim.ticket) == "settled"
    finally:
        db.execute(source)


def test_a_receipt_settles_an_attempt_with_the_outcome_unknown(db: psycopg.Connection, store: Store) -> None:
    claim = unknown(store)
    assert receipt(store, sid(), "sent", ticket=claim.ticket) == "settled"
    assert_state(db, message="sent", queue="completed", provider_sid=sid())


@contextmanager
def pausing(db: psycopg.Connection, pause: psycopg.Connection, function: str, before: str) -> Iterator[None]:
    """A call of the function waits before the text `before` in its source until the transaction of `pause` ends."""
    source = one(db, "select pg_get_functiondef(%s::regproc)", [f"sms_retry.{function}"])
    assert source.count(before) == 1
    pause.execute("select pg_advisory_xact_lock(1)")
    db.execute(source.replace(before, f"perform pg_advisory_xact_lock_shared(1);\n{before}"))
    try:
        yield
    finally:
        pause.close()
        db.execute(source)
