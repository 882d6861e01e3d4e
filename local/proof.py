"""Checks of the guarantees: our tables, compared with the stand-in's record of every POST and message.

Each check returns a sentence about the evidence, and each fault with its message id.
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
# Twilio's codes that do not concern the message: they must not spend a retry.
FREE_CODES = frozenset({20003, 20429, 20503})

MESSAGES = """
select m.id, m.to_number, m.body, m.status, m.provider_sid,
    m.on_unknown = 'hold' or coalesce(q.reason = 'held', false) or sms_retry.sms_resend_forbidden(q.reason)
        as is_parked,
    q.status as queue_status, q.finished_at, q.retry_count, q.max_retries, q.reason, exists (
        select from sms_retry.sms_attempts a where a.queue_id = q.id and a.attempt = 0) as failed_before
from sms_retry.sms_messages m join sms_retry.sms_retry_queue q on q.message_id = m.id order by m.id
"""

# Queue rows that have not ended, without the unknown ones that are parked or must not be resent.
UNSETTLED = """
select q.id from sms_retry.sms_retry_queue q join sms_retry.sms_messages m on m.id = q.message_id
where q.finished_at is null
    and not (q.status = 'unknown'
        and (m.on_unknown = 'hold' or coalesce(q.reason = 'held', false) or sms_retry.sms_resend_forbidden(q.reason))
        and q.claimed_at < now() - interval '30 minutes')
"""


@dataclass(frozen=True)
class Check:
    """A guarantee, a sentence about the evidence, and each fault."""

    guarantee: str
    seen: str
    faults: tuple[str, ...]


@dataclass(frozen=True)
class Listed:
    """One message in Twilio's list: accepted at `created`; its status changed last at `updated`."""

    sid: str
    status: str
    created: datetime
    updated: datetime

    @property
    def did_arrive(self) -> bool:
        return self.status not in DID_NOT_ARRIVE


@dataclass(frozen=True)
class Evidence:
    """Our rows; and by (number, text) every POST that reached Twilio and every message that Twilio accepted.

    Posts and messages are oldest first.
    """

    messages: list[Any]
    known_sids: frozenset[str]
    posts: Mapping[tuple[str, str], list[Post]] = field(default_factory=lambda: defaultdict(list))
    listed: Mapping[tuple[str, str], list[Listed]] = field(default_factory=lambda: defaultdict(list))


def gather(stack: Stack) -> Evidence:
    """The evidence at this moment."""
    with stack.db.cursor(row_factory=namedtuple_row) as cursor:
        messages = cursor.execute(MESSAGES).fetchall()
    sids = stack.db.execute("select message_sid from sms_retry.sms_attempts where message_sid is not null")
    evidence = Evidence(messages, frozenset(sid for (sid,) in sids))
    for post in stack.twilio.posts():
        evidence.posts[post.to, post.form["Body"]].append(post)
    sent_as = {post.sid: key for key, posts in evidence.posts.items() for post in posts if post.accepted}
    for record in _listed(stack.twilio):
        if record["sid"] not in sent_as:
            continue  # a POST that Twilio refused
        created, updated = (parsedate_to_datetime(record[name]) for name in ("date_created", "date_updated"))
        listed = Listed(record["sid"], record["status"], created, updated)
        # Twilio's record may have another text than the POST.
        evidence.listed[sent_as[record["sid"]]].append(listed)
    for messages in evidence.listed.values():
        messages.sort(key=lambda message: message.created)
    return evidence


def checks(evidence: Evidence, queued: int, opt_outs: Mapping[str, int]) -> list[Check]:
    """`queued` is the number of messages; `opt_outs` the number of POSTs to each person before the opt-out."""
    return [
        _nothing_is_lost(evidence, queued),
        _nothing_is_sent_twice(evidence),
        _statuses_match(evidence),
        _opt_outs_are_respected(evidence, opt_outs),
        _expired_messages_are_not_sent(evidence),
        _retries_are_bounded(evidence),
        _outages_spend_no_retry(evidence),
    ]


def _nothing_is_lost(evidence: Evidence, queued: int) -> Check:
    parked = [m for m in evidence.messages if m.queue_status == "unknown" and m.is_parked]

    def faults() -> Iterator[str]:
        if len(evidence.messages) != queued:
            yield f"{queued} messages were queued, and the tables have {len(evidence.messages)}"
        for m in evidence.messages:
            if m.finished_at is None and m not in parked:
                yield f"message {m.id} has not ended: it is {m.queue_status}"
        for sid in {each.sid for listed in evidence.listed.values() for each in listed} - evidence.known_sids:
            yield f"Twilio accepted {sid}, and no attempt has this SID"

    seen = f"{queued} messages queued: {queued - len(parked)} ended, {len(parked)} parked"
    return Check("Nothing is lost", seen, tuple(faults()))


