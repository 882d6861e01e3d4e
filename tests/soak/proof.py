"""The guarantees: a message is compared with Twilio's record before the clean-up removes it, or at the end."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg.rows import namedtuple_row

from local.proof import Check, Evidence, checks, counted, gather
from local.stack import ENVIRONMENT, Stack
from local.twilio.callbacks import post_callback
from local.twilio.stand_in import Post, TwilioStandIn
from sms_retry.worker import ahead
from tests.chaos.worker import CONCURRENCY
from tests.event_bus import Bus
from tests.simulation.guarantees import of_posts
from tests.simulation.plan import Plan, Text
from tests.simulation.week import MESSAGES, Week
from tests.soak.traffic import OPTED_IN, PACED

# A window of the pace, and the seconds of segments that a sender may use in it.
WINDOW, SECONDS = 10.0, 11
# The most messages of a campaign that two workers, and one that replaces a killed one, have claimed before an otp.
CLAIMED = 3 * (CONCURRENCY + ahead(CONCURRENCY))
# The checks of `local.proof` that hold in any plan.
SHARED = frozenset({"Nothing is lost", "Nothing is sent twice", "Statuses match", "Retries are bounded"})
# The tickets of each message that may have been sent, such as those of killed workers.
UNKNOWN = """
select q.message_id, array_agg(a.queue_id || '-' || a.attempt)
from sms_retry.sms_attempts a join sms_retry.sms_retry_queue q on q.id = a.queue_id
where a.outcome = 'unknown' group by 1
"""
# The attempts and the receipts of a message. A number or a text is in neither.
STORY = """
select a.at, concat_ws(' ', 'attempt', a.queue_id || '-' || a.attempt, a.outcome, a.http_status, a.error_code)
from sms_retry.sms_attempts a join sms_retry.sms_retry_queue q on q.id = a.queue_id
where q.message_id = %(message)s
union all
select e.received_at, concat_ws(' ', 'receipt', e.ticket, e.status, e.error_code)
from sms_retry.sms_delivery_events e
where e.message_sid in (
    select a.message_sid from sms_retry.sms_attempts a join sms_retry.sms_retry_queue q on q.id = a.queue_id
    where q.message_id = %(message)s)
"""
# The most seconds between a worker's look at the time and the arrival of the POST, on a machine with other work.
ON_ITS_WAY = 5
TYPES = ("delivered", "undelivered", "failed", "expired", "cancelled")
Key = tuple[str, str]


@dataclass
class Proof:
    """`texts` are those whose messages are not compared yet, by (number, body); `started` has their real times.

    `told` are the types of the events on the bus, by message key; `faults` and `seen` are by guarantee.
    """

    texts: dict[Key, Text] = field(default_factory=dict)
    told: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    stopped: dict[str, float] = field(default_factory=dict)
    faults: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    seen: Counter[str] = field(default_factory=Counter)

    def add(self, guarantee: str, faults: Sequence[str], seen: int) -> None:
        self.faults[guarantee] += faults
        self.seen[guarantee] += seen

    def found(self) -> list[Check]:
        return [Check(name, f"{self.seen[name]:,} compared", tuple(faults)) for name, faults in self.faults.items()]

    def expect(self, texts: Sequence[Text]) -> None:
        self.texts |= {(text.person.number, text.body): text for text in texts}

    def needed_since(self, now: datetime) -> datetime:
        """The time since which Twilio's record is needed: a message may end days after its first POST."""
        return min((text.at for text in self.texts.values()), default=now)

    def compare(self, parts: Stack, bus: Bus, before: datetime | None = None) -> None:
        """Compare the messages that ended before this instant, or all. The others must be in the tables."""
        for event in bus.details:
            self.told[event["message_key"]].add(event["type"])
        bus.details.clear()
        evidence = gather(parts)
        rows = {(m.to_number, m.body) for m in evidence.messages}
        lost = self.texts.keys() - rows
        self.add("Nothing is lost", [f"the message {body!r} to {to} is not in the tables" for to, body in lost], 0)
        for key in lost:
            del self.texts[key]
        self._compare(parts, evidence, [m for m in evidence.messages if not before or _ended(m, before)])

    def _compare(self, parts: Stack, evidence: Evidence, messages: list[Any]) -> None:
        keys = {(m.to_number, m.body) for m in messages} & self.texts.keys()
        messages = [m for m in messages if (m.to_number, m.body) in keys]
        part = replace(
            evidence,
            messages=messages,
            posts=defaultdict(list, {key: evidence.posts[key] for key in keys}),
            listed=defaultdict(list, {key: evidence.listed[key] for key in keys}),
        )
        of_messages = [check for check in checks(part, len(messages), {}) if check.guarantee in SHARED]
        for check in (*of_messages, *of_posts(self._week(parts, keys))):
            self.add(check.guarantee, check.faults, len(messages))
        self.add("An outage spends no retry", list(_spent(parts.db, part)), len(messages))
        self.add("Endings are events", list(self._untold(messages)), len(messages))
        for key in keys:
            del self.texts[key]

    def _week(self, parts: Stack, keys: set[Key]) -> Week:
        texts = tuple(self.texts[key] for key in keys)
        none: frozenset[str] = frozenset()
        start = min((text.at for text in texts), default=datetime.now(UTC))
        plan = Plan("soak", start, texts, OPTED_IN, frozenset(), none, none, none, 0)
        week = Week(plan, posts=tuple(map(_as_claimed, parts.twilio.posts())))
        with parts.db.cursor(row_factory=namedtuple_row) as cursor:
            week.messages = cursor.execute(MESSAGES).fetchall()
        return week

    def _untold(self, messages: list[Any]) -> Iterator[str]:
        for m in messages:
            told = self.told.pop(m.body, set())
            if m.status in TYPES and m.status not in told:
                yield f"message {m.id} ended as {m.status}, and its events are {sorted(told)}"

    def watch(self, posts: Sequence[Post], otps: Mapping[Key, float]) -> None:
        """The POSTs of one day's traffic: the pace, the rank of an otp, and people who have opted out.

        `otps` are the times at which the otps of the paced sender were committed.
        """
        paced = [post for post in posts if post.form.get("From") == PACED.name]
        most = max((sum(0 <= each.at - post.at <= WINDOW for each in paced) for post in paced), default=0)
        over = [f"a sender with a pace of {PACED.pace:g} sent {most} segments in {WINDOW:g} s"]
        self.add("Paces are kept", over if most > PACED.pace * SECONDS else [], len(paced))
        self.add("No otp waits for a campaign", list(_behind(paced, otps)), len(otps))
        told = [post for post in posts if post.to in self.stopped and post.at > self.stopped[post.to]]
        self.add("No POST after a STOP", [f"{post.to} opted out, and got a POST" for post in told], len(posts))


