"""The SQL functions as methods of one object; those that only read are in `readings`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple
from datetime import datetime, timedelta
from typing import Any

from sms_retry.connection import PATIENCE, Connection
from sms_retry.readings import Erased, Readings
from sms_retry.values import Claim, Hold, Message, Report, State, Ticket


class Store(Readings):
    """The database of one container; `conninfo_again` is asked when the password that `conninfo` gave was refused."""

    def __init__(
        self,
        conninfo: Callable[[], str],
        patience: timedelta = PATIENCE,
        conninfo_again: Callable[[], str] | None = None,
    ) -> None:
        self._connection = Connection(conninfo, patience, conninfo_again)
        super().__init__(self._connection)
        self._once = self._connection.once

    def close(self) -> None:
        self._connection.close()

    def queue(
        self,
        message: Message,
        error_code: int | None = None,
        error_message: str | None = None,
        delays: Sequence[timedelta] | None = None,
    ) -> int:
        """Take a message in, after its first send failed where there is an error; gives its id."""
        statement = f"select sms_retry.queue_sms_retry({_MESSAGE}, error_code => %s, error_message => %s, delays => %s)"
        given = [*_message(message), error_code, error_message, delays if delays is None else list(delays)]
        return int(self._once(statement, given)[0][0])

    def queue_and_claim(self, message: Message) -> tuple[int, Claim | None]:
        """Take a message in and claim it if it may go now; gives its id."""
        row = self._once(f"select * from sms_retry.queue_and_claim_sms({_MESSAGE})", _message(message))[0]
        claim = Claim(*row) if row[0] is not None else None
        return int(row[2]), claim

    def log_sent(self, message: Message, provider_sid: str | None) -> int:
        """Take in a message that its application has sent itself, or may have, where it has no SID; gives its id."""
        statement = """select sms_retry.log_sent_sms(%s, to_number => %s, body => %s, message_key => %s,
            business_id => %s, kind => %s, on_unknown => %s, time_zone => %s, expires_at => %s)"""
        *given, _scheduled_for, expires_at = _message(message)
        return int(self._once(statement, [provider_sid, *given, expires_at])[0][0])

    def claim_due(self, limit: int) -> list[Claim]:
        """Claim at most `limit` of what is due, the longest due first."""
        return [Claim(*row) for row in self._once("select * from sms_retry.claim_due_sms_retries(%s)", [limit])]

    def claim_now(self, message_id: int) -> Claim | None:
        """Claim this one, if it is due and nothing holds it."""
        rows = self._once("select * from sms_retry.claim_sms_now(%s)", [message_id])
        return Claim(*rows[0]) if rows else None

    def take_stock(self, limit: int) -> tuple[int, int]:
        """Take back what dead workers hold; gives how many, and how many are due, counted no further than `limit`."""
        statement = "select sms_retry.recover_stuck_sms_retries(), sms_retry.count_due_sms(%s)"
        recovered, due = self._again(statement, [limit])[0]
        return int(recovered), int(due)

    def finish(self, reports: Sequence[Report]) -> dict[Ticket, str]:
        """Write reports down; gives what each is now in the queue. A ticket that is missing from it changed nothing."""
        if not reports:
            return {}
        columns = [_array(column) for column in zip(*map(_report, reports), strict=True)]
        rows = self._again(f"select id, attempt, status from sms_retry.finish_sms_retries({_REPORTS})", columns)
        return {Ticket(id, attempt): status for id, attempt, status in rows}

    def known(self, reports: Sequence[Report]) -> dict[Ticket, str]:
        """Of reports that changed nothing those that were known already, and what each is now; the others are stale."""
        if not reports:
            return {}
        given = [(*report.ticket, report.outcome, report.sid) for report in reports]
        columns = [_array(column) for column in zip(*given, strict=True)]
        statement = "select * from sms_retry.known_sms_reports(%s::bigint[], %s::int[], %s::text[], %s::text[])"
        return {Ticket(id, attempt): status for id, attempt, status in self._again(statement, columns)}

    def open_hold(self, hold: Hold) -> None:
        """Nothing goes there until the hold's wait is over and a probe went through."""
        self._again("select sms_retry.open_sms_hold(%s, %s, %s, %s)", [*astuple(hold)])

    def set_consent(self, business_id: str, phone_number: str, consent: str) -> int:
        """Write down what a person agreed to; gives how many waiting messages that ended."""
        given = [business_id, phone_number, consent]
        return int(self._again("select sms_retry.set_sms_consent(%s, %s, %s)", given)[0][0])

    def record_delivery(
        self,
        message_sid: str,
        status: str,
        error_code: int | None,
        ticket: Ticket | None,
        delays: Sequence[timedelta] | None,
        spends: bool,
        reason: str | None,
    ) -> str:
        """Take in one callback: settled, noted, repeated or unheard_of."""
        given = [message_sid, status, error_code, *(ticket or (None, None))]
        given += [list(delays) if delays else None, spends, reason]
        statement = "select sms_retry.record_sms_delivery(%s, %s, %s, %s, %s, %s, %s, %s)"
        return str(self._again(statement, given)[0][0])

    def overrides(self) -> list[tuple[Any, ...]]:
        """What operators have decided about codes, in the columns of the table of codes."""
        return self._again("select * from sms_retry.sms_policy_overrides()", [])

    def state(self, message_id: int) -> State | None:
        """How one message stands; None where there is no such message."""
        rows = self._again("select * from sms_retry.sms_message_state(%s)", [message_id])
        return State(*rows[0]) if rows else None

    def unknown_due(self, limit: int) -> list[tuple[Ticket, str, str, datetime]]:
        """The unknown to ask Twilio about now: ticket, recipient, body, and when it was claimed."""
        rows = self._once("select * from sms_retry.unknown_sms_due(%s)", [limit])
        return [(Ticket(id, attempt), to, body, claimed_at) for id, attempt, to, body, claimed_at in rows]

    def release_unknown(self, tickets: Sequence[Ticket]) -> list[str]:
        """Twilio did not know these; gives the status of each whose time was up."""
        if not tickets:
            return []
        ids, attempts = zip(*tickets, strict=True)
        statement = "select status from sms_retry.release_unknown_sms(%s::bigint[], %s::int[])"
        return [status for (status,) in self._once(statement, [list(ids), list(attempts)])]

    def silent_due(self, limit: int) -> list[tuple[int, str]]:
        """The messages, with their SIDs, to ask Twilio about now, since no final callback came."""
        return [(id, sid) for id, sid in self._once("select * from sms_retry.silent_sms_due(%s)", [limit])]

    def note_asked(self, gone: Mapping[int, bool]) -> None:
        """Twilio was asked about these silent messages, and has them no more where it says so."""
        statement = "select sms_retry.note_silent_sms_asked(%s::bigint[], %s::boolean[])"
        self._again(statement, [list(gone), list(gone.values())])

    def unowned_sids(self, sids: Sequence[str]) -> set[str]:
        """Of these SIDs the ones that none of our attempts owns."""
        return {sid for (sid,) in self._again("select sms_retry.unowned_sms_sids(%s::text[])", [list(sids)])}

    def retry_by_hand(self, actor: str, subject: str, message_id: int, force: bool) -> bool:
        """Make one message due now; true if it is."""
        return bool(self._by_hand(actor, "retry", subject, "retry_sms_now", "boolean", message_id, force))

    def cancel_by_hand(self, actor: str, subject: str, message_id: int) -> str | None:
        """Cancel one message; its status afterwards, or None where no message has this id."""
        status: str | None = self._by_hand(actor, "cancel", subject, "cancel_sms_retry", "text", message_id)
        return status

    def requeue_by_hand(
        self, actor: str, subject: str, error_code: int, since: datetime, until: datetime | None, limit: int
    ) -> int:
        """Requeue at most `limit` messages that failed with this code between two instants; their number."""
        given = (error_code, since, until, limit)
        return int(self._by_hand(actor, "requeue", subject, "requeue_failed_sms", "int", *given))

    def set_hold_by_hand(self, actor: str, subject: str, scope: str, key: str, wait: timedelta, reason: str) -> None:
        self._by_hand(actor, "hold", subject, "open_sms_hold", "text", scope, key, wait, reason)

    def clear_hold_by_hand(self, actor: str, subject: str, scope: str, key: str) -> bool:
        """Clear a hold; false if it was not set."""
        return bool(self._by_hand(actor, "release", subject, "close_sms_hold", "boolean", scope, key))

    def set_consent_by_hand(self, actor: str, subject: str, business_id: str, phone_number: str, consent: str) -> int:
        """Record a person's consent; the number of waiting messages that it ended."""
        given = (business_id, phone_number, consent)
        return int(self._by_hand(actor, consent, subject, "set_sms_consent", "int", *given))

    def erase_by_hand(self, actor: str, subject: str, phone_number: str) -> Erased:
        """Erase at most 1,000 messages of one person, with attempts, receipts, holds and consents but opt-outs."""
        return Erased(**self._by_hand(actor, "erase", subject, "erase_sms_recipient", "jsonb", phone_number))

    def cleanup(self, only_erased: bool = False) -> int:
        """Remove one batch of queue rows that ended long ago; their number, 0 when none is left."""
        return int(self._once("select sms_retry.cleanup_sms_retries(only_erased => %s)", [only_erased])[0][0])

    def erase_bodies(self, days: int) -> int:
        """Erase one batch of texts of messages that ended `days` ago or earlier; their number, 0 when none is left."""
        return int(self._once("select sms_retry.erase_sms_bodies(%s)", [days])[0][0])

    def _by_hand(self, actor: str, action: str, subject: str, function: str, returns: str, *given: Any) -> Any:
        """Call an SQL function and record the action in the same statement; the result, of SQL's type `returns`."""
        places = ", ".join(["%s"] * len(given))
        statement = f"select sms_retry.note_sms_action(%s, %s, %s, sms_retry.{function}({places})::text)::{returns}"
        return self._once(statement, [actor, action, subject, *given])[0][0]