def _nothing_is_sent_twice(evidence: Evidence) -> Check:
    def faults() -> Iterator[str]:
        for m in evidence.messages:
            listed = evidence.listed[m.to_number, m.body]
            if sum(each.did_arrive for each in listed) > 1:
                yield f"message {m.id} was accepted more than once, and more than one of these did not fail"
            for earlier, later in pairwise(listed):
                if earlier.did_arrive or earlier.updated > later.created:
                    yield f"message {m.id} was accepted again before {earlier.sid} had failed"

    number = sum(map(len, evidence.listed.values()))
    again = sum(len(listed) - 1 for listed in evidence.listed.values())
    failed = sum(not each.did_arrive for listed in evidence.listed.values() for each in listed)
    seen = f"accepted {number} times, {failed} of them failed later, and only after that {again} were sent again"
    return Check("Nothing is sent twice", seen, tuple(faults()))


def _statuses_match(evidence: Evidence) -> Check:
    def faults() -> Iterator[str]:
        for m in evidence.messages:
            listed = {each.sid: each for each in evidence.listed[m.to_number, m.body]}
            delivered = any(each.status == "delivered" for each in listed.values())
            if (m.status == "delivered") != delivered:
                yield f"message {m.id} is {m.status} here and {'' if delivered else 'not '}delivered at Twilio"
            elif m.status == "sent" and not (m.provider_sid in listed and listed[m.provider_sid].did_arrive):
                yield f"message {m.id} is sent here, and its SID has failed at Twilio or is unknown to it"
            elif m.status not in ("sent", "delivered") and any(each.did_arrive for each in listed.values()):
                yield f"message {m.id} is {m.status} here, and Twilio has it"

    return Check("Statuses match", f"{len(evidence.messages)} compared with those at Twilio", tuple(faults()))


def _opt_outs_are_respected(evidence: Evidence, opt_outs: Mapping[str, int]) -> Check:
    posts: dict[str, int] = defaultdict(int)
    for (to, _), each in evidence.posts.items():
        posts[to] += len(each)
    faults = [
        f"{posts[to] - before} more POSTs to a person who had opted out"
        for to, before in opt_outs.items()
        if posts[to] > before
    ]
    unsent = sum(m.reason == "opted_out" and not evidence.posts[m.to_number, m.body] for m in evidence.messages)
    seen = f"{len(opt_outs)} people opted out, {unsent} messages to them were not sent"
    return Check("Opt-outs are respected", seen, tuple(faults))


def _expired_messages_are_not_sent(evidence: Evidence) -> Check:
    expired = [m for m in evidence.messages if m.status == "expired"]
    faults = [f"message {m.id} has expired and was sent" for m in expired if evidence.posts[m.to_number, m.body]]
    seen = f"{len(expired)} expired in quiet hours and were never sent"
    return Check("Quiet hours are respected", seen, tuple(faults))


def _retries_are_bounded(evidence: Evidence) -> Check:
    def faults() -> Iterator[str]:
        for m in evidence.messages:
            tries = len(counted(evidence.posts[m.to_number, m.body])) + m.failed_before
            if m.retry_count > m.max_retries or tries > 1 + m.max_retries:
                yield f"message {m.id} was tried {tries} times; the limit is {1 + m.max_retries}"

    seen = "at most 1 + 3 tries for each message, without the refusals that spend no retry"
    return Check("Retries are bounded", seen, tuple(faults()))


def _outages_spend_no_retry(evidence: Evidence) -> Check:
    def faults() -> Iterator[str]:
        for m in evidence.messages:
            tries = len(counted(evidence.posts[m.to_number, m.body])) + m.failed_before
            if m.retry_count > tries:
                yield f"message {m.id} has spent {m.retry_count} retries on {tries} failures of its own"

    free = sum(len(posts) - len(counted(posts)) for posts in evidence.posts.values())
    return Check("Outages spend no retry", f"{free} refusals did not concern the message", tuple(faults()))


def counted(posts: list[Post]) -> list[Post]:
    """The POSTs that may spend a retry."""
    return [post for post in posts if not (isinstance(post.step, Refuse) and post.step.code in FREE_CODES)]


def _listed(twilio: TwilioStandIn) -> Iterator[dict[str, Any]]:
    """Every message, newest first, over HTTP like any client."""
    login = base64.b64encode(f"{twilio.account_sid}:{twilio.auth_token}".encode()).decode()
    page = f"/2010-04-01/Accounts/{twilio.account_sid}/Messages.json?PageSize=1000"
    while page:
        request = urllib.request.Request(twilio.url + page, headers={"Authorization": f"Basic {login}"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            found = json.load(answer)
        yield from found["messages"]
        page = found["next_page_uri"]
