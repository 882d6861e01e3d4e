"""The fast paths, which nearly every message takes, write the same rows as the general ones."""

from __future__ import annotations

import re
from typing import Any

import psycopg
import pytest

from sms_retry.store import Store
from sms_retry.values import Report
from tests.integration.examples import MINUTE, accepted, claimed, finish, one, receipt, sid
from tests.tables import truncate_all

HOLD = "insert into sms_retry.sms_holds values ('recipient', '+4917600000001', now(), '1h', 'error', 1, 1)"


def written(db: psycopg.Connection) -> list[Any]:
    """The rows of message 1, where an instant is only set or not, and the number of holds."""
    rows = [
        one(db, f"select to_jsonb(t) from sms_retry.{table} t where {which}")
        for table, which in (
            ("sms_messages", "id = 1"),
            ("sms_retry_queue", "id = 1"),
            ("sms_attempts", "queue_id = 1"),
        )
    ]
    for row in rows:
        row.update({name: value is not None for name, value in row.items() if re.search("(^|_)at$|_for$", name)})
    return [*rows, one(db, "select count(*) from sms_retry.sms_holds")]


@pytest.mark.parametrize("before", ["select 1", HOLD], ids=["no hold", "a probe"])
def test_an_acceptance_writes_the_same_rows_alone_and_beside_a_refusal(
    db: psycopg.Connection, store: Store, before: str
) -> None:
    found = []
    for others in (0, 1):
        truncate_all(db)
        claim, other = claimed(store, 1), claimed(store, 2)
        db.execute(before)
        acceptance = Report(claim.ticket, "accepted", sid(), http_status=201, request_id="RQ1")
        refusals = [Report(other.ticket, "refused", code=21211)] * others
        assert store.finish([acceptance, *refusals])[claim.ticket] == "completed"
        found.append(written(db))
    assert found[0] == found[1]
    assert (found[0][0]["status"], found[0][-1]) == ("sent", 0)


def test_a_delivery_writes_the_same_rows_by_receipt_and_by_report(db: psycopg.Connection, store: Store) -> None:
    found = []
    for by_receipt in (True, False):
        truncate_all(db)
        claim = accepted(store)
        if by_receipt:
            assert receipt(store, sid(), "delivered", ticket=claim.ticket) == "settled"
        else:
            assert finish(store, claim, "delivered", sid=sid()) == "completed"
        found.append(written(db))
    assert found[0] == found[1]
    assert found[0][0]["status"] == "delivered"


@pytest.mark.parametrize("said", ['a "quoted" word', "C:\\new {1,2}", "null", "", "Ünïcode, and a\nline"])
def test_the_error_message_of_twilio_is_stored_unchanged(db: psycopg.Connection, store: Store, said: str) -> None:
    claim, other = claimed(store, 1), claimed(store, 2)
    waits = (MINUTE, 5 * MINUTE)
    store.finish([Report(claim.ticket, "refused", None, 30001, said, delays=waits), Report(other.ticket, "expired")])
    assert one(db, "select error_message from sms_retry.sms_attempts") == said
    assert one(db, "select error_message from sms_retry.sms_messages where id = 2") is None
