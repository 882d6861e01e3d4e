"""Receipts that report a failure: the verdict on their code, and the count of codes without a rule."""

from __future__ import annotations

from datetime import UTC, datetime

import psycopg
import pytest

from sms_retry import delivery
from sms_retry.delivery import Recorded
from sms_retry.store import Store
from sms_retry.values import Receipt
from tests.integration.examples import accepted, assert_state, number, sid, state_of

NOW = datetime(2026, 6, 15, 16, 0, tzinfo=UTC)
UNLISTED = 39999


def failed(code: int | None) -> Receipt:
    return Receipt(sid(), "undelivered", code, None, number())


def test_a_code_without_a_rule_is_final_and_counted_once(db: psycopg.Connection, store: Store) -> None:
    accepted(store)

    assert delivery.record(store, failed(UNLISTED), NOW) == Recorded("settled", hold_set=False, unlisted=True)
    assert delivery.record(store, failed(UNLISTED), NOW) == Recorded("repeated", hold_set=False, unlisted=False)

    assert state_of(db).queue == "failed"


def test_a_code_that_an_operator_has_given_a_rule_is_not_counted_as_unlisted(
    db: psycopg.Connection, store: Store
) -> None:
    accepted(store)
    db.execute(
        "insert into sms_retry.sms_error_overrides (code, verdict, strategy, base_seconds, retries, reason)"
        " values (%s, 'retry', 'linear', 60, 3, 'goes through later')",
        [UNLISTED],
    )

    assert delivery.record(store, failed(UNLISTED), NOW) == Recorded("settled", hold_set=False, unlisted=False)

    assert state_of(db).queue == "pending"


@pytest.mark.parametrize(("code", "queue"), [(30003, "pending"), (30007, "failed"), (None, "failed")])
def test_twilio_is_asked_for_a_code_before_a_failure_is_final(
    db: psycopg.Connection, store: Store, code: int | None, queue: str
) -> None:
    accepted(store)
    asked = []

    def code_of(receipt: Receipt) -> int | None:
        asked.append(receipt.message_sid)
        return code

    delivery.record(store, failed(None), NOW, code_of)

    assert asked == [sid()]
    assert_state(db, queue=queue, error_code=code)


@pytest.mark.parametrize(("status", "code"), [("sent", None), ("delivered", None), ("undelivered", 30003)])
def test_twilio_is_not_asked_about_any_other_receipt(store: Store, status: str, code: int | None) -> None:
    accepted(store)

    def code_of(receipt: Receipt) -> int | None:
        raise AssertionError(receipt.message_sid)

    assert delivery.record(store, Receipt(sid(), status, code, None, number()), NOW, code_of).answer


def test_a_later_receipt_with_a_code_counts_after_one_without(db: psycopg.Connection, store: Store) -> None:
    accepted(store)
    delivery.record(store, failed(None), NOW)
    assert_state(db, message="undelivered", queue="failed", reason="no_code", error_code=None)

    assert delivery.record(store, failed(30003), NOW).answer == "settled"
    assert_state(db, message="queued", queue="pending", retry_count=1, error_code=30003)
    assert delivery.record(store, failed(30003), NOW).answer == "repeated"
    assert_state(db, retry_count=1)


def test_a_later_receipt_with_a_final_code_names_the_cause(db: psycopg.Connection, store: Store) -> None:
    accepted(store)
    delivery.record(store, failed(None), NOW)
    assert delivery.record(store, failed(30007), NOW).answer == "settled"
    assert_state(db, message="undelivered", queue="failed", reason="error_30007", error_code=30007)
    assert delivery.record(store, failed(30003), NOW).answer == "noted"


def test_a_failure_that_concerns_the_account_sets_a_hold(db: psycopg.Connection, store: Store) -> None:
    accepted(store)

    assert delivery.record(store, failed(30002), NOW).hold_set

    assert db.execute("select scope, key, reason from sms_retry.sms_holds").fetchall() == [
        ("account", "*", "error_30002")
    ]
    assert (state_of(db).queue, state_of(db).retry_count) == ("pending", 0)
