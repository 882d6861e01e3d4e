"""Twilio's record differs from the POST, and its list lags: no message is accepted twice, and none is lost.

The answers and all receipts are lost. `make chaos` runs all pairs.
"""

from __future__ import annotations

import psycopg
import pytest

from local.twilio.stand_in import TwilioStandIn
from sms_retry.store import Store
from sms_retry.twilio import Send
from tests.chaos.rewritten import (
    ALONE,
    PAIRS,
    SETTLED,
    TRUTHFUL,
    UNSENT,
    UNTRUE,
    Account,
    violations,
)

# The pairs of which neither is a list that shows every text, and those that new Messaging Services have.
HARDEST = [pair for pair in PAIRS if UNTRUE.keys() >= set(pair) or pair[0] == "Smart Encoding"]


@pytest.fixture
def account(db: psycopg.Connection, store: Store, stand_in: TwilioStandIn, send: Send) -> Account:
    return Account(db, store, stand_in, send)


@pytest.mark.parametrize("names", [*ALONE, *HARDEST], ids=", ".join)
def test_no_message_is_accepted_twice_and_none_is_lost(account: Account, names: tuple[str, ...]) -> None:
    assert violations(account, names) == []


def test_a_plain_text_is_sent_again_by_itself_after_half_an_hour(account: Account) -> None:
    account.behave(("trimmed",))
    account.post_all()
    account.run_until(SETTLED)
    assert account.outcomes()[UNSENT] == {"sent": 1}
    assert account.accepted(UNSENT) == 1


def test_every_rewriting_is_paired_with_every_other_of_another_kind() -> None:
    assert {name for pair in PAIRS for name in pair} == TRUTHFUL.keys() | UNTRUE.keys()
    assert len(PAIRS) >= 75
