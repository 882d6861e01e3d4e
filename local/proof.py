"""Whether the guarantees held: what we wrote down, against what Twilio remembers.

Every check gives a sentence of what was looked at, and the faults that were found, by message id.
"""

from __future__ import annotations

import base64
import json
import urllib.request
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from itertools import pairwise
from typing import Any

from psycopg.rows import namedtuple_row

from local.stack import Stack
from local.twilio.stand_in import Post, Refuse, TwilioStandIn

DID_NOT_ARRIVE = ("undelivered", "failed", "canceled")
# These say nothing about the message, so they must not cost it a retry.
NOBODYS_FAULT = frozenset({20003, 20429, 20503})

MESSAGES = """
select m.id, m.to_number, m.body, m.status, m.provider_sid, m.on_unknown,
    q.status as queue_status, q.finished_at, q.retry_count, q.max_retries, q.reason, exists (
        select from sms_retry.sms_attempts a where a.queue_id = q.id and a.attempt = 0) as failed_before
from sms_retry.sms_messages m join sms_retry.sms_retry_queue q on q.message_id = m.id order by m.id
"""

# What has no end yet, but for the unknown messages that are held for a person: somebody has said stop meanwhile.
UNSETTLED = """
select q.id from sms_retry.sms_retry_queue q join sms_retry.sms_messages m on m.id = q.message_id
where q.finished_at is null
    and not (q.status = 'unknown' and m.on_unknown = 'hold' and q.claimed_at < now() - interval '30 minutes')
"""


@dataclass(frozen=True)
class Check:
    """A guarantee, what was looked at, and each fault."""

    guarantee: str
    seen: str
    faults: tuple[str, ...]


@dataclass(frozen=True)
class Taken:
    """One message as Twilio's list shows it: `created` when it was accepted, `updated` when its status last changed."""

    sid: str
    status: str
    created: datetime
    updated: datetime

    @property
    def arrived(self) -> bool:
        return self.status not in DID_NOT_ARRIVE


@dataclass(frozen=True)
class Evidence:
    """Our rows; and by (number, text) every POST that reached Twilio and every message that it took, oldest first."""

    messages: list[Any]
    known_sids: frozenset[str]
    posts: Mapping[tuple[str, str], list[Post]] = field(default_factory=lambda: defaultdict(list))
    taken: Mapping[tuple[str, str], list[Taken]] = field(default_factory=lambda: defaultdict(list))


def gather(stack: Stack) -> Evidence:
    """Both sides, as they are now."""
    with stack.db.cursor(row_factory=namedtuple_row) as cursor:
        messages = cursor.execute(MESSAGES).fetchall()
    sids = stack.db.execute("select message_sid from sms_retry.sms_attempts where message_sid is not null")
    evidence = Evidence(messages, frozenset(sid for (sid,) in sids))
    for post in stack.twilio.posts():
        evidence.posts[post.to, post.form["Body"]].append(post)
    for record in _listed(stack.twilio):
        created, updated = (parsedate_to_datetime(record[name]) for name in ("date_created", "date_updated"))
        taken = Taken(record["sid"], record["status"], created, updated)
        evidence.taken[record["to"], record["body"]].insert(0, taken)
    return evidence


def checks(evidence: Evidence, taken_in: int, stops: Mapping[str, int]) -> list[Check]:
    """`stops` is how many POSTs each person who said stop had been sent when that was known."""
    return [
        _nothing_is_lost(evidence, taken_in),
        _nobody_gets_one_twice(evidence),
        _statuses_are_true(evidence),
        _stop_means_stop(evidence, stops),
        _what_expired_never_went(evidence),
        _retries_are_within_the_budget(evidence),
        _an_outage_costs_no_retry(evidence),
    ]


def _nothing_is_lost(evidence: Evidence, taken_in: int) -> Check:
    held = [m for m in evidence.messages if m.queue_status == "unknown" and m.on_unknown == "hold"]

    def faults() -> Iterator[str]:
        if len(evidence.messages) != taken_in:
            yield f"{taken_in} messages were taken in, {len(evidence.messages)} are there"
        for m in evidence.messages:
            if m.finished_at is None and m not in held:
                yield f"message {m.id} has no end: it is {m.queue_status}"
        for sid in {each.sid for taken in evidence.taken.values() for each in taken} - evidence.known_sids:
            yield f"{sid} was accepted, and nobody here knows of it"

    seen = f"{taken_in} taken in: {taken_in - len(held)} have an end, held for a person: {len(held)}"
    return Check("Nothing is lost", seen, tuple(faults()))


