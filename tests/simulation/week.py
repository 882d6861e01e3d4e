"""One week of the whole stack, minute by minute, with the real handlers and SQL and a simulated clock.

The clock skips minutes in which nothing is due. While a message of a paced sender is due, it moves by half a second,
and each look of a lingering worker is a run of process_retries. The clean-up does not run, because the checks read all
rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import available_timezones

import psycopg
from psycopg.rows import namedtuple_row

from local.proof import Evidence, gather
from local.stack import ENVIRONMENT, Stack, stack
from local.twilio.rewriting import Rewriting
from local.twilio.stand_in import Behaviour, Post
from tests.simulation.clock import VirtualClock
from tests.simulation.plan import (
    BAD_CREDENTIALS,
    CALLBACKS,
    CAMPAIGN,
    CONGESTION,
    DAY_CAP,
    ENABLED,
    FIRST_STEPS,
    FLOOD,
    HOUR,
    LIST_LAGS,
    MINUTE,
    OUTAGE,
    ROUGH_DAY,
    SHOP_STOPPING,
    STARTS,
    STOPS,
    WEEKS,
    WITHDRAWALS,
    Plan,
    Text,
    plan_week,
    step_for,
)
from tests.simulation.senders import LINGERS, OF_DEPLOYMENT, OWN, SHOP

# A worker looks four times a second while messages wait for a pace. Here it looks half as often.
BETWEEN_LOOKS = timedelta(seconds=0.5)
# Every message must have ended by then.
LONGEST = timedelta(days=16)
# During the flood: Twilio's latency, and the timeout of a worker, which leaves little time to send (seconds).
SLOW, SHORT_TIMEOUT = 0.25, 40.3

UNFINISHED = "select id, attempt, status, reason from sms_retry.sms_retry_queue where finished_at is null"
HOLDS = "select scope, key, reason from sms_retry.sms_holds"
SPENT = "select m.id, m.retry_count from sms_retry.sms_messages m"
# The instants of the next send, of the next send of a paced sender, and of the next question to Twilio. For a message
# that has been due for an hour, the clock moves by a minute, so that a fault cannot make a week too long.
DUE = """
with waiting as (
    select q.message_id, greatest(q.scheduled_for,
        (select max(until) from sms_retry.sms_holds where scope in ('account', 'sender') and key = '*')) as at
    from sms_retry.sms_retry_queue q where q.status = 'pending')
select (select min(at) from waiting),
    (select min(w.at) from waiting w
        join sms_retry.sms_messages m on m.id = w.message_id
        join sms_retry.sms_senders s on s.sender = m.sender and s.segments_per_second is not null
        where w.at > %s - interval '1 hour'),
    least((select min(scheduled_for) from sms_retry.sms_retry_queue where status = 'unknown' and finished_at is null),
        (select min(ask_at) from sms_retry.sms_messages where status = 'sent'))
"""
MESSAGES = """
select m.id, m.to_number, m.body, m.kind, m.business_id, m.status, m.expires_at, m.created_at, m.delivered_at,
    m.retry_count, q.finished_at, q.reason, q.max_retries,
    exists (select from sms_retry.sms_attempts a where a.queue_id = q.id and a.attempt = 0) as failed_before,
    (select min(a.at) from sms_retry.sms_attempts a where a.queue_id = q.id and a.attempt > 0) as tried_at