def _spent(db: psycopg.Connection, evidence: Evidence) -> Iterator[str]:
    """A retry is spent on a failure of the message, or on a ticket that may have been sent."""
    unknown = dict(db.execute(UNKNOWN).fetchall())
    for m in evidence.messages:
        posts = evidence.posts[m.to_number, m.body]
        # A worker may have been killed after a refusal that spends no retry: then its ticket is unknown too.
        others = {*unknown.get(m.id, ())} - {post.ticket for post in counted(posts)}
        reasons = len(counted(posts)) + m.failed_before + len(others)
        if m.retry_count > reasons:
            story = _story(db, m.id, posts)
            yield f"message {m.id} has spent {m.retry_count} retries for {reasons} reasons: {story}"


def _story(db: psycopg.Connection, message_id: int, posts: Sequence[Post]) -> str:
    """The POSTs, attempts and receipts of a message, in the order of their times."""
    known = [(datetime.fromtimestamp(post.at, UTC), f"POST {post.ticket} {post.step}") for post in posts]
    known += db.execute(STORY, {"message": message_id}).fetchall()
    return ", ".join(f"{at:%d %H:%M:%S} {event}" for at, event in sorted(known))


def _as_claimed(post: Post) -> Post:
    """The POST with the validity that is left when it reaches Twilio. The worker counts it before the POST."""
    validity = int(post.form.get("ValidityPeriod", 0))
    return replace(post, form={**post.form, "ValidityPeriod": str(validity - ON_ITS_WAY)})


def _behind(paced: Sequence[Post], otps: Mapping[Key, float]) -> Iterator[str]:
    """An otp waits at most for the messages that workers had claimed. A claim of a killed worker is not counted."""
    first = {(post.to, post.form["Body"]): post for post in reversed(paced)}
    for key, queued in otps.items():
        if key in first and (first[key].ticket or "").endswith("-1"):
            passed = sum(queued < post.at < first[key].at for post in paced if (post.to, post.form["Body"]) not in otps)
            if passed > CLAIMED:
                yield f"the otp {key[1]!r} waited for {passed} messages of a campaign"


def _ended(message: Any, before: datetime) -> bool:
    return message.finished_at is not None and message.finished_at < before


def forged(twilio: TwilioStandIn, db: psycopg.Connection) -> list[str]:
    """Post a receipt that Twilio has not signed, for the newest message that is sent. Returns the faults."""
    row = db.execute("select provider_sid from sms_retry.sms_messages where status = 'sent' order by id desc limit 1")
    sid = (row.fetchone() or ("SM" + "0" * 32,))[0]
    params = {"MessageSid": sid, "MessageStatus": "failed", "ErrorCode": "30005"}
    url = ENVIRONMENT["PUBLIC_WEBHOOK_URL"] + "/twilio/status?t=1-1"
    answers = post_callback(url, params, "not Twilio's token", twilio.route)
    return [f"the webhook answered {answer} to a forged receipt" for answer in answers if answer != 403]