def _nobody_gets_one_twice(evidence: Evidence) -> Check:
    def faults() -> Iterator[str]:
        for m in evidence.messages:
            taken = evidence.taken[m.to_number, m.body]
            if sum(each.arrived for each in taken) > 1:
                yield f"message {m.id} was accepted more than once and more than one did not fail"
            for earlier, later in pairwise(taken):
                if earlier.arrived or earlier.updated > later.created:
                    yield f"message {m.id} was accepted again while {earlier.sid} had not failed"

    number = sum(map(len, evidence.taken.values()))
    again = sum(len(taken) - 1 for taken in evidence.taken.values())
    failed = sum(not each.arrived for taken in evidence.taken.values() for each in taken)
    seen = f"accepted {number} times, {failed} of them failed, after which {again} were sent again; none before it had"
    return Check("Nobody gets one twice", seen, tuple(faults()))


def _statuses_are_true(evidence: Evidence) -> Check:
    def faults() -> Iterator[str]:
        for m in evidence.messages:
            taken = {each.sid: each for each in evidence.taken[m.to_number, m.body]}
            delivered = any(each.status == "delivered" for each in taken.values())
            if (m.status == "delivered") != delivered:
                yield f"message {m.id} is {m.status} here and {'' if delivered else 'not '}delivered at Twilio"
            elif m.status == "sent" and not (m.provider_sid in taken and taken[m.provider_sid].arrived):
                yield f"message {m.id} is sent here, and its SID has failed at Twilio or is unknown to it"
            elif m.status not in ("sent", "delivered") and any(each.arrived for each in taken.values()):
                yield f"message {m.id} is {m.status} here, and Twilio has it"

    return Check("Statuses are true", f"{len(evidence.messages)} compared with Twilio's own", tuple(faults()))


def _stop_means_stop(evidence: Evidence, stops: Mapping[str, int]) -> Check:
    posts: dict[str, int] = defaultdict(int)
    for (to, _), its in evidence.posts.items():
        posts[to] += len(its)
    faults = [
        f"{posts[to] - known} more to a person who had said it" for to, known in stops.items() if posts[to] > known
    ]
    spared = sum(m.reason == "opted_out" and not evidence.posts[m.to_number, m.body] for m in evidence.messages)
    return Check("Stop means stop", f"{len(stops)} people said it, {spared} messages to them never left", tuple(faults))


def _what_expired_never_went(evidence: Evidence) -> Check:
    expired = [m for m in evidence.messages if m.status == "expired"]
    faults = [f"message {m.id} has expired and was sent" for m in expired if evidence.posts[m.to_number, m.body]]
    return Check(
        "Nobody is woken", f"{len(expired)} would have come at night, and expired before the day", tuple(faults)
    )


def _retries_are_within_the_budget(evidence: Evidence) -> Check:
    def faults() -> Iterator[str]:
        for m in evidence.messages:
            tries = len(_counted(evidence.posts[m.to_number, m.body])) + m.failed_before
            if m.retry_count > m.max_retries or tries > 1 + m.max_retries:
                yield f"message {m.id} was tried {tries} times; it may be {1 + m.max_retries} times"

    return Check("Retries are bounded", "none was tried more than 1 + 3 times for its own sake", tuple(faults()))


def _an_outage_costs_no_retry(evidence: Evidence) -> Check:
    def faults() -> Iterator[str]:
        for m in evidence.messages:
            tries = len(_counted(evidence.posts[m.to_number, m.body])) + m.failed_before
            if m.retry_count > tries:
                yield f"message {m.id} has spent {m.retry_count} retries on {tries} failures of its own"

    free = sum(len(posts) - len(_counted(posts)) for posts in evidence.posts.values())
    return Check("Outages cost no retry", f"{free} refusals were nobody's fault", tuple(faults()))


def _counted(posts: list[Post]) -> list[Post]:
    return [post for post in posts if not (isinstance(post.step, Refuse) and post.step.code in NOBODYS_FAULT)]


def _listed(twilio: TwilioStandIn) -> Iterator[dict[str, Any]]:
    """Every message, newest first, over HTTP as anybody would ask."""
    login = base64.b64encode(f"{twilio.account_sid}:{twilio.auth_token}".encode()).decode()
    page = f"/2010-04-01/Accounts/{twilio.account_sid}/Messages.json?PageSize=1000"
    while page:
        request = urllib.request.Request(twilio.url + page, headers={"Authorization": f"Basic {login}"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            found = json.load(answer)
        yield from found["messages"]
        page = found["next_page_uri"]
