"""Twilio's record differs from the POST, and its list lags: no message is accepted twice, and none is lost."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime
from functools import partial
from itertools import combinations
from typing import Any

import psycopg
import pytest

from local.twilio.queues import Rate
from local.twilio.rewriting import Rewriting, canonical
from local.twilio.stand_in import ACCOUNT_SID, AUTH_TOKEN, Accept, BadAnswer, Callbacks, Refuse, Step, TwilioStandIn
from local.waiting import let_time_pass
from sms_retry import delivery, listing, reconcile, worker
from sms_retry.store import Store
from sms_retry.twilio import Credentials, Send
from sms_retry.values import Message
from tests.integration.examples import five_minutes_left, number

LOST = Accept(callbacks=Callbacks(lost=1))
TAKEN, NOT_TAKEN = BadAnswer(502, accepted=LOST), BadAnswer(502, accepted=None)

# Fields of the stand-in's Behaviour, or of its Rewriting. With these the list shows every message within seconds, and
# its text so that it can be compared.
TRUTHFUL: Mapping[str, Mapping[str, Any]] = {
    "trimmed": {},
    "Smart Encoding": {"smart_encoding": True},
    "rcs": {"rcs": True},
    "refused POSTs are not listed": {"lists_refusals": False},
    "messages wait at Twilio": {"rates": {"*": Rate(per_second=1 / 60)}},
    "a lag of seconds": {"list_lag": 20.0},
    "a clock that is ahead": {"clock_ahead": 30.0},
    "a clock that is behind": {"clock_ahead": -30.0},
}
UNTRUE: Mapping[str, Mapping[str, Any]] = {
    "redacted": {"redacted": True},
    "masked": {"masked": True},
    "trial": {"trial": True},
    "a lag of minutes": {"list_lag": 1200.0},
    "a lag of an hour": {"list_lag": 3600.0},
    "a lag for ever": {"list_lag": math.inf},
}
ALL = TRUTHFUL | UNTRUE
PAIRS = [pair for pair in combinations(ALL, 2) if not ALL[pair[0]].keys() & ALL[pair[1]].keys()]
MATRIX = [*((name,) for name in ALL), *PAIRS]

# A spelling that release 0.1 stored. Twilio keeps the message under the one spelling of the number.
OLD_SPELLING = "+4407700900123"
PLAIN, TYPOGRAPHIC, TWIN = "Your code is 1234.", "Don’t wait — it’s “here”…\n", "Your table is ready."
# The steps of the first POSTs to each person, and the text of each of the messages.
SENT: Mapping[str, tuple[str, tuple[Step, ...]]] = {
    number(1): (PLAIN, (TAKEN,)),
    number(2): (TYPOGRAPHIC, (TAKEN,)),
    number(3): ("👍 ", (TAKEN,)),
    number(4): (PLAIN, (NOT_TAKEN,)),
    number(5): (TYPOGRAPHIC, (NOT_TAKEN,)),
    number(6): (TWIN, (Refuse(400, 21611), TAKEN)),
    OLD_SPELLING: (PLAIN, (TAKEN,)),
}
# Minutes after the POSTs, at which the functions run: each five minutes, then each hour, then until all have ended.
MINUTES = [*range(1, 61, 5), *range(120, 360, 60), *range(720, 80 * 60, 720)]
OUTCOMES = """
select m.to_number, case when m.status in ('sent', 'delivered') then 'sent'
    when q.status = 'unknown' and q.reason = 'held' then 'parked' else m.status || ' ' || q.status end
