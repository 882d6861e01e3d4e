"""Receipts that report a failure: the verdict on their code, and the count of codes without a rule."""

from __future__ import annotations

from datetime import UTC, datetime

import psycopg

from sms_retry import delivery
from sms_retry.delivery import Recorded
from sms_retry.store import Store
from sms_retry.values import Receipt
from tests.integration.examples import accepted, number, sid, state_of

NOW = datetime(2026, 6, 15, 16, 0, tzinfo=UTC)
UNLISTED = 39999


def failed(code: int) -> Receipt:
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


def test_a_failure_that_concerns_the_account_sets_a_hold(db: psycopg.Connection, store: Store) -> None:
    accepted(store)

    assert delivery.record(store, failed(30002), NOW).hold_set

    assert db.execute("select scope, key, reason from sms_retry.sms_holds").fetchall() == [
        ("account", "*", "error_30002")
    ]
    assert (state_of(db).queue, state_of(db).retry_count) == ("pending", 0)
