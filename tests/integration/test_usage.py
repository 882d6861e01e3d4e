"""Usage: each accepted POST and each last receipt counts once, under any number of workers."""

from __future__ import annotations

import random
from datetime import timedelta

import psycopg
import pytest

from local.twilio.stand_in import Refuse, TwilioStandIn
from local.waiting import let_time_pass
from sms_retry import worker
from sms_retry.store import Store
from sms_retry.twilio import Send
from sms_retry.values import Final, Message, Receipt
from tests.integration.examples import (
    MINUTE,
    accepted,
    claimed,
    fill,
    finish,
    five_minutes_left,
    in_parallel,
    number,
    one,
    receipt,
    sid,
    unknown,
)


def counts(db: psycopg.Connection) -> dict[tuple[str, int | None], int]:
    """The messages by outcome and code, without zeros."""
    statement = "select outcome, error_code, sum(messages)::int from sms_retry.sms_usage group by 1, 2"
    return {(outcome, code): n for outcome, code, n in db.execute(statement) if n}


def test_four_workers_count_each_accepted_post_once(
    db: psycopg.Connection, database_url: str, stand_in: TwilioStandIn, send: Send
) -> None:
    fill(db, 300)
    stand_in.plan(number(7), Refuse(400, 21211))

    def work(_: int) -> None:
        store = Store(lambda: database_url)
        worker.drain(store, send, five_minutes_left, concurrency=10)
        store.close()

    in_parallel(4, work)
    assert counts(db) == {("accepted", None): 299, ("refused", 21211): 1}
    assert len(stand_in.accepted()) == 299


def test_usage_has_the_segments_that_twilio_bills(db: psycopg.Connection, store: Store, send: Send) -> None:
    store.queue(Message(number(1), "a" * 161, kind="otp", business_id="shop"))
    store.queue(Message("+18765550123", "Hello.", kind="emergency"))
    worker.drain(store, send, five_minutes_left, concurrency=1)
    columns = "business_id, sender, country, kind, outcome, messages, segments"
    rows = db.execute(f"select {columns} from sms_retry.sms_usage order by 1").fetchall()
    assert rows == [
        ("default", "*", "+1876", "emergency", "accepted", 1, 1),
        ("shop", "*", "+49", "otp", "accepted", 1, 2),
    ]


@pytest.mark.parametrize("final", ["delivered", "undelivered", "failed"])
def test_a_last_receipt_counts_once_with_its_time(db: psycopg.Connection, store: Store, final: str) -> None:
    accepted(store, 1)
    let_time_pass(db, seconds=33)
    code = None if final == "delivered" else 30003
    for _ in range(2):
        receipt(store, sid(1), "sent")
        receipt(store, sid(1), final, code)
    assert counts(db) == {("accepted", None): 1, (final, code): 1}
    assert one(db, "select seconds from sms_retry.sms_usage where outcome = %s", [final]) == 46


def test_a_retry_counts_as_another_accepted_post(db: psycopg.Connection, store: Store) -> None:
    accepted(store, 1)
    receipt(store, sid(1), "undelivered", 30003, delays=[MINUTE])
    let_time_pass(db, minutes=2)
    finish(store, store.claim_due(1)[0], "accepted", sid=sid(2))
    receipt(store, sid(2), "delivered")
    assert counts(db) == {("accepted", None): 2, ("undelivered", 30003): 1, ("delivered", None): 1}


def test_a_receipt_before_its_answer_counts_the_acceptance_once(db: psycopg.Connection, store: Store) -> None:
    claim = claimed(store, 1)
    receipt(store, sid(1), "delivered", ticket=claim.ticket)
    finish(store, claim, "accepted", sid=sid(1))
    assert counts(db) == {("accepted", None): 1, ("delivered", None): 1}


def test_an_unknown_message_counts_when_a_receipt_settles_it(db: psycopg.Connection, store: Store) -> None:
    claim = unknown(store, 1)
    assert counts(db) == {}
    receipt(store, sid(1), "sent", ticket=claim.ticket)
    assert counts(db) == {("accepted", None): 1}