from sms_retry.sms_messages m join sms_retry.sms_retry_queue q on q.message_id = m.id
"""


class Account:
    """A Twilio account that behaves in the named ways, and the functions that run in turn."""

    def __init__(self, db: psycopg.Connection, store: Store, twilio: TwilioStandIn, send: Send) -> None:
        self.db, self.store, self.twilio, self.send = db, store, twilio, send
        self.minute = 0

    def behaves(self, *names: str) -> None:
        changes = {field: value for name in names for field, value in ALL[name].items()}
        own = {field.name for field in fields(Rewriting)}
        rewriting = Rewriting(**{field: value for field, value in changes.items() if field in own})
        others = {field: value for field, value in changes.items() if field not in own}
        self.twilio.behave(default=lambda to, nth: LOST, rewriting=rewriting, **others)

    def queue_all(self) -> None:
        """Queue and send every message of SENT, and one before and one after them that Twilio's answer confirms."""
        self._confirmed(91)
        for to, (body, steps) in SENT.items():
            self.twilio.plan(to, *steps)
            self.twilio.plan(canonical(to), *steps)
            for _ in steps:
                message_id = self.store.queue(Message(canonical(to), body, kind="otp"))
                self.db.execute("update sms_retry.sms_messages set to_number = %s where id = %s", [to, message_id])
                worker.drain(self.store, self.send, five_minutes_left, concurrency=1)
        self._confirmed(92)

    def _confirmed(self, n: int) -> None:
        self.store.queue(Message(number(n), TYPOGRAPHIC, kind="otp"))
        assert worker.drain(self.store, self.send, five_minutes_left, concurrency=1).success == 1

    def run_until(self, minute: int) -> None:
        record = partial(delivery.record, self.store, now=datetime.now(UTC))
        with listing.open_listing(Credentials(ACCOUNT_SID, AUTH_TOKEN), self.twilio.url) as (sent_to, look_up):
            for at in MINUTES:
                if self.minute < at <= minute:
                    let_time_pass(self.db, minutes=at - self.minute)
                    self.twilio.let_time_pass(60.0 * (at - self.minute))
                    self.minute = at
                    self.twilio.deliver_callbacks()
                    worker.drain(self.store, self.send, five_minutes_left, concurrency=2)
                    reconcile.reconcile(self.store, sent_to, look_up, record, five_minutes_left)
                    worker.drain(self.store, self.send, five_minutes_left, concurrency=2)

    def outcomes(self) -> dict[str, Counter[str]]:
        found: dict[str, Counter[str]] = {}
        for to, outcome in self.db.execute(OUTCOMES).fetchall():
            found.setdefault(to, Counter())[outcome] += 1
        return found

    def accepted(self) -> Counter[str]:
        """The number of POSTs to each person that Twilio accepted."""
        return Counter(canonical(post.to) for post in self.twilio.accepted())


@pytest.fixture
def account(db: psycopg.Connection, store: Store, stand_in: TwilioStandIn, send: Send) -> Account:
    return Account(db, store, stand_in, send)


def assert_none_is_sent_twice(account: Account) -> None:
    wanted = Counter({canonical(to): len(steps) for to, (_, steps) in SENT.items()})
    assert {to: count for to, count in account.accepted().items() if count > wanted.get(to, 1)} == {}


@pytest.mark.parametrize("names", MATRIX, ids=", ".join)
def test_no_message_is_accepted_twice_and_none_is_lost(account: Account, names: tuple[str, ...]) -> None:
    account.behaves(*names)
    account.queue_all()
    account.run_until(MINUTES[-1])

    assert_none_is_sent_twice(account)
    outcomes = account.outcomes()
    assert {to: found for to, found in outcomes.items() if found.keys() - {"sent", "parked"}} == {}
    assert outcomes[number(91)] == outcomes[number(92)] == {"sent": 1}
    accepted = account.accepted()
    assert all(accepted[canonical(to)] >= found["sent"] for to, found in outcomes.items())


@pytest.mark.parametrize("names", [names for names in MATRIX if TRUTHFUL.keys() >= set(names)], ids=", ".join)
def test_through_a_truthful_list_each_message_is_found_or_sent_again_after_half_an_hour(
    account: Account, names: tuple[str, ...]
) -> None:
    account.behaves(*names)
    account.queue_all()
    account.run_until(26)
    assert account.accepted()[number(4)] == account.accepted()[number(5)] == 0
    account.run_until(36)

    outcomes = account.outcomes()
    assert {to: outcomes[to] for to in SENT if to != number(6)} == {to: {"sent": 1} for to in SENT if to != number(6)}
    assert account.accepted()[number(4)] == account.accepted()[number(5)] == 1
    account.run_until(MINUTES[-1])
    assert account.outcomes()[number(6)] == {"sent": 2}
    assert_none_is_sent_twice(account)
