"""The SQL functions as methods of one object; lists and figures for people are in `readings`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any, NamedTuple

import psycopg

from sms_retry.connection import PATIENCE, Connection, Unreadable
from sms_retry.readings import Budget, Erased, Readings
from sms_retry.replies import Wish
from sms_retry.values import (
    Cause,
    Claim,
    Control,
    Event,
    Finding,
    Hold,
    Message,
    Receipt,
    Reply,
    Report,
    Silent,
    State,
    Stock,
    Ticket,
    UnreadableClaim,
    Unsettled,
    Verdict,
)

Run = Callable[[str, Sequence[Any]], list[tuple[Any, ...]]]

# The runtime's logger, which writes JSON.
logger = logging.getLogger("sms-retry")


class Overrides(NamedTuple):
    """An operator's own rules: the rows of sms_error_overrides and of sms_hours_overrides, in their columns' order."""

    codes: list[tuple[Any, ...]]
    hours: list[tuple[Any, ...]]


class Refused(Exception):
    """A sender or a budget that cannot be recorded; the message names each fault."""


class Known(NamedTuple):
    """The message that was stored under a message's key, and the stated zone and region of its person."""

    message_id: int | None
    time_zone: str | None
    region: str | None


class Queued(NamedTuple):
    """One message of many: its place, from 1, with its id and status, or with the fault for which it was not stored."""

    place: int
    message_id: int | None
    status: str | None
    fault: str | None