_MESSAGE = """to_number => %s, body => %s, message_key => %s, business_id => %s, kind => %s, on_unknown => %s,
    time_zone => %s, scheduled_for => %s, expires_at => %s"""

_REPORTS = """%s::bigint[], %s::int[], %s::text[], %s::text[], %s::int[], %s::text[], %s::int[], %s::text[],
    %s::text[], %s::boolean[], %s::text[]"""


def _message(message: Message) -> list[Any]:
    return list(astuple(message))


def _report(report: Report) -> tuple[Any, ...]:
    delays = ",".join(f"{wait.total_seconds()}s" for wait in report.delays)
    return (
        *report.ticket,
        report.outcome,
        report.sid,
        report.code,
        report.message,
        report.http_status,
        report.request_id,
        f"{{{delays}}}" if delays else None,
        None if report.spends else False,
        report.reason,
    )


def _array(values: tuple[Any, ...]) -> str | None:
    """Postgres's literal of an array, in a tenth of the time that psycopg takes; None where nothing is in it."""
    nulls = values.count(None)
    if nulls == len(values):
        return None
    is_text = isinstance(values[0], str)
    if is_text and not nulls:
        text = '","'.join(values)
        if "\\" not in text and text.count('"') == 2 * len(values) - 2:
            return f'{{"{text}"}}'
    return "{" + ",".join(map(_element if is_text or nulls else str, values)) + "}"


def _element(value: Any) -> str:
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return "null" if value is None else str(value)
