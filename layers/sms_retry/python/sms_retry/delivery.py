"""What Twilio and the people it reaches tell us: a receipt settles an attempt, a STOP ends whatever waits."""

from __future__ import annotations

from datetime import datetime, timedelta

from sms_retry import policy
from sms_retry.retry import Ask, Final, Hold, Receipt, Reply, Retry, StopSending
from sms_retry.store import Store


def record(store: Store, receipt: Receipt, now: datetime) -> str:
    """Write a receipt down, with the waits that a failure is granted: settled, noted, repeated or unheard_of."""
    delays: tuple[timedelta, ...] = ()
    spends: bool = True
    reason: str | None = None
    if receipt.status in ("undelivered", "failed"):
        attempt = receipt.ticket.attempt if receipt.ticket else 1
        lines = policy.overridden(store.overrides())
        match policy.judge_receipt(receipt.status, receipt.error_code, attempt, receipt.to_number, now, lines=lines):
            case Retry(delays=delays, spends=spends, reason=reason):
                pass
            case Hold(wait=wait, reason=reason) as hold:
                store.open_hold(hold)
                delays, spends = (wait,), False
            case StopSending(reason=reason) | Final(reason=reason) | Ask(reason=reason):
                pass
    return store.record_delivery(
        receipt.message_sid, receipt.status, receipt.error_code, receipt.ticket, delays, spends, reason
    )


def is_unlisted(receipt: Receipt) -> bool:
    """Whether the receipt's code is one that the table lacks; it was taken for final."""
    return receipt.error_code is not None and receipt.error_code not in policy.table()


def heed(store: Store, reply: Reply) -> int:
    """Do as a person asked; gives how many waiting messages that ended."""
    return store.set_consent("*", reply.from_number, reply.consent) if reply.consent else 0
