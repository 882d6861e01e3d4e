"""Queues a message after Twilio refused the application's own first send of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from sms_retry.intake import Failed
from sms_retry.policy import Policy
from sms_retry.store import Store
from sms_retry.values import Ask, Message, Refused, StopSending


def take_failed(store: Store, message: Message, failed: Failed, now: datetime) -> int:
    """Queue the message with the waits that its error is granted; returns its id."""
    refused = Refused(400, failed.error_code, failed.error_message or "")
    verdict = Policy.of(store.overrides()).judge(refused, 1, message.to_number, now)
    if isinstance(verdict, Ask):
        return store.log_sent(message, None)
    if isinstance(verdict, StopSending):
        message = replace(message, scheduled_for=None)
        return store.queue_refused(message, failed.error_code, failed.error_message, verdict.delays)
    delays = verdict.delays
    if not verdict.spends:
        # The failure may concern the application's own account or sender only, so our first send finds that out. SQL
        # counts a scheduled message as one that has spent no retry.
        message = replace(message, scheduled_for=max(now + delays[0], message.scheduled_for or now))
        delays = ()
    elif not delays:
        message = replace(message, scheduled_for=None)
    return store.queue(message, failed.error_code, failed.error_message, delays)
