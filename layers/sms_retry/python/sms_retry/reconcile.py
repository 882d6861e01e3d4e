"""Asks Twilio about what never got an answer: the unknown by recipient and body, the silent by SID."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from sms_retry.store import Store
from sms_retry.values import Gone, Listed, NoAnswer, Receipt, Report, Ticket

SentTo = Callable[[str, datetime], list[Listed] | NoAnswer]
LookUp = Callable[[str], Listed | Gone | NoAnswer]
Record = Callable[[Receipt], object]

Asked = TypeVar("Asked")
Word = TypeVar("Word")

# Two clocks are compared, Twilio's and the database's.
CLOCK_SKEW = timedelta(seconds=5)
BATCH = 50
# Sending has the first claim on what Twilio allows an account at a time.
IN_FLIGHT = 4
# One question at its longest, and the time to write its answer down (seconds).
SLOWEST_QUESTION = 40.0


@dataclass
class Findings:
    """What one run did: the unknown that were asked about, found, released to go again, or ended as held;
    and the silent that were asked about, with those that Twilio has no more.
    """

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
    with ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="ask") as askers:
        while seconds_left() > SLOWEST_QUESTION and _unknown(store, sent_to, record, seconds_left, askers, findings):
            pass
        while seconds_left() > SLOWEST_QUESTION and _silent(store, look_up, record, seconds_left, askers, findings):
            pass
    return findings


def _unknown(
    store: Store,
    sent_to: SentTo,
    record: Record,
    seconds_left: Callable[[], float],
    askers: ThreadPoolExecutor,
    findings: Findings,
) -> bool:
    """One batch of the unknown; says whether there may be more. A row is released only after Twilio was asked."""
    due = sorted(store.unknown_due(BATCH), key=lambda row: row[3])
    not_known: list[Ticket] = []
    answered = 0
    words = _answers(askers, seconds_left, lambda row: sent_to(row[1], row[3] - CLOCK_SKEW), due)
    for (ticket, to_number, body, claimed_at), listed in words:
        if isinstance(listed, NoAnswer):
            continue
        answered += 1
        match = _match(store, listed, body, claimed_at)
        if match is None:
            not_known.append(ticket)
            continue
        findings.found += 1
        store.finish([Report(ticket, "accepted", sid=match.sid)])
        record(Receipt(match.sid, match.status, match.error_code, ticket, to_number))
    findings.asked += answered
    for status in store.release_unknown(not_known):
        findings.released += status == "pending"
        findings.held += status == "unknown"
    return answered == BATCH


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
    store: Store,
    look_up: LookUp,
    record: Record,
    seconds_left: Callable[[], float],
    askers: ThreadPoolExecutor,
    findings: Findings,
) -> bool:
    """One batch of the silent; says whether there may be more."""
    gone: dict[int, bool] = {}
    for (message_id, sid), found in _answers(
        askers, seconds_left, lambda row: look_up(row[1]), store.silent_due(BATCH)
    ):
        match found:
            case NoAnswer():
                continue
            case Listed():
                record(Receipt(sid, found.status, found.error_code, None, found.to_number))
        gone[message_id] = isinstance(found, Gone)
    store.note_asked(gone)
    findings.silent += len(gone)
    findings.gone += sum(gone.values())
    return len(gone) == BATCH


def _answers(
    askers: ThreadPoolExecutor,
    seconds_left: Callable[[], float],
    question: Callable[[Asked], Word | NoAnswer],
    about: Iterable[Asked],
) -> Iterator[tuple[Asked, Word | NoAnswer]]:
    """Ask about each, a few at a time; once Twilio gives no word, or time is short, nothing more is asked."""
    silent: list[NoAnswer] = []

    def ask(each: Asked) -> tuple[Asked, Word | NoAnswer]:
        if silent or seconds_left() < SLOWEST_QUESTION:
            return each, NoAnswer("not asked")
        word = question(each)
        if isinstance(word, NoAnswer):
            silent.append(word)
        return each, word

    return askers.map(ask, about)
