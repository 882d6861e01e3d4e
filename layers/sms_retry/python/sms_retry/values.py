"""The values that the modules exchange: a message, its claim, the answer to its POST, the verdict, the report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Literal, NamedTuple


class Ticket(NamedTuple):
    """The lease, the fencing token and the correlation id of one claim."""

    id: int
    attempt: int

    def __str__(self) -> str:
        return f"{self.id}-{self.attempt}"

    @classmethod
    def parse(cls, text: str | None) -> Ticket | None:
        """The ticket that `text` spells, else None. Both numbers fit Postgres's bigint and int."""
        left, dash, right = (text or "").partition("-")
        digits = left.isascii() and left.isdigit() and right.isascii() and right.isdigit()
        if not (dash and digits and len(left) <= 18 and len(right) <= 9):
            return None
        return cls(int(left), int(right))


@dataclass(frozen=True, slots=True)
class Message:
    """A message as an application queues it. Instants are aware; None selects the default of the entry.

    `content_variables` is a JSON object as text.
    """

    to_number: str
    body: str
    message_key: str | None = None
    business_id: str = "default"
    kind: str = "transactional"
    on_unknown: str = "resend"
    time_zone: str | None = None
    scheduled_for: datetime | None = None
    expires_at: datetime | None = None
    sender: str | None = None
    batch: str | None = None
    media_urls: tuple[str, ...] | None = None
    content_sid: str | None = None
    content_variables: str | None = None


class Claim(NamedTuple):
    """A claimed message, with the facts that its checks and its POST need: the columns of SQL's `sms_claim`.

    A message without a `sender` has the deployment's; a sender without an `account` belongs to the main account.
    """

    id: int
    attempt: int
    message_id: int
    business_id: str
    to_number: str
    body: str
    kind: str
    time_zone: str | None
    recipient_time_zone: str | None
    consent: str
    expires_at: datetime
    held_until: datetime | None
    limited_until: datetime | None
    claimed_at: datetime
    recipient_region: str | None = None
    sender: str | None = None
    account: str | None = None
    segments: int | None = None
    media_urls: list[str] | None = None
    content_sid: str | None = None
    content_variables: str | None = None
    budget_until: datetime | None = None

    @property
    def ticket(self) -> Ticket:
        return Ticket(self.id, self.attempt)


class UnreadableClaim(Claim):
    """A claim with a value that Python cannot read. Only its ids are known: the message must not be sent."""

    error: Exception

    @classmethod
    def of(cls, values: tuple[bytes | None, ...], error: Exception) -> UnreadableClaim:
        """From the values as Postgres sent them."""
        id, attempt, message_id = (int(value or 0) for value in values[:3])
        never = datetime.fromtimestamp(0, UTC)
        claim = cls(id, attempt, message_id, "", "", "", "", None, None, "", never, None, None, never)
        claim.error = error
        return claim


@dataclass(frozen=True, slots=True)
class Accepted:
    """Twilio accepted the POST."""

    sid: str
    http_status: int
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """Twilio refused the POST: the message was not sent."""

    http_status: int
    code: int | None
    message: str
    retry_after: timedelta | None = None
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class Unreached:
    """No byte of the request was written: the message was not sent."""

    why: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """The request was written and no trustworthy answer came back: the message may have been sent."""

    why: str
    http_status: int | None = None
    request_id: str | None = None


Answer = Accepted | Refused | Unreached | Unknown

