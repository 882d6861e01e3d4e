"""Asks Twilio about messages without an answer: the unknown ones by recipient and text, the silent ones by SID."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import TypeVar

from sms_retry import numbers
from sms_retry.listing import Gone, LookUp, SentTo
from sms_retry.matching import Listed, NoAnswer, Walk, own, unfailed, walk
from sms_retry.store import Store
from sms_retry.values import Control, Finding, Receipt, Report, Silent, Ticket, Unsettled

Record = Callable[[Receipt], object]

Row = TypeVar("Row", Unsettled, Silent)
Found = TypeVar("Found")
Clock = Callable[[], datetime]

BATCH = 50
# Few questions at a time: the worker has priority on the requests that Twilio allows an account at once.
IN_FLIGHT = 4
# The longest question, and the time to write its answer (seconds).
SLOWEST_QUESTION = 40.0
# The longest lag of the list that a control from before the claim cannot show. Twilio's list usually lags by seconds.
LONGEST_LAG = timedelta(hours=2)


@dataclass
class Findings:
    """The counts of one run. Of unknown messages: asked about, found, released for another try, or parked; `distrusted`
    is 1 if Twilio's list lacked a message that Twilio had accepted. Of silent ones: asked about, and gone at Twilio.
    """

    asked: int = 0
    found: int = 0
    released: int = 0
    parked: int = 0
    distrusted: int = 0
    silent: int = 0
    gone: int = 0


def reconcile(
    store: Store, sent_to: SentTo, look_up: LookUp, record: Record, seconds_left: Callable[[], float]
) -> Findings:
    """Settle unknown, then silent messages, until none is due, time is short, or Twilio stops answering."""
    with ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="ask") as askers:
        run = _Run(store, sent_to, look_up, record, seconds_left, askers)
        while run.has_time() and run.settle_unknown():
            pass
        while run.has_time() and run.settle_silent():
            pass
    return run.findings


@dataclass
class _Run:
    store: Store
    sent_to: SentTo
    look_up: LookUp
    record: Record
    seconds_left: Callable[[], float]
    askers: ThreadPoolExecutor

    def __post_init__(self) -> None:
        self.findings = Findings()
        self._complete_until: dict[str | None, datetime | None] = {}

    def has_time(self) -> bool:
        return self.seconds_left() > SLOWEST_QUESTION

    def settle_unknown(self) -> bool:
        """Settle one batch; returns whether another may be due. Only Twilio's answer can release a message."""
        due = sorted(self.store.unknown_due(BATCH), key=attrgetter("claimed_at"))
        if not due:
            return False
        clock = _database_clock(due[0].asked_at)
        # The control comes first, so that the list has at least its messages when it is asked about the others.
        accounts = {row.account for row in due if row.has_waited}
        complete_until = {account: self._list_is_complete_until(clock, account) for account in accounts}
        undecided: list[tuple[Unsettled, Walk]] = []
        answers = 0
        for row, seen in self._ask(due, lambda row: self._walk(row.to_number, row.claimed_at, clock, row.account)):
            if isinstance(seen, NoAnswer):
                continue
            answers += 1
            if seen.messages and self.store.is_being_sent(row.to_number):
                # One of the listed messages may be that one.
                continue
            if match := own(row.body, unfailed(self._unowned(seen)), row.media):
                self._settle(row, match)
            elif row.has_waited:
                undecided.append((row, seen))
        self.findings.asked += answers
        self._decide(undecided, complete_until)
        return answers == BATCH

    def _list_is_complete_until(self, clock: Clock, account: str | None) -> datetime | None:
        """The instant until which an account's list has all accepted messages; None while the list is not trusted.

        The list must have the control, with its text. Then it has all that is older than the control, or than the
        longest lag. Without a control the list is trusted. A run asks once.
        """
        if account not in self._complete_until:
            control = self.store.list_control(account)
            seen = control and self._walk(control.to_number, control.posted_after, clock, account)
            is_trusted = control is None or (isinstance(seen, Walk) and list_shows(control, seen))
            until = max(control.accepted_at, clock() - LONGEST_LAG) if control else clock()
            self._complete_until[account] = until if is_trusted else None
            self.findings.distrusted += isinstance(seen, Walk) and not is_trusted
        return self._complete_until[account]

    def _decide(
        self, undecided: list[tuple[Unsettled, Walk]], complete_until: dict[str | None, datetime | None]
    ) -> None:
        """Decide about messages that waited for 30 minutes and that no accepted message of the list can be."""
        findings: dict[Ticket, Finding] = {}
        # Asked again, after this batch was matched: its messages are strangers to each other no longer.
        unowned = {message.sid for _, seen in undecided for message in self._unowned(seen)}
        for row, seen in undecided:
            left = [message for message in seen.messages if message.sid in unowned]
            candidates = unfailed(left) or left
            until = complete_until[row.account]
            if until is None or row.claimed_at > until or not seen.complete:
                findings[row.ticket] = "unsure"
            elif match := own(row.body, candidates, row.media):
                unowned.discard(match.sid)
                self._settle(row, match)
            else:
                findings[row.ticket] = "stranger" if candidates or _has_no_text(row) else "absent"
        for status in self.store.release_unknown(list(findings), list(findings.values())):
            self.findings.released += status == "pending"
            self.findings.parked += status == "unknown"

    def _settle(self, row: Unsettled, match: Listed) -> None:
        self.findings.found += 1
        self.store.finish([Report.accepted(row.ticket, match.sid)])
        receipt = Receipt(match.sid, match.status, match.error_code, row.ticket, row.to_number)
        self.record(replace(receipt, account=row.account))

    def _walk(self, to_number: str, since: datetime, clock: Clock, account: str | None) -> Walk | NoAnswer:
        # Twilio lists a number in its one spelling; an earlier release stored it as it was given.
        return walk(self.sent_to(numbers.e164(to_number) or to_number, account), since, clock, self.has_time)

    def _unowned(self, seen: Walk) -> list[Listed]:
        """The messages of a walk that no attempt owns."""
        sids = [message.sid for message in seen.messages]
        free = self.store.unowned_sids(sids) if sids else set()
        return [message for message in seen.messages if message.sid in free]

    def settle_silent(self) -> bool:
        """Settle one batch; returns whether another may be due."""
        gone: dict[int, bool] = {}
        for row, found in self._ask(
            self.store.silent_due(BATCH), lambda row: self.look_up(row.provider_sid, row.account)
        ):
            match found:
                case NoAnswer():
                    continue
                case Listed():
                    self.record(Receipt(row.provider_sid, found.status, found.error_code, None, found.to_number))
            gone[row.message_id] = isinstance(found, Gone)
        self.store.note_asked(gone)
        self.findings.silent += len(gone)
        self.findings.gone += sum(gone.values())
        return len(gone) == BATCH

    def _ask(
        self, rows: Iterable[Row], question: Callable[[Row], Found | NoAnswer]
    ) -> Iterator[tuple[Row, Found | NoAnswer]]:
        """Ask about each row, a few at a time. After one NoAnswer ask the account nothing more."""
        unanswered: set[str | None] = set()

        def ask(row: Row) -> tuple[Row, Found | NoAnswer]:
            if row.account in unanswered or self.seconds_left() < SLOWEST_QUESTION:
                return row, NoAnswer("not asked")
            answer = question(row)
            if isinstance(answer, NoAnswer):
                unanswered.add(row.account)
            return row, answer

        return self.askers.map(ask, rows)


def list_shows(control: Control, seen: Walk) -> bool:
    """Whether Twilio's list has the control, with its text."""
    listed = [message for message in seen.messages if message.sid == control.provider_sid]
    return own(control.body, listed, control.media) is not None


def _has_no_text(row: Unsettled) -> bool:
    """Whether only Twilio knows the text of this message, so that no list can show that it was not sent."""
    return row.content_sid is not None and not row.body


def _database_clock(read: datetime) -> Clock:
    """The database's clock, which was just read. By the wall clock: the others stop while a machine is frozen."""
    ahead = read - datetime.now(UTC)
    return lambda: datetime.now(UTC) + ahead
