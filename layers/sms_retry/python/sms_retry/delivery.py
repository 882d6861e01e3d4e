"""Delivery receipts and replies: a receipt settles an attempt; a STOP ends every message that waits for the person."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from sms_retry.policy import Policy
from sms_retry.store import Store
from sms_retry.values import Receipt, Reply

FAILURES = ("undelivered", "failed")

# Asks Twilio for the error code of a message that failed; None without a code or an answer.
CodeOf = Callable[[Receipt], int | None]

# The runtime's logger, which writes JSON.
logger = logging.getLogger("sms-retry")


@dataclass(frozen=True, slots=True)
class Recorded:
    """The effect of a receipt: `answer` is settled, noted, repeated or unheard_of.

    `unlisted` marks the first receipt of a failure with a code that has no rule; such a failure is final.
    """

    answer: str
    hold_set: bool
    unlisted: bool


def record(store: Store, receipt: Receipt, now: datetime, code_of: CodeOf | None = None, sender: str = "") -> Recorded:
    """Write a receipt to the database, and with a failure the waits that the policy grants.

    A failure without a code is final, so `code_of` is asked for the code first. `sender` is the deployment's, for a
    receipt that does not name its own.
    """
    if receipt.status not in FAILURES:
        return Recorded(store.record_delivery(receipt), hold_set=False, unlisted=False)
    if receipt.error_code is None and code_of:
        receipt = replace(receipt, error_code=code_of(receipt))
    named = replace(receipt, from_number=receipt.from_number or sender)
    verdict = Policy.of(store.overrides()).judge_receipt(named, now)
    # The hold comes first: if it cannot be set, the receipt is not recorded, and its repetition sets the hold.
    hold = verdict.hold if not (verdict.hold and store.is_known(receipt)) else None
    if hold:
        store.set_hold(hold.of(*store.origin_of(receipt)), by_receipt=True)
    answer = store.record_delivery(receipt, verdict)
    _log(receipt, answer, verdict.reason)
    return Recorded(answer, hold_set=hold is not None, unlisted=verdict.reason == "unlisted" and answer != "repeated")


def apply_reply(store: Store, reply: Reply) -> bool:
    """Act on a reply that asks to stop or to start, and write its event where replies are subscribed to.

    Returns False for a reply of which nothing is stored.
    """
    return reply.from_number is not None and store.record_reply(reply, reply.from_number)


def _log(receipt: Receipt, answer: str, reason: str) -> None:
    """One line about a message that failed after Twilio accepted it; never a number."""
    of = {"message_sid": receipt.message_sid, "ticket": receipt.ticket and str(receipt.ticket)}
    logger.info(receipt.status, extra={**of, "code": receipt.error_code, "reason": reason, "answer": answer})