# One POST: Twilio must deliver the message within the timedelta.
Send = Callable[[Claim, timedelta], Answer]


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again: `delays` are the waits after the first failure, the second ... A free retry spends nothing."""

    delays: tuple[timedelta, ...]
    reason: str
    spends: bool = True
    hold: ClassVar[None] = None


class _NoRetry:
    """The fields that every verdict has, for the verdicts that grant no wait."""

    __slots__ = ()
    delays: ClassVar[tuple[timedelta, ...]] = ()
    spends: ClassVar[bool] = True
    hold: ClassVar[None] = None


@dataclass(frozen=True, slots=True)
class Final(_NoRetry):
    """Never try again."""

    reason: str


@dataclass(frozen=True, slots=True)
class StopSending(_NoRetry):
    """Never try again: the person opted out, and receives nothing else either."""

    reason: str = "opted_out"


@dataclass(frozen=True, slots=True)
class Ask(_NoRetry):
    """The message may have been sent: ask Twilio before the next try."""

    reason: str


@dataclass(frozen=True, slots=True)
class Hold:
    """Every message in `scope` would fail alike: send nothing there for `wait`, then let one message probe the hold.

    `retries` are the waits of a message that may be the cause itself: it spends a retry for each of them. The cause
    may be the registration of a number of +1: then one that is not the deployment's waits, and no other sender.
    """

    scope: str
    key: str
    wait: timedelta
    reason: str
    retries: tuple[timedelta, ...] = ()
    is_of_sender: bool = field(default=False, compare=False)

    def of(self, sender: str | None, account: str | None) -> Hold:
        """The hold on the account or the sender of a message; None is that of the deployment."""
        if self.is_of_sender and (sender or "").startswith("+1"):
            return replace(self, scope="sender", key=str(sender))
        key = {"account": account or "*", "sender": sender or "*"}.get(self.scope, self.key)
        return replace(self, key=key)

    @property
    def delays(self) -> tuple[timedelta, ...]:
        return self.retries or (self.wait,)

    @property
    def spends(self) -> bool:
        return bool(self.retries)

    @property
    def hold(self) -> Hold:
        return self


# Every verdict has `delays`, `spends`, `reason` and `hold`.
Verdict = Retry | Final | StopSending | Ask | Hold

Outcome = Literal["accepted", "refused", "unknown", "deferred", "expired", "opted_out", "not_sent"]


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of one ticket, as SQL's finish_sms_retries takes it."""

    ticket: Ticket
    outcome: Outcome
    sid: str | None = None
    code: int | None = None
    message: str | None = None
    http_status: int | None = None
    request_id: str | None = None
    delays: tuple[timedelta, ...] = ()
    spends: bool = True
    reason: str | None = None
    hold: Hold | None = None

    @classmethod
    def accepted(
        cls, ticket: Ticket, sid: str, http_status: int | None = None, request_id: str | None = None
    ) -> Report:
        """Twilio has the message under `sid`. A listed message has no HTTP status."""
        return cls(ticket, "accepted", sid=sid, http_status=http_status, request_id=request_id)

    @classmethod
    def refused(cls, ticket: Ticket, answer: Refused | Unreached, verdict: Verdict) -> Report:
        """The message was not sent; after a verdict of Ask that is not certain, and the outcome is unknown."""
        outcome: Outcome = "unknown" if isinstance(verdict, Ask) else "refused"
        what_next = (verdict.delays, verdict.spends, verdict.reason, verdict.hold)
        match answer:
            case Refused(http_status=http_status, code=code, message=message, request_id=request_id):
                return cls(ticket, outcome, None, code, message, http_status, request_id, *what_next)
            case Unreached(why=why):
                return cls(ticket, outcome, None, None, why, None, None, *what_next)

    @classmethod
    def unknown(cls, ticket: Ticket, answer: Unknown) -> Report:
        return cls(ticket, "unknown", None, None, answer.why, answer.http_status, answer.request_id)

    @classmethod
    def deferred(cls, ticket: Ticket, wait: timedelta, reason: str) -> Report:
        return cls(ticket, "deferred", delays=(wait,), reason=reason)

    @classmethod
    def given_back(cls, ticket: Ticket) -> Report:
        """The worker has no time left to send the message, which is due again at once."""
        return cls.deferred(ticket, timedelta(0), reason="given_back")

    @classmethod
    def expired(cls, ticket: Ticket, reason: str | None = None) -> Report:
        return cls(ticket, "expired", reason=reason)

    @classmethod
    def opted_out(cls, ticket: Ticket) -> Report:
        return cls(ticket, "opted_out")

    @classmethod
    def not_sent(cls, ticket: Ticket, reason: str) -> Report:
        """The message ends without a POST."""
        return cls(ticket, "not_sent", reason=reason)


@dataclass(frozen=True, slots=True)
class State:
    """The state of one message, as `send_sms` and `retry_sms` return it."""

    message_id: int
    status: str
    provider_sid: str | None
    next_attempt_at: datetime | None
    error_code: int | None


# The cause of failures that a person requeues: an error code, None for failures without one, or a reason.
Cause = int | str | None


class Stock(NamedTuple):
    """The queue at the start of a tick: rows recovered from dead workers, and due rows, counted up to a limit.

    No row was due before `since`: a claim that begins there passes over the index entries of earlier claims.
    """

    recovered: int
    due: int
    since: datetime | None


class Unsettled(NamedTuple):
    """An unknown message to ask Twilio about now. `asked_at` is the time of the database's clock.

    `has_waited`: the claim is 30 minutes old, so that Twilio's list may decide about the message.
    `media` is its number of files.
    """

    ticket: Ticket
    to_number: str
    body: str
    claimed_at: datetime
    has_waited: bool
    asked_at: datetime
    account: str | None = None
    media: int = 0
    content_sid: str | None = None


# What Twilio's list told of an unknown message that it does not settle, as SQL's decide_unknown_sms takes it.
Finding = Literal["absent", "stranger", "unsure"]


class Control(NamedTuple):
    """A message that Twilio accepted, by a POST between these instants: a list without it is not trusted."""

    to_number: str
    body: str
    provider_sid: str
    posted_after: datetime
    accepted_at: datetime
    media: int = 0


class Silent(NamedTuple):
    """An accepted message without a final receipt, to ask Twilio about now."""

    message_id: int
    provider_sid: str
    account: str | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """Twilio's status of one message, from a callback or from its list."""

    message_sid: str
    status: str
    error_code: int | None
    ticket: Ticket | None
    to_number: str
    # The sender, where it is known.
    from_number: str = ""
    # The name of the subaccount that the receipt came from; None for the main account.
    account: str | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """An inbound message. A sender that is no phone number, such as a short code, has the number None.

    `wish` is None where the person asks neither to stop nor to start. It went to `senders`: a number, and the Messaging
    Service that the number belongs to.
    """

    message_sid: str | None
    from_number: str | None
    wish: Literal["stop", "start"] | None
    senders: tuple[str, ...] = ()
    to_number: str = ""
    body: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Event:
    """One row of the outbox: a message has ended, or a person has replied.

    Only the `detail` of a reply has numbers and a text: from, to, body and sid.
    """

    id: int
    type: str
    at: datetime
    message_id: int | None
    message_key: str | None
    business_id: str | None
    batch: str | None
    error_code: int | None
    reason: str | None
    detail: dict[str, Any] | None = field(default=None, repr=False)
