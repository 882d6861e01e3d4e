"""The nouns: a message, a claim on it, and everything that can become of one try to send it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple


class Ticket(NamedTuple):
    """The lease, the fencing token and the correlation id of one claim."""

    id: int
    attempt: int

    def __str__(self) -> str:
        return f"{self.id}-{self.attempt}"

    @classmethod
    def parse(cls, text: str | None) -> Ticket | None:
        """The ticket in `text`, or None where there is none; both numbers fit Postgres's bigint and int."""
        left, dash, right = (text or "").partition("-")
        digits = left.isascii() and left.isdigit() and right.isascii() and right.isdigit()
        if not (dash and digits and len(left) <= 18 and len(right) <= 9):
            return None
        return cls(int(left), int(right))


@dataclass(frozen=True, slots=True)
class Message:
    """A message as its sender gives it; instants are aware, None is the default of the door."""

    to_number: str
    body: str
    message_key: str | None = None
    business_id: str = "default"
    kind: str = "transactional"
    on_unknown: str = "resend"
    time_zone: str | None = None
    scheduled_for: datetime | None = None
    expires_at: datetime | None = None


class Claim(NamedTuple):
    """A claimed message: all that is needed to judge and send it. Field for field SQL's `claimed_sms`."""

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

    @property
    def ticket(self) -> Ticket:
        return Ticket(self.id, self.attempt)


@dataclass(frozen=True, slots=True)
class Accepted:
    """Twilio has it."""

    sid: str
    http_status: int
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """Twilio answered, and has not taken it."""

    http_status: int
    code: int | None
    message: str
    retry_after: timedelta | None = None
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class Unreached:
    """No byte of the request was written: it cannot have gone."""

    why: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """It may have gone: the request was written, and no answer that can be trusted came back."""

    why: str
    http_status: int | None = None
    request_id: str | None = None


Answer = Accepted | Refused | Unreached | Unknown


@dataclass(frozen=True, slots=True)
class Go:
    """Send it now; Twilio must not deliver it later than `valid_for`."""

    valid_for: timedelta


@dataclass(frozen=True, slots=True)
class Deferred:
    """Not now, and nobody's fault: due again `wait` after the claim; spends no retry."""

    wait: timedelta
    reason: str


@dataclass(frozen=True, slots=True)
class Expired:
    """Too late to be sent."""


@dataclass(frozen=True, slots=True)
class OptedOut:
    """This person must not be sent this."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Worth another try: the waits after the first failure, the second ...; a free one spends no retry."""

    delays: tuple[timedelta, ...]
    reason: str
    spends: bool = True


@dataclass(frozen=True, slots=True)
class Final:
    """Never worth another try."""

    reason: str


@dataclass(frozen=True, slots=True)
class StopSending:
    """This person refused: final, and nothing else may be sent to them either."""

    reason: str = "opted_out"


@dataclass(frozen=True, slots=True)
class Hold:
    """Everybody in `scope` would fail alike: wait there, spend nothing, then let one message probe it."""

    scope: str
    key: str
    wait: timedelta
    reason: str


@dataclass(frozen=True, slots=True)
class Ask:
    """Nobody can say whether it went: ask Twilio before anything else."""

    reason: str


Verdict = Retry | Final | StopSending | Hold | Ask


@dataclass(frozen=True, slots=True)
class Report:
    """What is written down about one ticket. `outcome` is one of the words that SQL's finish_sms_retries lists."""

    ticket: Ticket
    outcome: str
    sid: str | None = None
    code: int | None = None
    message: str | None = None
    http_status: int | None = None
    request_id: str | None = None
    delays: tuple[timedelta, ...] = ()
    spends: bool = True
    reason: str | None = None
    hold: Hold | None = None


@dataclass(frozen=True, slots=True)
class State:
    """How one message stands."""

    message_id: int
    status: str
    provider_sid: str | None
    next_attempt_at: datetime | None
    error_code: int | None


@dataclass(frozen=True, slots=True)
class Receipt:
    """What Twilio says of one message, by callback or when it is asked."""

    message_sid: str
    status: str
    error_code: int | None
    ticket: Ticket | None
    to_number: str


@dataclass(frozen=True, slots=True)
class Reply:
    """What a person wrote back; `consent` is opted_out, opted_in, or None where they said neither."""

    from_number: str
    consent: str | None


@dataclass(frozen=True, slots=True)
class Forged:
    """A request that Twilio has not signed."""


@dataclass(frozen=True, slots=True)
class NotACallback:
    """A request that no callback looks like."""

    why: str


@dataclass(frozen=True, slots=True)
class Listed:
    """A message as Twilio has it."""

    sid: str
    status: str
    error_code: int | None
    to_number: str
    body: str
    direction: str
    created: datetime


@dataclass(frozen=True, slots=True)
class Gone:
    """Twilio has no such message any more."""


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """Twilio did not say; asking on would not help now."""

    why: str
