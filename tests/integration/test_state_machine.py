"""Random steps on two connections: the guarantees hold after every step, in any order.

Hypothesis chooses the steps. tests/transitions.py has the transitions of a queue row that each step may make, `AGREE`
the statuses that go together; the invariants check the rest. With HYPOTHESIS_PROFILE=long this test takes minutes.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import psycopg
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from local.waiting import let_time_pass
from sms_retry import operate
from sms_retry.store import Store
from sms_retry.values import Claim, Finding, Hold, Message, Report, Ticket
from tests.integration.examples import MINUTE, number, one, receipt, sid
from tests.tables import delete_all
from tests.transitions import MAY

REAL_DATABASE: dict[str, Any] = {
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
    "phases": [Phase.generate, Phase.shrink],
    "print_blob": False,
}
PROFILES = {
    "quick": settings(max_examples=100, stateful_step_count=40, derandomize=True, database=None, **REAL_DATABASE),
    "long": settings(max_examples=1500, stateful_step_count=60, **REAL_DATABASE),
}
PROFILE = PROFILES["long" if os.environ.get("HYPOTHESIS_PROFILE") == "long" else "quick"]

# The statuses of a message for each status of its queue row. A receipt of an older attempt may report a delivery while
# a newer attempt is in progress.
AGREE = {
    "pending": {"queued"},
    "processing": {"queued", "delivered"},
    "completed": {"sent", "delivered"},
    "failed": {"failed", "undelivered"},
    "unknown": {"unknown"},
    "cancelled": {"cancelled"},
    "expired": {"expired"},
}

# Final statuses. A retry by hand may make those in BY_HAND queued again; a delivered receipt may change any of them.
FINAL = {"delivered", "undelivered", "failed", "cancelled", "expired"}
BY_HAND = {("failed", "queued"), ("undelivered", "queued")}

# Each kind of report counts once per ticket, and only in this order.
ORDER = {"unknown": 0, "refused": 1, "deferred": 1, "expired": 1, "opted_out": 1, "not_sent": 1, "accepted": 2}

RECEIPTS = {
    "queued": "receipt taken",
    "sent": "receipt taken",
    "delivered": "receipt delivered",
    "undelivered": "receipt failed",
    "failed": "receipt failed",
    "canceled": "receipt canceled",
}

REPORTS: dict[str, dict[str, Any]] = {
    "accepted": {"outcome": "accepted"},
    "refused for now": {"outcome": "refused", "code": 30001, "delays": (MINUTE, 5 * MINUTE, 15 * MINUTE)},
    "refused for good": {"outcome": "refused", "code": 21211},
    "refused without spending": {"outcome": "refused", "code": 20429, "delays": (MINUTE,), "spends": False},
    "refused by the person": {"outcome": "refused", "code": 21610, "reason": "opted_out"},
    "unknown": {"outcome": "unknown"},
    "deferred by a hold": {"outcome": "deferred", "delays": (30 * MINUTE,), "reason": "hold"},
    "given back": {"outcome": "deferred", "delays": (timedelta(0),), "reason": "given_back"},
    "expired": {"outcome": "expired"},
    "opted out": {"outcome": "opted_out"},
    "not sent": {"outcome": "not_sent", "reason": "invalid_number"},
}

NUMBERS = st.sampled_from([number(1), number(2)])
WORKERS = st.sampled_from([0, 1])
# The index of a message; of a ticket, counted back from the newest; and how many attempts older the ticket is.
MESSAGE = st.integers(0, 4)
TICKET = st.sampled_from([0, 1, 2, 3])
OLDER = st.sampled_from([0, 0, 1])
MINUTES = st.sampled_from([0, 1, 5, 11, 25, 31, 120, 73 * 60, 8 * 24 * 60])
SCOPES = st.sampled_from([("account", "*"), ("sender", "*"), ("country", "+49"), ("recipient", number(1))])

# Each step: its weight, and its arguments.
STEPS: dict[str, tuple[int, dict[str, st.SearchStrategy[Any]]]] = {
    "claim": (4, {"worker": WORKERS, "after": MINUTES, "limit": st.integers(1, 3)}),
    "claim_this": (1, {"worker": WORKERS, "after": MINUTES, "message": MESSAGE}),
    "finish": (5, {"worker": WORKERS, "ticket": TICKET, "older": OLDER, "report": st.sampled_from(list(REPORTS))}),
    "recover": (2, {"worker": WORKERS, "after": MINUTES}),
    "receive": (
        5,
        {
            "worker": WORKERS,
            "about": TICKET,
            "older": OLDER,
            "ticket_in_url": st.sampled_from(["its own", "its own", "none", "another"]),
            "another": TICKET,
            "status": st.sampled_from(list(RECEIPTS)),
            "waits": st.sampled_from([(), (MINUTE, 5 * MINUTE, 15 * MINUTE)]),
        },
    ),
    "release": (
        2,
        {
            "worker": WORKERS,
            "after": MINUTES,
            "tickets": st.lists(TICKET, max_size=2),
            "finding": st.sampled_from(["absent", "absent", "absent", "stranger", "unsure"]),
        },
    ),
    "queue": (
        2,
        {
            "to": NUMBERS,
            "code": st.sampled_from([None, None, 30003]),
            "on_unknown": st.sampled_from(["resend", "resend", "hold"]),
            "hours": st.sampled_from([None, 24 * 20, 24 * 20, 1]),
        },
    ),
    "doubt": (1, {"after": MINUTES, "minutes": st.sampled_from([0, 5, 60])}),
    "retry_now": (2, {"message": MESSAGE, "force": st.booleans()}),
    "cancel": (1, {"message": MESSAGE}),
    "consent": (1, {"to": NUMBERS, "to_all": st.booleans(), "reply": st.sampled_from(["start", "start", "stop"])}),
    "hold": (1, {"scope": SCOPES, "wait": st.sampled_from([None, None, MINUTE, 60 * MINUTE])}),
    "pace": (1, {"segments_per_second": st.sampled_from([None, 1, 100])}),
    "cleanup": (1, {"worker": WORKERS, "after": MINUTES}),
    "requeue": (1, {"after": MINUTES, "code": st.sampled_from([21211, 30001, 30003])}),
    "erase_bodies": (2, {"worker": WORKERS, "after": MINUTES}),
    "erase": (1, {"to": NUMBERS}),
}
# One rule draws from all steps, because Hypothesis omits about half of the rules in each example.
STEP = st.sampled_from([name for name, (weight, _) in STEPS.items() for _ in range(weight)]).flatmap(
    lambda name: st.fixed_dictionaries({"do": st.just(name), **STEPS[name][1]})
)


class Row(NamedTuple):
    """One message and its queue row; `queue` is None after the cleanup."""

    message_id: int
    message: str
    retry_count_of_message: int
    queue: str | None
    attempt: int | None
    retry_count: int | None
    max_retries: int | None
    scheduled_for: datetime | None
    claimed_at: datetime | None
    finished_at: datetime | None
    is_erased: bool | None
    now: datetime


ROWS = """
select m.id, m.status, m.retry_count,
    q.status, q.attempt, q.retry_count, q.max_retries, q.scheduled_for, q.claimed_at, q.finished_at,
    m.body is null, now()
