"""What the documentation tells people to type runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg
import pytest

from sms_retry.store import Store
from tests.integration.examples import standing, take_in

ROOT = Path(__file__).parents[2]
SQL = [
    (page, block)
    for page in ("README.md", "docs/by-hand.md")
    for block in re.findall(r"```sql\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
]


@pytest.mark.parametrize(("page", "block"), SQL, ids=[page for page, _ in SQL])
def test_the_sql_in_the_documentation_runs(db: psycopg.Connection, page: str, block: str) -> None:
    db.execute(block)


def test_the_kill_switch_stops_everything_until_it_is_released(db: psycopg.Connection, store: Store) -> None:
    message_id = take_in(store)
    db.execute("select sms_retry.open_sms_hold('account', '*', interval '1000 years', 'by hand')")
    assert store.claim_due(10) == []
    assert store.claim_now(message_id) is None

    db.execute("select sms_retry.close_sms_hold('account', '*')")
    assert len(store.claim_due(10)) == 1
    assert standing(db, message_id).queue == "processing"