from sms_retry.sms_messages m join sms_retry.sms_retry_queue q on q.message_id = m.id order by m.id
"""


@dataclass
class Week:
    """The record of a week.

    `depth` has the waiting messages and `settled` the messages that a worker settled, by minute; `deferred` the
    deferrals by day and reason; `holds` the minutes in which a hold was set, by scope, key and reason; `spent` the
    retries spent by each message, before and after the outage.
    """

    plan: Plan
    depth: dict[datetime, Counter[str]] = field(default_factory=dict)
    settled: dict[datetime, int] = field(default_factory=dict)
    deferred: Counter[tuple[date, str]] = field(default_factory=Counter)
    holds: dict[tuple[str, str, str], list[datetime]] = field(default_factory=dict)
    spent: list[dict[int, int]] = field(default_factory=list)
    news: list[tuple[datetime, str]] = field(default_factory=list)
    over: bool = False
    messages: list[Any] = field(default_factory=list)
    posts: tuple[Post, ...] = ()
    evidence: Evidence = field(default_factory=lambda: Evidence([], frozenset()))


def simulate(database_url: str, name: str, messages: int, seed: int = 2026) -> Week:
    """Simulate one of WEEKS on an empty database, and the time after it until nothing is due any more."""
    clock = VirtualClock(WEEKS[name])
    week = Week(plan_week(name, messages, _zones(database_url), seed))
    behaviour = Behaviour(
        step_for(week.plan, clock),
        CALLBACKS,
        list_lag=LIST_LAGS[name],
        seed=week.plan.seed,
        rewriting=Rewriting(smart_encoding=True),
    )
    with stack(database_url, behaviour) as parts, clock.in_use(parts.db):
        _Simulation(week, parts, clock).run()
        # The messages that were accepted last are not in Twilio's list yet.
        clock.set(clock.now + 2 * HOUR)
        with parts.db.cursor(row_factory=namedtuple_row) as cursor:
            week.messages = cursor.execute(MESSAGES).fetchall()
        week.posts, week.evidence = parts.twilio.posts(), gather(parts)
    return week


class _Simulation:
    def __init__(self, week: Week, parts: Stack, clock: VirtualClock) -> None:
        self.week, self.plan, self.parts, self.clock = week, week.plan, parts, clock
        self.texts = list(reversed(week.plan.texts))
        self.seen: set[tuple[int, int]] = set()
        self.events = [(week.plan.start + at, name, act) for at, name, act in reversed(self._events())]
        functions = {name: each for name, each in parts.clock.schedules.items() if name != "cleanup_retries"}
        self.functions = replace(parts.clock, schedules=functions, invoke=self._invoke)

    def run(self) -> None:
        for sender in OWN:
            given = [sender.name, sender.business_id, sender.pace]
            self.parts.db.execute("select sms_retry.set_sms_sender(%s, %s, %s::numeric)", given)
        self._set_consent(self.plan.opted_in, "opted_in")
        for number, step in FIRST_STEPS.items():
            self.parts.twilio.plan(number, step)
        at: datetime | None = self.plan.start
        while at and at - self.plan.start < LONGEST:
            self.clock.set(at)
            if at.second or at.microsecond:
                self._look(at)
            else:
                self._minute(at)
            at = self._next(at)
        self.week.over = at is None

    def _minute(self, at: datetime) -> None:
        while self.events and self.events[-1][0] <= at:
            _, name, act = self.events.pop()
            self.week.news.append((at, name))
            act()
        self._queue_due(at)
        if not self.plan.during(OUTAGE, at):
            self.parts.twilio.deliver_callbacks()
        since_1970 = int(at.timestamp()) // 60
        replace(self.functions, now=at - MINUTE, _minutes=since_1970 - 1).advance()
        self._record(at)

    def _look(self, at: datetime) -> None:
        """A text that is queued now waits for the next look."""
        if _lingers(at):
            self._invoke("process_retries", {})
        self._queue_due(at)

    def _queue_due(self, at: datetime) -> None:
        while self.texts and self.texts[-1].at <= at:
            self._queue(self.texts.pop())

    def _events(self) -> list[tuple[timedelta, str, Callable[[], object]]]:
        twilio, stopping, returning = self.parts.twilio, sorted(self.plan.stopping), sorted(self.plan.returning)

        def outage() -> None:
            twilio.close()
            self._note_spent()

        def recovery() -> None:
            self._note_spent()
            twilio.start()

        def stops() -> None:
            self._reply(stopping, "STOP")
            self._reply(SHOP_STOPPING, "STOP", SHOP.name)

        def by_the_clock() -> None:
            """`step_for` in the plan reads the clock."""

        return [
            (CONGESTION[0], "a carrier is congested", by_the_clock),
            (CONGESTION[1], "the congestion is over", by_the_clock),
            (OUTAGE[0], "Twilio is down: no connection", outage),
            (OUTAGE[1], "Twilio is up again", recovery),
            (STOPS, f"{len(stopping)} people reply STOP", stops),
            (WITHDRAWALS, "some withdraw consent", lambda: self._set_consent(self.plan.withdrawing, "unknown")),
            (STARTS, f"{len(returning)} of them reply START", lambda: self._reply(returning, "START")),
            (FLOOD[0], "one business sends a flood", lambda: twilio.behave(latency=SLOW)),
            (FLOOD[1], "the flood is over", lambda: twilio.behave(latency=0.0)),
            (CAMPAIGN, "a campaign of a paced sender", by_the_clock),
            (ENABLED, "a country is enabled; a day with many failures", by_the_clock),
            (ROUGH_DAY[1], "the day with many failures is over", by_the_clock),
            (DAY_CAP, "T-Mobile's cap is used up", by_the_clock),
            (BAD_CREDENTIALS[0], "Twilio refuses our credentials", by_the_clock),
            (BAD_CREDENTIALS[1], "Twilio accepts our credentials", by_the_clock),
        ]

    def _queue(self, text: Text) -> None:
        event = {
            "to": text.person.number,
            "body": text.body,
            "kind": text.kind,
            "business_id": text.business_id,
            "on_unknown": text.on_unknown,
            "time_zone": text.person.stated,
            "expires_at": text.expires_at and text.expires_at.isoformat(),
            "sender": text.named,
        }
        match text.entry:
            case "send_sms":
                self.parts.invoke("send_sms", event)
            case "failed":
                failed = {"error_code": 30001, "error_message": "Queue overflow"}
                self.parts.invoke("send_sms", event | {"failed": failed})
            case "sql" | "scheduled":
                self.parts.db.execute(
                    """select sms_retry.queue_sms_retry(to_number => %(to)s, body => %(body)s, kind => %(kind)s,
                        business_id => %(business_id)s, on_unknown => %(on_unknown)s, time_zone => %(time_zone)s,
                        expires_at => %(expires_at)s, scheduled_for => %(scheduled_for)s, sender => %(sender)s)""",
                    event | {"scheduled_for": text.at + 6 * HOUR if text.entry == "scheduled" else None},
                )

    def _set_consent(self, pairs: Iterable[tuple[str, str]], consent: str) -> None:
        for business_id, number in sorted(pairs):
            self.parts.db.execute("select sms_retry.set_sms_consent(%s, %s, %s)", [business_id, number, consent])

    def _reply(self, numbers: Iterable[str], word: str, to: str = OF_DEPLOYMENT.name) -> None:
        twilio, url = self.parts.twilio, ENVIRONMENT["PUBLIC_WEBHOOK_URL"] + "/twilio/inbound"
        for number in numbers:
            assert twilio.reply(url, number, to, word) == (200,)

    def _invoke(self, function: str, event: object) -> Any:
        if function != "process_retries":
            return self.parts.handlers[function](event)
        short = SHORT_TIMEOUT if self.plan.during(FLOOD, self.clock.now) else None
        returned = self.parts.handlers[function](event, short)
        self.week.settled[self.clock.now] = returned["processed"] - returned["deferred"]
        return returned

    def _note_spent(self) -> None:
        self.week.spent.append(dict(self.parts.db.execute(SPENT).fetchall()))

    def _record(self, at: datetime) -> None:
        rows = self.parts.db.execute(UNFINISHED).fetchall()
        self.week.depth[at] = Counter(status for _, _, status, _ in rows)
        for id, attempt, status, reason in rows:
            if status == "pending" and attempt and (id, attempt) not in self.seen:
                self.seen.add((id, attempt))
                self.week.deferred[at.date(), reason] += 1
        for hold in self.parts.db.execute(HOLDS).fetchall():
            self.week.holds.setdefault(hold, []).append(at)

    def _next(self, at: datetime) -> datetime | None:
        """The next minute in which something is due, or the next look of a lingering worker; None if nothing is due."""
        to_send, to_pace, to_ask = self.parts.db.execute(DUE, [at]).fetchone() or (None, None, None)
        leaving = self.parts.twilio._next_due()
        due = [self.events[-1][0] if self.events else None, to_send]
        if leaving is not None and not self.plan.during(OUTAGE, at):
            due.append(datetime.fromtimestamp(leaving, at.tzinfo))
        # `reconcile` runs every five minutes.
        minutes = [_ceiling(instant, MINUTE) for instant in due if instant]
        minutes += [_ceiling(to_ask, 5 * MINUTE)] if to_ask else []
        following = _ceiling(at + BETWEEN_LOOKS, MINUTE)
        looks = [_next_look(max(to_pace, at + BETWEEN_LOOKS))] if to_pace else []
        queued = [max(self.texts[-1].at, at + BETWEEN_LOOKS)] if self.texts else []
        instants = [*(max(each, following) for each in minutes), *looks, *queued]
        return min(instants, default=None)


def _next_look(instant: datetime) -> datetime:
    """The first instant from `instant` on at which a worker looks."""
    look = _ceiling(instant, BETWEEN_LOOKS)
    return look if _lingers(look) else _ceiling(look, MINUTE)


def _lingers(at: datetime) -> bool:
    return at - at.replace(second=0, microsecond=0) <= LINGERS


def _ceiling(instant: datetime, step: timedelta) -> datetime:
    over = instant.timestamp() % step.total_seconds()
    return instant + timedelta(seconds=(step.total_seconds() - over) if over else 0)


def _zones(database_url: str) -> list[str]:
    """The zones that both Python and the database know."""
    with psycopg.connect(database_url) as connection:
        known = {name for (name,) in connection.execute("select name from pg_timezone_names")}
    return sorted(known & available_timezones() - {"Factory", "localtime"})
