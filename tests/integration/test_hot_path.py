"""The short ways that nearly every message takes come to the same as the long ones."""

from __future__ import annotations

import re
from typing import Any

import psycopg
import pytest

from sms_retry.store import Store
from sms_retry.values import Report
from tests.integration.examples import MINUTE, accepted, claimed, finish, one, receipt, sid

EMPTY = """truncate sms_retry.sms_messages, sms_retry.sms_retry_queue, sms_retry.sms_attempts,
    sms_retry.sms_delivery_events restart identity"""
HOLD = "insert into sms_retry.sms_holds values ('recipient', '+4917600000001', now(), '1h', 'error', 1, 1)"


def kept(db: psycopg.Connection) -> list[Any]:
    """All that is kept of the first message, with instants as there or not, and how many holds are open."""
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
def test_an_acceptance_alone_and_one_beside_a_refusal_are_written_alike(
    db: psycopg.Connection, store: Store, before: str
) -> None:
    found = []
    for others in (0, 1):
        db.execute(EMPTY)
        claim, other = claimed(store, 1), claimed(store, 2)
        db.execute(before)
        acceptance = Report(claim.ticket, "accepted", sid(), http_status=201, request_id="RQ1")
        refusals = [Report(other.ticket, "refused", code=21211)] * others
        assert store.finish([acceptance, *refusals])[claim.ticket] == "completed"
        found.append(kept(db))
    assert found[0] == found[1]
    assert (found[0][0]["status"], found[0][-1]) == ("sent", 0)


def test_a_delivery_by_callback_and_one_that_is_reported_are_written_alike(
    db: psycopg.Connection, store: Store
) -> None:
    found = []
    for by_callback in (True, False):
        db.execute(EMPTY)
        claim = accepted(store)
        if by_callback:
            assert receipt(store, sid(), "delivered", ticket=claim.ticket) == "settled"
        else:
            assert finish(store, claim, "delivered", sid=sid()) == "completed"
        found.append(kept(db))
    assert found[0] == found[1]
    assert found[0][0]["status"] == "delivered"


@pytest.mark.parametrize("said", ['a "quoted" word', "C:\\new {1,2}", "null", "", "Ünïcode, and a\nline"])
def test_what_twilio_said_is_kept_as_it_came(db: psycopg.Connection, store: Store, said: str) -> None:
    claim, other = claimed(store, 1), claimed(store, 2)
    waits = (MINUTE, 5 * MINUTE)
    store.finish([Report(claim.ticket, "refused", None, 30001, said, delays=waits), Report(other.ticket, "expired")])
    assert one(db, "select error_message from sms_retry.sms_attempts") == said
    assert one(db, "select error_message from sms_retry.sms_messages where id = 2") is None
