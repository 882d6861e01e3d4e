"""Accounts of which Twilio's record differs from our POST, or lags behind it, while answers and receipts are lost."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from functools import partial
from itertools import combinations
from typing import Any

import psycopg

from local.twilio.queues import Rate
from local.twilio.rewriting import Rewriting, canonical
from local.twilio.stand_in import ACCOUNT_SID, AUTH_TOKEN, Accept, BadAnswer, Callbacks, Refuse, Step, TwilioStandIn
from local.waiting import let_time_pass
from sms_retry import delivery, listing, reconcile, worker
from sms_retry.store import Store
from sms_retry.twilio import Credentials, Send
from sms_retry.values import Message

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
REWRITINGS = TRUTHFUL | UNTRUE
ALONE = [(name,) for name in REWRITINGS]
PAIRS = [pair for pair in combinations(REWRITINGS, 2) if not REWRITINGS[pair[0]].keys() & REWRITINGS[pair[1]].keys()]

PLAIN, TYPOGRAPHIC, TWIN = "Your code is 1234.", "Don’t wait — it’s “here”…\n", "Your table is ready."
EMOJI, UNSENT, REWRITTEN_UNSENT, TWINS = "+4917600000003", "+4917600000004", "+4917600000005", "+4917600000006"
# A spelling that release 0.1 stored. Twilio keeps the message under the one spelling of the number.
OLD_SPELLING = "+4407700900123"
# The text to each person, and the steps of the first POSTs, one for each message.
SENT: Mapping[str, tuple[str, tuple[Step, ...]]] = {
    "+4917600000001": (PLAIN, (TAKEN,)),
    "+4917600000002": (TYPOGRAPHIC, (TAKEN,)),
    EMOJI: ("👍 ", (TAKEN,)),
    UNSENT: (PLAIN, (NOT_TAKEN,)),
    REWRITTEN_UNSENT: (TYPOGRAPHIC, (NOT_TAKEN,)),
    TWINS: (TWIN, (Refuse(400, 21611), TAKEN)),
    OLD_SPELLING: (PLAIN, (TAKEN,)),
}
# Twilio's answer confirms these two: one POST before the others, and one after them.
CONFIRMED = "+4917600000091", "+4917600000092"
# Minutes after the POSTs, at which the functions run: each five minutes, then each hour, then until all have ended.
HALF_AN_HOUR, SETTLED = 26, 36
MINUTES = (*range(1, 61, 5), *range(120, 360, 60), *range(720, 80 * 60, 720))
OUTCOMES = """
select m.to_number, case when m.status in ('sent', 'delivered') then 'sent'
    when q.status = 'unknown' and q.reason = 'held' then 'parked' else m.status || ' ' || q.status end
from sms_retry.sms_messages m join sms_retry.sms_retry_queue q on q.message_id = m.id
"""


@dataclass
class Account:
    """A Twilio account, the messages that we send through it, and the functions that run in turn."""

    db: psycopg.Connection
    store: Store
    twilio: TwilioStandIn
    send: Send
    minute: int = field(default=0, init=False)

    def behave(self, names: tuple[str, ...]) -> None:
        changes = {name: value for each in names for name, value in REWRITINGS[each].items()}
        rewritten = {each.name for each in fields(Rewriting)} & changes.keys()
        rewriting = Rewriting(**{name: changes.pop(name) for name in rewritten})
        self.twilio.behave(default=lambda to, nth: LOST, rewriting=rewriting, **changes)

    def post_all(self) -> None:
        """Queue and post every message of SENT and CONFIRMED."""
        self._post(CONFIRMED[0], TYPOGRAPHIC, LOST)
        for to, (body, steps) in SENT.items():
            for step in steps:
                self._post(to, body, step)
        self._post(CONFIRMED[1], TYPOGRAPHIC, LOST)

    def _post(self, to: str, body: str, step: Step) -> None:
        self.twilio.plan(to, step)
        message_id = self.store.queue(Message(canonical(to), body, kind="otp"))
        self.db.execute("update sms_retry.sms_messages set to_number = %s where id = %s", [to, message_id])
        self._tick()

    def run_until(self, minute: int) -> None:
        record = partial(delivery.record, self.store, now=datetime.now(UTC))
        with listing.open_listing(Credentials(ACCOUNT_SID, AUTH_TOKEN), self.twilio.url) as (sent_to, look_up):
            for at in MINUTES:
                if self.minute < at <= minute:
                    let_time_pass(self.db, minutes=at - self.minute)
                    self.twilio.let_time_pass(60.0 * (at - self.minute))
                    self.minute = at
                    self.twilio.deliver_callbacks()
                    reconcile.reconcile(self.store, sent_to, look_up, record, lambda: 300.0)
                    self._tick()

    def _tick(self) -> None:
        worker.drain(self.store, self.send, lambda: 300.0, concurrency=1)

    def outcomes(self) -> dict[str, Counter[str]]:
        """By number: how many messages are sent, parked, or anything else."""
        found: dict[str, Counter[str]] = {to: Counter() for to in (*SENT, *CONFIRMED)}
        for to, outcome in self.db.execute(OUTCOMES).fetchall():
            found[to][outcome] += 1
        return found

    def accepted(self, to: str) -> int:
        """The number of POSTs to a person that Twilio accepted."""
        return sum(canonical(post.to) == canonical(to) for post in self.twilio.accepted())


def violations(account: Account, names: tuple[str, ...]) -> list[str]:
    """Run one account, with an empty database, that behaves in the named ways: a sentence for each violation."""
    account.behave(names)
    account.post_all()
    found: list[str] = []
    if is_truthful := TRUTHFUL.keys() >= set(names):
        account.run_until(HALF_AN_HOUR)
        found += _released_early(account)
        account.run_until(SETTLED)
        found += _not_settled(account)
    account.run_until(MINUTES[-1])
    found += _wrong_at_the_end(account, is_truthful)
    return [f"{', '.join(names)}: {violation}" for violation in found]


def _released_early(account: Account) -> Iterator[str]:
    for to in (UNSENT, REWRITTEN_UNSENT):
        if account.accepted(to):
            yield f"the message to {to} was sent again within {HALF_AN_HOUR} minutes"


def _not_settled(account: Account) -> Iterator[str]:
    """Through a truthful list. The refused one of two equal texts waits longer, for its retry."""
    outcomes = account.outcomes()
    for to in SENT.keys() - {TWINS}:
        if outcomes[to] != {"sent": 1} or account.accepted(to) != 1:
            yield f"after {SETTLED} minutes {to} has {dict(outcomes[to])}, accepted {account.accepted(to)} times"


def _wrong_at_the_end(account: Account, is_truthful: bool) -> Iterator[str]:
    wanted = {to: len(steps) for to, (_, steps) in SENT.items()} | dict.fromkeys(CONFIRMED, 1)
    for to, outcomes in account.outcomes().items():
        accepted = account.accepted(to)
        if accepted > wanted[to]:
            yield f"Twilio accepted {accepted} messages to {to}, and {wanted[to]} were wanted"
        if accepted < outcomes["sent"]:
            yield f"Twilio accepted {accepted} messages to {to}, and {outcomes['sent']} are sent here"
        may_be_parked = not is_truthful and to not in CONFIRMED
        if outcomes["sent"] + may_be_parked * outcomes["parked"] != wanted[to]:
            yield f"the messages to {to} ended as {dict(outcomes)}"