def test_a_delivery_after_a_failure_takes_the_failure_back(db: psycopg.Connection, store: Store) -> None:
    accepted(store, 1)
    receipt(store, sid(1), "undelivered", 30003)
    receipt(store, sid(1), "delivered")
    assert counts(db) == {("accepted", None): 1, ("delivered", None): 1}


def test_a_cause_that_comes_later_replaces_the_failure_without_a_code(db: psycopg.Connection, store: Store) -> None:
    accepted(store, 1)
    store.record_delivery(Receipt(sid(1), "undelivered", None, None, number()), Final("no_code"))
    receipt(store, sid(1), "undelivered", 30003)
    assert counts(db) == {("accepted", None): 1, ("undelivered", 30003): 1}


def test_folding_beside_traffic_changes_no_sum(db: psycopg.Connection, database_url: str) -> None:
    fill(db, 400)

    def work(n: int) -> None:
        store = Store(lambda: database_url)
        for _ in range(20):
            if n == 0:
                store.fold_usage()
            else:
                for claim in store.claim_due(5):
                    finish(store, claim, "accepted", sid=sid(claim.message_id))
                    receipt(store, sid(claim.message_id), "delivered")
        store.close()

    in_parallel(3, work)
    expected = {(outcome, None): 200 for outcome in ("accepted", "delivered")}
    assert counts(db) == expected
    store = Store(lambda: database_url)
    while store.fold_usage():
        pass
    store.close()
    assert counts(db) == expected
    assert one(db, "select count(*) < 8 from sms_retry.sms_usage")


def test_the_report_has_rates_and_percentiles(db: psycopg.Connection, store: Store) -> None:
    for n in range(1, 21):
        accepted(store, n)
    for n in range(1, 20):
        if n == 10:
            let_time_pass(db, seconds=95)
        receipt(store, sid(n), "delivered")
    receipt(store, sid(20), "undelivered", 30005)
    [germany] = store.usage("country", timedelta(days=1))
    assert germany._asdict() == {
        "name": "+49",
        "messages": 20,
        "segments": 20,
        "refused": 0,
        "delivered": 19,
        "undelivered": 1,
        "median_seconds": 128,
        "slowest_seconds": 128,
    }
    assert germany.delivery_rate == 0.95
    assert [(row.name, row.undelivered) for row in store.usage("code", timedelta(days=1))] == [
        ("30005", 1),
        ("none", 0),
    ]


def test_messages_of_earlier_days_are_not_in_the_report(db: psycopg.Connection, store: Store) -> None:
    accepted(store, 1)
    let_time_pass(db, days=3)
    accepted(store, 2)
    assert [row.messages for row in store.usage("kind", timedelta(days=1))] == [1]
    assert [row.messages for row in store.usage("kind", timedelta(days=4))] == [2]


def test_the_country_of_a_number_is_its_calling_code(db: psycopg.Connection) -> None:
    codes = [code for (code,) in db.execute("select calling_code from sms_retry.sms_calling_codes")]
    assert len(codes) > 200
    wrong = [code for code in codes if one(db, "select sms_retry.sms_country(%s)", [f"+{code}55512345"]) != f"+{code}"]
    assert wrong == []
    assert one(db, "select sms_retry.sms_country('+14155550123')") == "+1"
    assert one(db, "select sms_retry.sms_country('+18765550123')") == "+1876"


def test_seconds_are_rounded_up_by_less_than_half(db: psycopg.Connection) -> None:
    chance = random.Random(1)
    for seconds in [0.2, 1, 2, 10, 600, *(chance.uniform(3, 100_000) for _ in range(100))]:
        rounded = one(db, "select sms_retry.sms_rounded_seconds(%s)", [timedelta(seconds=seconds)])
        assert seconds <= rounded <= max(seconds * 1.5, 1)