from sms_retry.sms_messages m left join sms_retry.sms_retry_queue q on q.message_id = m.id
"""
EVERYTHING = """
select (select array_agg(t::text order by id) from sms_retry.sms_messages t),
    (select array_agg(t::text order by id) from sms_retry.sms_retry_queue t),
    (select array_agg(t::text order by t::text) from sms_retry.sms_attempts t),
    (select array_agg(t::text order by t::text) from sms_retry.sms_holds t),
    (select array_agg(t::text order by t::text) from sms_retry.sms_recipients t)
"""
WAITING = """
select count(*) from sms_retry.sms_messages m join sms_retry.sms_retry_queue q on q.message_id = m.id
where q.status = 'pending' and m.to_number = %s
"""
OPTED_OUT = """
select exists (select from sms_retry.sms_recipients
    where phone_number = %s and business_id = '*' and consent = 'opted_out')
"""
HOLDS = """
select coalesce(bool_or(until > now()), false), count(*) from sms_retry.sms_holds where scope in ('account', 'sender')
"""


class Sending(RuleBasedStateMachine):
    """Two workers, Twilio, the recipients and the operators: each may take any of its steps at any time."""

    def __init__(self, db: psycopg.Connection, stores: Sequence[Store]) -> None:
        super().__init__()
        self.db, self.stores = db, stores
        delete_all(self.db)
        self.doing = "queue"
        self.rows: dict[int, Row] = {}
        self.tickets: list[Ticket] = []
        self.counted: dict[Ticket, list[str]] = defaultdict(list)
        # Two rare states are there from the start: a message on its last retry, and an opt-in.
        for n, code in ((1, None), (2, 30003), (1, 30003)):
            self.stores[0].queue(Message(number(n), "Hello."), code)
        self.db.execute("update sms_retry.sms_retry_queue set max_retries = 1")
        self.stores[0].set_consent("default", number(2), "opted_in")

    @rule(step=STEP)
    def step(self, step: dict[str, Any]) -> None:
        """Do one step. Steps about a ticket do nothing until the first claim."""
        chosen = {name: choice for name, choice in step.items() if name != "do"}
        if minutes := chosen.pop("after", 0):
            let_time_pass(self.db, minutes=minutes)
            self.rows = self._rows()
        if "message" in chosen:
            if not self.rows:
                return
            chosen["message"] = sorted(self.rows)[chosen["message"] % len(self.rows)]
        for name in {"ticket", "about", "another"} & chosen.keys():
            if not self.tickets:
                return
            chosen[name] = self._ticket(chosen[name])
        if older := chosen.pop("older", 0):
            name = "ticket" if "ticket" in chosen else "about"
            chosen[name] = Ticket(chosen[name].id, max(1, chosen[name].attempt - older))
        getattr(self, step["do"])(**chosen)

    @invariant()
    def the_guarantees_hold(self) -> None:
        rows = self._rows()
        for row in rows.values():
            _check_row(row)
        for message_id, was in self.rows.items():
            _check_change(self.doing, was, rows[message_id])
        for message_id in rows.keys() - self.rows.keys():
            assert f"new>{rows[message_id].queue}" in MAY[self.doing].split()
        self.rows = rows

    def queue(self, to: str, code: int | None, on_unknown: str, hours: int | None) -> None:
        self.doing = "queue"
        expires_at = datetime.now(UTC) + timedelta(hours=hours) if hours else None
        self.stores[0].queue(Message(to, "Hello.", on_unknown=on_unknown, expires_at=expires_at), code)

    def claim(self, worker: int, limit: int) -> None:
        self._claims(limit, lambda: self.stores[worker].claim_due(limit))

    def claim_this(self, worker: int, message: int) -> None:
        self._claims(1, lambda: [claim] if (claim := self.stores[worker].claim_now(message)) else [])

    def recover(self, worker: int) -> None:
        self.doing = "recover"
        stuck = [row for row in self.rows.values() if row.queue == "processing" and _age(row) > 10 * MINUTE]
        assert self.stores[worker].take_stock(1)[0] == len(stuck)

    def finish(self, worker: int, ticket: Ticket, report: str) -> None:
        made = Report(ticket, sid=_sid(ticket) if report == "accepted" else None, **REPORTS[report])
        self.doing = made.reason if made.reason == "opted_out" else made.outcome
        before = self._everything()
        if self.stores[worker].finish([made]):
            self.counted[ticket].append(made.outcome)
            order = [ORDER[outcome] for outcome in self.counted[ticket]]
            assert order == sorted(set(order)), f"the reports {self.counted[ticket]} of one ticket all counted"
        elif made.reason != "opted_out":  # a stale report still opts the person out
            assert self._everything() == before, "a stale report changed something"

    def receive(
        self, worker: int, about: Ticket, ticket_in_url: str, another: Ticket, status: str, waits: Sequence[timedelta]
    ) -> None:
        self.doing = RECEIPTS[status]
        # Twilio never signs a SID with the ticket of another message; beside a known SID the ticket is ignored.
        known = one(self.db, "select exists (select from sms_retry.sms_attempts where message_sid = %s)", [_sid(about)])
        named = {"its own": about, "none": None, "another": another if known else None}[ticket_in_url]
        code = 30003 if status in ("undelivered", "failed") else None
        before = self._everything()
        # Without a To, so that the ticket counts for each recipient.
        if receipt(self.stores[worker], _sid(about), status, code, named, waits, to_number="") != "settled":
            assert self._everything() == before, "a receipt that settled nothing changed something"

    def release(self, worker: int, tickets: list[int], finding: Finding) -> None:
        self.doing = "release"
        due = [ticket for ticket, *_ in self.stores[worker].unknown_due(10)]
        others = [self._ticket(back) for back in tickets if self.tickets]
        chosen = [*{*due, *others}]
        released = self.stores[worker].release_unknown(chosen, [finding] * len(chosen))
        assert finding == "absent" or "pending" not in released

    def doubt(self, minutes: int) -> None:
        self.doing = "doubt"
        operate.doubt(self.stores[0], "anna", datetime.now(UTC) - timedelta(minutes=minutes, seconds=1))

    def retry_now(self, message: int, force: bool) -> None:
        self.doing = "retry"
        was = self.rows[message]
        due = operate.retry(self.stores[0], "anna", message, force)
        assert due == (was.queue in ("pending", "failed", "unknown" if force else "") and not was.is_erased)

    def requeue(self, code: int) -> None:
        self.doing = "retry"
        operate.requeue(self.stores[0], "anna", code, datetime.now(UTC) - timedelta(days=30), 2)

    def erase_bodies(self, worker: int) -> None:
        self.doing = "erase"
        self.stores[worker].erase_bodies(1)

    def erase(self, to: str) -> None:
        self.doing = "erase"
        erased = operate.erase(self.stores[0], "anna", to)
        assert erased.left == erased.on_their_way
        self.rows = {message_id: self.rows[message_id] for message_id in self._rows()}

    def cancel(self, message: int) -> None:
        self.doing = "cancel"
        self.db.execute("select sms_retry.cancel_sms_retry(%s)", [message])

    def consent(self, to: str, to_all: bool, reply: str) -> None:
        self.doing = "consent"
        self.stores[0].set_consent("*" if to_all else "default", to, "opted_out" if reply == "stop" else "opted_in")
        if reply == "stop":
            assert one(self.db, WAITING, [to]) == 0, "a message still waits for a person who opted out"

    def hold(self, scope: tuple[str, str], wait: timedelta | None) -> None:
        self.doing = "hold"
        if wait:
            self.stores[0].set_hold(Hold(*scope, wait, "error_20003"))
        else:
            self.db.execute("delete from sms_retry.sms_holds")

    def cleanup(self, worker: int) -> None:
        self.doing = "cleanup"
        self.stores[worker].cleanup()

    def pace(self, segments_per_second: int | None) -> None:
        self.doing = "pace"
        self.db.execute("select sms_retry.set_sms_sender('*', segments_per_second => %s)", [segments_per_second])

    def _claims(self, limit: int, claim: Callable[[], list[Claim]]) -> None:
        self.doing = "claim"
        is_held, holds = self.db.execute(HOLDS).fetchone() or (False, 0)
        claims = claim()
        assert len(claims) <= (0 if is_held else 1 if holds else limit)
        for each in claims:
            was = self.rows[each.message_id]
            assert was.scheduled_for is not None
            assert was.scheduled_for <= each.claimed_at, "claimed before it was due"
            assert each.attempt == (was.attempt or 0) + 1
            assert each.consent == "opted_out" or not one(self.db, OPTED_OUT, [each.to_number])
        self.tickets += [each.ticket for each in claims]
        assert one(self.db, "select coalesce(min(tokens), 0) >= -0.5 from sms_retry.sms_senders")

    def _ticket(self, back: int) -> Ticket:
        return self.tickets[-1 - back % len(self.tickets)]

    def _rows(self) -> dict[int, Row]:
        return {row[0]: Row(*row) for row in self.db.execute(ROWS)}

    def _everything(self) -> Any:
        return self.db.execute(EVERYTHING).fetchone()


def test_the_guarantees_hold_after_random_steps_in_any_order(
    db: psycopg.Connection, open_store: Callable[[], Store]
) -> None:
    stores = [open_store(), open_store()]
    run_state_machine_as_test(lambda: Sending(db, stores), settings=PROFILE)


def _check_row(row: Row) -> None:
    if row.queue is None:
        return
    assert row.message in AGREE[row.queue], row
    assert row.retry_count == row.retry_count_of_message, row
    assert 0 <= (row.retry_count or 0) <= (row.max_retries or 0), row
    assert (row.claimed_at is not None) == (row.queue in ("processing", "unknown")), row
    assert row.finished_at is None or row.queue not in ("pending", "processing"), row
    assert row.finished_at is not None or row.queue in ("pending", "processing", "unknown"), row
    assert row.finished_at is not None or not row.is_erased, row


def _check_change(doing: str, was: Row, now: Row) -> None:
    change = f"{was.queue or 'gone'}>{now.queue or 'gone'}"
    if was.queue != now.queue:
        assert change in MAY[doing].split(), f"{doing} made {change}"
    if was.message in FINAL and now.message != was.message:
        by_hand = doing == "retry" and (was.message, now.message) in BY_HAND
        assert was.message != "delivered", f"{doing} undid a delivery"
        assert by_hand or now.message == "delivered", f"{doing} made {was.message} into {now.message}"
    if now.queue is None:
        return
    # After a restore a row may get the ticket of the lost claim.
    raised = {"pending>processing": {1}, "completed>unknown": {1}, "pending>unknown": {0, 1}}.get(change, {0})
    assert (now.attempt or 0) - (was.attempt or 0) in raised, f"{doing} moved the attempt"
    assert (now.retry_count or 0) >= (was.retry_count or 0), f"{doing} gave a retry back"
    if change == "unknown>pending" and doing == "release":
        assert _age(was) >= 30 * MINUTE, "sent again before it was unknown for 30 minutes"


def _age(row: Row) -> timedelta:
    return row.now - row.claimed_at if row.claimed_at else timedelta(0)


def _sid(ticket: Ticket) -> str:
    """The SID of the message that the POST with this ticket creates."""
    return sid(1000 * ticket.id + ticket.attempt)