class Store(Readings):
    """The database of one container; `newer_conninfo` is called when the login by `conninfo` failed."""

    def __init__(
        self,
        conninfo: Callable[[], str],
        patience: timedelta = PATIENCE,
        newer_conninfo: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._connection = Connection(conninfo, patience, newer_conninfo)
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
        """Queue a message; returns its id. With `error_code` the application's own first send failed."""
        places, given = _message(message)
        statement = f"select sms_retry.queue_sms_retry({places}, error_code => %s, error_message => %s, delays => %s)"
        given += [error_code, error_message, delays if delays is None else list(delays)]
        return int(self._once(statement, given)[0][0])

    def queue_many(self, messages: str, batch: str | None) -> list[Queued]:
        """Queue up to 10,000 messages in one call: a JSON array of objects with the fields of send_sms."""
        statement = "select place, message_id, status, fault from sms_retry.queue_sms_retries(%s, %s)"
        return [Queued(*row) for row in self._once(statement, [messages, batch])]

    def queue_and_claim(self, message: Message) -> tuple[int, Claim | None]:
        """Queue a message and, if it is due, claim it; returns its id and the claim."""
        places, given = _message(message)
        newer, former = f"sms_retry.queue_and_claim_one_sms({places})", f"sms_retry.queue_and_claim_sms({places})"
        [claim] = self._claim(newer, given, former, given)
        return claim.message_id, claim if claim.id is not None else None

    def queue_refused(
        self, message: Message, error_code: int, error_message: str | None, delays: Sequence[timedelta]
    ) -> int:
        """Opt out the person of a message whose first send met a stop, and queue the message; returns its id."""
        places, given = _message(message)
        statement = f"""select sms_retry.queue_sms_retry({places}, error_code => %s, error_message => %s, delays => %s)
            from sms_retry.opt_out_first_sms_refuser(%s, %s, %s)"""
        failed = [error_code, error_message, list(delays)]
        person = [message.to_number, message.sender, message.business_id]
        rows = _if_defined(self._once, statement, [*given, *failed, *person])
        if rows is None:
            self.set_consent("*", message.to_number, "opted_out")
            return self.queue(message, error_code, error_message, delays)
        return int(rows[0][0])

    def log_sent(self, message: Message, provider_sid: str | None) -> int:
        """Log a message that the application sent itself, or may have sent (no SID); returns its id."""
        places, given = _message(replace(message, scheduled_for=None))
        return int(self._once(f"select sms_retry.log_sent_sms(%s, {places})", [provider_sid, *given])[0][0])

    def claim_due(self, limit: int, since: datetime | None = None) -> list[Claim]:
        """Claim at most `limit` due messages, the longest due first, and none that was due before `since` (Stock)."""
        return self._claim(
            "sms_retry.claim_sms(%s, %s)", [limit, since], "sms_retry.claim_due_sms_retries(%s)", [limit]
        )

    def claim_now(self, message_id: int) -> Claim | None:
        """Claim this message, if it is due and no hold concerns it."""
        given = [message_id]
        return next(iter(self._claim("sms_retry.claim_one_sms(%s)", given, "sms_retry.claim_sms_now(%s)", given)), None)

    def take_stock(self, limit: int) -> Stock:
        """Take back the claims of dead workers, and count due messages up to `limit`."""
        statement = "select sms_retry.recover_stuck_sms_retries(), sms_retry.count_due_sms(%s)"
        with_since = statement + ", sms_retry.sms_waiting_since()"
        rows = _if_defined(self._again, with_since, [limit]) or self._again(statement + ", null", [limit])
        recovered, due, since = rows[0]
        return Stock(int(recovered), int(due), since)

    def has_due(self) -> bool:
        """Whether a message is due, in one round trip."""
        return bool(self._again("select sms_retry.count_due_sms(1)", [])[0][0])

    def finish(self, reports: Sequence[Report]) -> dict[Ticket, str]:
        """Write reports; returns the new status of each queue row. A missing ticket means that nothing changed.

        If the database refuses a value, each report is written alone, and the refused one without its details.
        """
        if not reports:
            return {}
        try:
            return self._finish(reports)
        except REFUSED_VALUE as error:
            if len(reports) > 1:
                return {ticket: status for report in reports for ticket, status in self.finish([report]).items()}
            # Without the error's text, which may contain a number.
            extra = {"ticket": str(reports[0].ticket), "error": type(error).__name__}
            logger.error("report_refused", extra=extra)  # noqa: TRY400
            plain = replace(reports[0], code=None, message=None, http_status=None, request_id=None)
            return self.finish([plain]) if plain != reports[0] else {}

    def _finish(self, reports: Sequence[Report]) -> dict[Ticket, str]:
        columns = [_array(column) for column in zip(*map(_report, reports), strict=True)]
        rows = self._again(f"select id, attempt, status from sms_retry.finish_sms_retries({_REPORTS})", columns)
        return {Ticket(id, attempt): status for id, attempt, status in rows}

    def known(self, reports: Sequence[Report]) -> dict[Ticket, str]:
        """Of reports that changed nothing: the status of those that were written before. The others are stale."""
        if not reports:
            return {}
        given = [(*report.ticket, report.outcome, report.sid) for report in reports]
        columns = [_array(column) for column in zip(*given, strict=True)]
        statement = "select * from sms_retry.known_sms_reports(%s::bigint[], %s::int[], %s::text[], %s::text[])"
        return {Ticket(id, attempt): status for id, attempt, status in self._again(statement, columns)}

    def set_hold(self, hold: Hold, by_receipt: bool = False) -> None:
        """Send nothing in the hold's scope until its wait is over and a probe succeeds.

        After a receipt reported the cause, only a receipt of the probe clears the hold.
        """
        given = [hold.scope, hold.key, hold.wait, hold.reason]
        by_receipt_only = "select sms_retry.open_sms_hold_by_receipt(%s, %s, %s, %s)"
        if not by_receipt or _if_defined(self._again, by_receipt_only, given) is None:
            self._again("select sms_retry.open_sms_hold(%s, %s, %s, %s)", given)

    def set_consent(self, business_id: str, phone_number: str, consent: str) -> int:
        """Store a person's consent; returns the number of waiting messages that this ended."""
        given = [business_id, phone_number, consent]
        return int(self._again("select sms_retry.set_sms_consent(%s, %s, %s)", given)[0][0])

    def take_reply(
        self, message_sid: str | None, from_number: str, wish: Wish, senders: Sequence[str] = ()
    ) -> int | None:
        """Apply a reply to `senders`, once by its SID; the messages that it ended, or None for a repeated reply."""
        statement = "select sms_retry.take_sms_reply(%s, %s, %s, %s::text[])"
        rows = _if_defined(self._again, statement, [message_sid, from_number, wish, list(senders)])
        if rows is None:
            # Without the function a repeated START looks like a new one, so a person who opted out stays opted out.
            return self.set_consent("*", from_number, "opted_out") if wish == "stop" else 0
        ended: int | None = rows[0][0]
        return ended

    def record_reply(self, reply: Reply, from_number: str) -> bool:
        """Take any reply, once by its SID; true if it asks to stop or to start, or if replies are subscribed to."""
        statement = "select sms_retry.record_sms_reply(%s, %s, %s, %s, %s, %s)"
        given = [reply.message_sid, from_number, reply.to_number, reply.body, reply.wish, list(reply.senders)]
        rows = _if_defined(self._again, statement, given)
        if rows is not None:
            return bool(rows[0][0])
        if reply.wish:
            self.take_reply(reply.message_sid, from_number, reply.wish, reply.senders)
        return reply.wish is not None

    def take_events(self, limit: int, lease: timedelta) -> list[Event]:
        """Lease at most `limit` events, the oldest first; unconfirmed ones come again after the lease."""
        rows = _if_defined(self._once, "select * from sms_retry.take_sms_events(%s, %s)", [limit, lease])
        return [Event(*row) for row in rows or ()]

    def done_events(self, ids: Sequence[int]) -> None:
        """Confirm events: they are not returned again."""
        _if_defined(self._again, "select sms_retry.done_sms_events(%s::bigint[])", [list(ids)])

    def waiting_events(self) -> tuple[int, int]:
        """The number of unconfirmed events, and the age of the oldest in seconds."""
        rows = _if_defined(self._again, "select waiting, oldest_seconds from sms_retry.waiting_sms_events()", [])
        return (int(rows[0][0]), int(rows[0][1])) if rows else (0, 0)

    def senders_at_pace(self) -> int:
        """The number of senders that have no segment left at this moment."""
        rows = _if_defined(self._again, "select sms_retry.sms_senders_at_pace()", [])
        return int(rows[0][0]) if rows else 0

    def cleanup_events(self) -> int:
        """Remove one batch of events that no consumer confirmed within a week; their number, 0 when none is left."""
        rows = _if_defined(self._once, "select sms_retry.cleanup_sms_events()", [])
        return int(rows[0][0]) if rows else 0

    def record_delivery(self, receipt: Receipt, verdict: Verdict | None = None) -> str:
        """Store a receipt, with the verdict on a failure; returns settled, noted, repeated or unheard_of."""
        given: list[Any] = [receipt.message_sid, receipt.status, receipt.error_code, *(receipt.ticket or (None, None))]
        given += [list(verdict.delays) or None, verdict.spends, verdict.reason] if verdict else [None, True, None]
        statement = "select sms_retry.record_sms_receipt(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
        rows = _if_defined(self._again, statement, [*given, receipt.to_number, receipt.account])
        if rows is None:
            rows = self._again("select sms_retry.record_sms_delivery(%s, %s, %s, %s, %s, %s, %s, %s)", given)
        return str(rows[0][0])

    def is_known(self, receipt: Receipt) -> bool:
        """Whether this receipt was recorded before; false on a database of release 0.1."""
        given = [receipt.message_sid, receipt.status, receipt.error_code]
        rows = _if_defined(self._again, "select sms_retry.sms_receipt_is_known(%s, %s, %s)", given)
        return bool(rows and rows[0][0])

    def origin_of(self, receipt: Receipt) -> tuple[str | None, str | None]:
        """The sender and the subaccount of the message of a receipt; None is that of the deployment."""
        given = [receipt.message_sid, receipt.ticket and receipt.ticket.id]
        statement = "select sender, account from sms_retry.sms_origin_of_receipt(%s, %s)"
        rows = _if_defined(self._again, statement, given)
        return (rows[0][0], rows[0][1]) if rows else (None, None)

    def overrides(self) -> list[tuple[Any, ...]]:
        """The operators' own rules for codes, in the columns of the table of codes."""
        return self._again("select * from sms_retry.sms_policy_overrides()", [])

    def all_overrides(self) -> Overrides:
        """The operators' own rules for codes and for hours, in one round trip."""
        rows = _if_defined(self._once, "select concerns, rule from sms_retry.sms_overrides()", [])
        if rows is None:
            return Overrides(self.overrides(), [])
        codes, hours = ([tuple(rule.values()) for of, rule in rows if of == name] for name in Overrides._fields)
        return Overrides(codes, hours)

    def known_before(self, message: Message) -> Known | None:
        """The facts about a message before it is queued; None with the functions of release 0.1."""
        given = [message.business_id, message.message_key, message.to_number]
        statement = "select message_id, time_zone, region from sms_retry.sms_known_before(%s, %s, %s)"
        rows = _if_defined(self._again, statement, given)
        return Known(*rows[0]) if rows else None

    def state(self, message_id: int) -> State | None:
        """The state of one message, or None for an id that no message has."""
        rows = self._again("select * from sms_retry.sms_message_state(%s)", [message_id])
        return State(*rows[0]) if rows else None

    def unknown_due(self, limit: int) -> list[Unsettled]:
        """The unknown messages to ask Twilio about now. With the functions of release 0.1 none `has_waited`."""
        columns = "id, attempt, to_number, body, claimed_at"
        statement = (
            f"select {columns}, has_waited, asked_at, account, media, content_sid from sms_retry.unknown_sms_to_ask(%s)"
        )
        rows = _if_defined(self._once, statement, [limit])
        if rows is None:
            rows = self._once(f"select {columns}, false, clock_timestamp() from sms_retry.unknown_sms_due(%s)", [limit])
        return [Unsettled(Ticket(id, attempt), *message) for id, attempt, *message in rows]

    def list_control(self, account: str | None = None) -> Control | None:
        """The newest message that an account's list must have; None if no POST was accepted within four days."""
        statement = (
            "select to_number, body, provider_sid, posted_after, accepted_at, media from sms_retry.sms_list_control(%s)"
        )
        rows = self._again(statement, [account])
        return Control(*rows[0]) if rows else None

    def release_unknown(self, tickets: Sequence[Ticket], findings: Sequence[Finding] | None = None) -> list[str]:
        """Decide about messages that Twilio's list does not settle, `absent` without findings; the statuses of those
        that changed: pending if the message is sent again, unknown if it is parked or has ended.
        """
        if not tickets:
            return []
        ids, attempts = zip(*tickets, strict=True)
        given = [list(ids), list(attempts), list(findings or ["absent"] * len(tickets))]
        statement = "select status from sms_retry.decide_unknown_sms(%s::bigint[], %s::int[], %s::text[])"
        return [status for (status,) in _if_defined(self._once, statement, given) or []]

    def silent_due(self, limit: int) -> list[Silent]:
        """The accepted messages without a final receipt, to ask Twilio about now."""
        statement = "select message_id, provider_sid, account from sms_retry.silent_sms_to_ask(%s)"
        rows = _if_defined(self._once, statement, [limit])
        if rows is None:
            rows = self._once("select message_id, provider_sid from sms_retry.silent_sms_due(%s)", [limit])
        return [Silent(*row) for row in rows]

    def note_asked(self, gone: Mapping[int, bool]) -> None:
        """Twilio answered about these silent messages; True marks a message that Twilio no longer has."""
        statement = "select sms_retry.note_silent_sms_asked(%s::bigint[], %s::boolean[])"
        self._again(statement, [list(gone), list(gone.values())])

    def unowned_sids(self, sids: Sequence[str]) -> set[str]:
        """The SIDs among these that no attempt owns."""
        return {sid for (sid,) in self._again("select sms_retry.unowned_sms_sids(%s::text[])", [list(sids)])}

    def is_being_sent(self, to_number: str) -> bool:
        """Whether a message to this number is being sent now; false on a database of release 0.1."""
        rows = _if_defined(self._again, "select sms_retry.sms_is_being_sent(%s)", [to_number])
        return bool(rows and rows[0][0])

    def retry_by_hand(self, actor: str, subject: str, message_id: int, force: bool) -> bool:
        """Make one message due now; true if it is."""
        return bool(self._by_hand(actor, "retry", subject, "retry_sms_now", "boolean", message_id, force))

    def cancel_by_hand(self, actor: str, subject: str, message_id: int) -> str | None:
        """Cancel one message; its status afterwards, or None where no message has this id."""
        status: str | None = self._by_hand(actor, "cancel", subject, "cancel_sms_retry", "text", message_id)
        return status

    def cancel_batch_by_hand(self, actor: str, subject: str, batch: str, limit: int) -> int:
        """Cancel at most `limit` waiting messages of a batch; their number, 0 when none is left."""
        return int(self._by_hand(actor, "cancel", subject, "cancel_sms_batch", "int", batch, limit))

    def requeue_by_hand(
        self, actor: str, subject: str, cause: Cause, since: datetime, until: datetime | None, limit: int
    ) -> int:
        """Requeue at most `limit` messages that failed of this cause between two instants; their number."""
        function = "requeue_sms_of_reason" if isinstance(cause, str) else "requeue_failed_sms"
        return int(self._by_hand(actor, "requeue", subject, function, "int", cause, since, until, limit))

    def set_hold_by_hand(self, actor: str, subject: str, scope: str, key: str, wait: timedelta, reason: str) -> None:
        self._by_hand(actor, "hold", subject, "open_sms_hold", "text", scope, key, wait, reason)

    def clear_hold_by_hand(self, actor: str, subject: str, scope: str, key: str) -> bool:
        """Clear a hold; false if it was not set."""
        return bool(self._by_hand(actor, "release", subject, "close_sms_hold", "boolean", scope, key))

    def set_sender_by_hand(
        self, actor: str, subject: str, sender: str, business_id: str | None, pace: Decimal | None, account: str | None
    ) -> None:
        """Add a sender, or replace its business, its pace and its subaccount. Raises Refused."""
        given = (sender, business_id, pace, account)
        with _refusals():
            self._by_hand(actor, "sender", subject, "set_sms_sender", "text", *given)

    def budgets(self) -> list[Budget]:
        """The budgets; none on a database of release 0.1."""
        statement = "select scope, key, per, segments, spent, turns_at from sms_retry.sms_budgets_now()"
        return [Budget(*row) for row in _if_defined(self._again, statement, []) or []]

    def fold_usage(self) -> int:
        """Add up to 100,000 rows of usage together; how many rows fewer are left."""
        rows = _if_defined(self._once, "select sms_retry.fold_sms_usage()", [])
        return int(rows[0][0]) if rows else 0

    def set_budget_by_hand(
        self, actor: str, subject: str, scope: str, key: str, segments: int | None, per: timedelta
    ) -> None:
        """Set a budget; without `segments` it is removed. Raises Refused."""
        with _refusals():
            self._by_hand(actor, "budget", subject, "set_sms_budget", "text", scope, key, segments, per)

    def set_consent_by_hand(self, actor: str, subject: str, business_id: str, phone_number: str, consent: str) -> int:
        """Record a person's consent; the number of waiting messages that it ended."""
        given = (business_id, phone_number, consent)
        return int(self._by_hand(actor, consent, subject, "set_sms_consent", "int", *given))

    def erase_by_hand(self, actor: str, subject: str, phone_number: str) -> Erased:
        """Erase at most 1,000 messages of one person, with attempts, receipts, holds and consents but opt-outs."""
        return Erased(**self._by_hand(actor, "erase", subject, "erase_sms_recipient", "jsonb", phone_number))

    def export_by_hand(self, actor: str, subject: str, phone_number: str) -> dict[str, Any]:
        """All that is known of one person."""
        statement = "select sms_retry.export_sms_recipient(%s)"
        exported: dict[str, Any] = self._again(statement, [phone_number])[0][0]
        self.note_action(actor, "export", subject, f"messages: {len(exported['messages'])}")
        return exported

    def note_action(self, actor: str, action: str, subject: str, result: str) -> None:
        """Record an action that changes nothing."""
        self._once("select sms_retry.note_sms_action(%s, %s, %s, %s)", [actor, action, subject, result])

    def session_user(self) -> str:
        """The role that is signed in to the database."""
        return str(self._again("select session_user", [])[0][0])

    def doubt_by_hand(self, actor: str, subject: str, since: datetime) -> int:
        """After a restore: make unknown each message that may have been sent since then; their number."""
        return int(self._by_hand(actor, "doubt", subject, "doubt_sms_since", "int", since))

    def cleanup(self, only_erased: bool = False) -> int:
        """Remove one batch of queue rows that ended long ago; their number, 0 when none is left."""
        return int(self._once("select sms_retry.cleanup_sms_retries(only_erased => %s)", [only_erased])[0][0])

    def erase_bodies(self, days: int) -> int:
        """Erase one batch of texts of messages that ended `days` ago or earlier; their number, 0 when none is left."""
        return int(self._once("select sms_retry.erase_sms_bodies(%s)", [days])[0][0])

    def remove_old(self, days: int, after_id: int = 0) -> tuple[int, int | None]:
        """Remove old messages of the next after an id: their number, and the id to go on after, None at the end."""
        statement = "select removed, next_id from sms_retry.remove_old_sms(%s, %s)"
        rows = _if_defined(self._once, statement, [days, after_id])
        removed, next_id = rows[0] if rows else (0, None)
        return int(removed), next_id

    def _claim(self, call: str, given: Sequence[Any], former: str, of_former: Sequence[Any]) -> list[Claim]:
        """Call a function that claims, or that of release 0.1, whose migrator removes the newer one."""
        once = partial(self._once, one_by_one=True)
        rows = _if_defined(once, f"select * from {call}", given)
        if rows is None:
            rows = once(f"select * from {former}", of_former)
        return [UnreadableClaim.of(*row) if isinstance(row, Unreadable) else Claim(*row) for row in rows]

    def _by_hand(self, actor: str, action: str, subject: str, function: str, returns: str, *given: Any) -> Any:
        """Call an SQL function and record the action in the same statement; the result, of SQL's type `returns`."""
        places = ", ".join(["%s"] * len(given))
        statement = f"select sms_retry.note_sms_action(%s, %s, %s, sms_retry.{function}({places})::text)::{returns}"
        return self._once(statement, [actor, action, subject, *given])[0][0]


_REPORTS = """%s::bigint[], %s::int[], %s::text[], %s::text[], %s::int[], %s::text[], %s::int[], %s::text[],
    %s::text[], %s::boolean[], %s::text[]"""


# One value of one report may be refused; the others are written.
REFUSED_VALUE = (psycopg.DataError, psycopg.IntegrityError)


@contextmanager
def _refusals() -> Iterator[None]:
    """Within it, a refusal of an SQL function is Refused with the same sentence."""
    try:
        yield
    except (psycopg.errors.InvalidParameterValue, psycopg.errors.ProgramLimitExceeded) as refused:
        raise Refused(refused.diag.message_primary) from None


def _if_defined(run: Run, statement: str, given: Sequence[Any]) -> list[tuple[Any, ...]] | None:
    """The rows; None if the function is missing: after a rollback the migrator of release 0.1 has removed it."""
    try:
        return run(statement, given)
    except psycopg.errors.UndefinedFunction:
        return None


def _message(message: Message) -> tuple[str, list[Any]]:
    """The arguments of an SQL entry by name, without those that are None: release 0.1 does not know all of them."""
    given = {field.name: getattr(message, field.name) for field in fields(message)}
    given["media_urls"] = list(message.media_urls) if message.media_urls is not None else None
    given = {name: value for name, value in given.items() if value is not None}
    return ", ".join(f"{name} => %s" for name in given), list(given.values())


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
    """Postgres's literal of an array, in a tenth of psycopg's time; None for an array of nulls only."""
    nulls = values.count(None)
    if nulls == len(values):
        return None
    is_text = isinstance(values[0], str)
    if is_text and not nulls:
        text = _storable('","'.join(values))
        if "\\" not in text and text.count('"') == 2 * len(values) - 2:
            return f'{{"{text}"}}'
    return "{" + ",".join(map(_element if is_text or nulls else str, values)) + "}"


def _element(value: Any) -> str:
    if isinstance(value, str):
        return '"' + _storable(value).replace("\\", "\\\\").replace('"', '\\"') + '"'
    return "null" if value is None else str(value)


def _storable(text: str) -> str:
    """The text without NUL and halves of surrogate pairs: JSON can have them, and Postgres refuses them."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")
