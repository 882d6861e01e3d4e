"""Asks Twilio about what never got an answer: the unknown by recipient and body, the silent by SID."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sms_retry.retry import Gone, Listed, NoWord, Receipt, Report, Ticket
from sms_retry.store import Store

SentTo = Callable[[str, datetime], list[Listed] | NoWord]
LookUp = Callable[[str], Listed | Gone | NoWord]
Record = Callable[[Receipt], str]

# Two clocks are compared, Twilio's and the database's.
CLOCK_SKEW = timedelta(seconds=5)
BATCH = 50
# One question at its longest, and the time to write its answer down (seconds).
SLOWEST_QUESTION = 40.0


@dataclass
class Findings:
    """What one run did: `found` and `silent` were settled by Twilio's word, `released` goes out again, `held` ended."""

    asked: int = 0
    found: int = 0
    released: int = 0
    held: int = 0
    silent: int = 0
    gone: int = 0


def reconcile(
    store: Store, sent_to: SentTo, look_up: LookUp, record: Record, seconds_left: Callable[[], float]
) -> Findings:
    """Settle what can be settled, until nothing is due, time is short, or Twilio stops answering."""
    findings = Findings()
    while seconds_left() > SLOWEST_QUESTION and _unknown(store, sent_to, record, seconds_left, findings):
        pass
    while seconds_left() > SLOWEST_QUESTION and _silent(store, look_up, record, seconds_left, findings):
        pass
    return findings


def _unknown(
    store: Store, sent_to: SentTo, record: Record, seconds_left: Callable[[], float], findings: Findings
) -> bool:
    """One batch of the unknown; says whether there may be more. A row is released only after Twilio was asked."""
    due = store.unknown_due(BATCH)
    not_known: list[Ticket] = []
    answering = True
    for ticket, to_number, body, claimed_at in sorted(due, key=lambda row: row[3]):
        listed = sent_to(to_number, claimed_at - CLOCK_SKEW) if seconds_left() > SLOWEST_QUESTION else NoWord("no time")
        if isinstance(listed, NoWord):
            answering = False
            break
        findings.asked += 1
        match = _match(store, listed, body, claimed_at)
        if match is None:
            not_known.append(ticket)
            continue
        findings.found += 1
        store.finish([Report(ticket, "accepted", sid=match.sid)])
        record(Receipt(match.sid, match.status, match.error_code, ticket, to_number))
    for status in store.release_unknown(not_known):
        findings.released += status == "pending"
        findings.held += status == "unknown"
    return answering and len(due) == BATCH


def _match(store: Store, listed: list[Listed], body: str, claimed_at: datetime) -> Listed | None:
    """The oldest message that can be this attempt's and is nobody else's."""
    same = [
        message
        for message in listed
        if message.body == body
        and message.direction.startswith("outbound")
        and message.created >= claimed_at - CLOCK_SKEW
    ]
    free = store.unowned_sids([message.sid for message in same]) if same else set()
    return min((message for message in same if message.sid in free), key=lambda message: message.created, default=None)


def _silent(
    store: Store, look_up: LookUp, record: Record, seconds_left: Callable[[], float], findings: Findings
) -> bool:
    due = store.silent_due(BATCH)
    for sid in due:
        found = look_up(sid) if seconds_left() > SLOWEST_QUESTION else NoWord("no time")
        match found:
            case NoWord():
                return False
            case Gone():
                findings.gone += 1
            case Listed():
                findings.silent += 1
                receipt = Receipt(sid, found.status, found.error_code, None, found.to_number)
                record(receipt)
    return len(due) == BATCH
