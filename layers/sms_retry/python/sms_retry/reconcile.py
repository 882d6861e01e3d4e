"""Asks Twilio about messages without an answer: the unknown ones by recipient and text, the silent ones by SID."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from operator import attrgetter
from typing import TypeVar

from sms_retry.listing import Gone, Listed, LookUp, NoAnswer, SentTo
from sms_retry.store import Store
from sms_retry.values import Receipt, Report, Silent, Ticket, Unsettled

Record = Callable[[Receipt], object]

Row = TypeVar("Row", Unsettled, Silent)
Found = TypeVar("Found")

# The difference that the clocks of Twilio and the database may have.
CLOCK_SKEW = timedelta(seconds=5)
BATCH = 50
# Few questions at a time: the worker has priority on the requests that Twilio allows an account at once.
IN_FLIGHT = 4
# The longest question, and the time to write its answer (seconds).
SLOWEST_QUESTION = 40.0


@dataclass
class Findings:
    """The counts of one run. Of unknown messages: asked about, found, released for another try, or parked. Of silent
    ones: asked about, and gone at Twilio.
    """

    asked: int = 0
    found: int = 0
    released: int = 0
    parked: int = 0
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

    def has_time(self) -> bool:
        return self.seconds_left() > SLOWEST_QUESTION

    def settle_unknown(self) -> bool:
        """Settle one batch; returns whether another may be due. Only Twilio's answer can release a message."""
        due = sorted(self.store.unknown_due(BATCH), key=attrgetter("claimed_at"))
        not_listed: list[Ticket] = []
        answers = 0
        for row, listed in self._ask(due, lambda row: self.sent_to(row.to_number, row.claimed_at - CLOCK_SKEW)):
            if isinstance(listed, NoAnswer):
                continue
            answers += 1
            if match := self._match(row, listed):
                self.findings.found += 1
                self.store.finish([Report.accepted(row.ticket, match.sid)])
                self.record(Receipt(match.sid, match.status, match.error_code, row.ticket, row.to_number))
            else:
                not_listed.append(row.ticket)
        self.findings.asked += answers
        for status in self.store.release_unknown(not_listed):
            self.findings.released += status == "pending"
            self.findings.parked += status == "unknown"
        return answers == BATCH

    def settle_silent(self) -> bool:
        """Settle one batch; returns whether another may be due."""
        gone: dict[int, bool] = {}
        for row, found in self._ask(self.store.silent_due(BATCH), lambda row: self.look_up(row.provider_sid)):
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

    def _match(self, row: Unsettled, listed: list[Listed]) -> Listed | None:
        """The oldest listed message that can be the one of this row, and that no attempt owns."""
        same = [
            message
            for message in listed
            if message.body == row.body
            and message.direction.startswith("outbound")
            and message.created >= row.claimed_at - CLOCK_SKEW
        ]
        free = self.store.unowned_sids([message.sid for message in same]) if same else set()
        return min((message for message in same if message.sid in free), key=attrgetter("created"), default=None)

    def _ask(
        self, rows: Iterable[Row], question: Callable[[Row], Found | NoAnswer]
    ) -> Iterator[tuple[Row, Found | NoAnswer]]:
        """Ask about each row, a few at a time. After one NoAnswer, or when time is short, ask nothing more."""
        unanswered: list[NoAnswer] = []

        def ask(row: Row) -> tuple[Row, Found | NoAnswer]:
            if unanswered or self.seconds_left() < SLOWEST_QUESTION:
                return row, NoAnswer("not asked")
            answer = question(row)
            if isinstance(answer, NoAnswer):
                unanswered.append(answer)
            return row, answer

        return self.askers.map(ask, rows)
