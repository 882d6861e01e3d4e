"""What Twilio and the people it reaches tell us: a receipt settles an attempt, a STOP ends whatever waits."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

from sms_retry import policy
from sms_retry.store import Store
from sms_retry.values import Ask, Final, Hold, Receipt, Reply, Retry, StopSending

FAILURES = ("undelivered", "failed")

# The runtime's, which makes JSON of it.
logger = logging.getLogger("sms-retry")


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a receipt changed: `answer` is settled, noted, repeated or unheard_of; whether it opened a hold; and whether
    its code is one that the table lacks, which was taken for final.
    """

    answer: str
    opened: bool
    unlisted: bool


def record(store: Store, receipt: Receipt, now: datetime) -> Recorded:
    """Write a receipt down, with the waits that a failure is granted."""
    opened = False
    delays: tuple[timedelta, ...] = ()
    spends: bool = True
    reason: str | None = None
    if receipt.status in FAILURES:
        attempt = receipt.ticket.attempt if receipt.ticket else 1
        lines = policy.overridden(store.overrides())
        match policy.judge_receipt(receipt.status, receipt.error_code, attempt, receipt.to_number, now, lines=lines):
            case Retry(delays=delays, spends=spends, reason=reason):
                pass
            case Hold(wait=wait, reason=reason) as hold:
                store.open_hold(hold)
                delays, spends, opened = (wait,), False, True
            case StopSending(reason=reason) | Final(reason=reason) | Ask(reason=reason):
                pass
    answer = store.record_delivery(
        receipt.message_sid, receipt.status, receipt.error_code, receipt.ticket, delays, spends, reason
    )
    if receipt.status in FAILURES:
        _log(receipt, answer, reason)
    return Recorded(answer, opened, receipt.error_code is not None and receipt.error_code not in policy.table())


def apply_reply(store: Store, reply: Reply) -> int:
    """Do as a person asked; gives how many waiting messages that ended."""
    return store.set_consent("*", reply.from_number, reply.consent) if reply.consent else 0


def _log(receipt: Receipt, answer: str, reason: str | None) -> None:
    """One line about a message that failed after Twilio had accepted it: no number."""
    of = {"message_sid": receipt.message_sid, "ticket": receipt.ticket and str(receipt.ticket)}
    logger.info(receipt.status, extra={**of, "code": receipt.error_code, "reason": reason, "answer": answer})
