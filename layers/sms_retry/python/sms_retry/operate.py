"""What people do by hand, each written down in sms_actions with who did it, in the statement that does it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from sms_retry.store import Store


@dataclass(frozen=True, slots=True)
class Erased:
    """How much of one person went; how many of their messages are `left`, and how many of those Twilio is being given
    right now: their workers report within a minute. `consents` are those that were no refusal.
    """

    messages: int
    attempts: int
    callbacks: int
    holds: int
    consents: int
    left: int
    on_their_way: int


def retry(store: Store, actor: str, message_id: int, force: bool = False) -> bool:
    """Make one message due now, one that may have been sent only by force; says whether it is."""
    return store.by_hand(actor, "retry", _message(message_id), "retry_sms_now", message_id, force) == "true"


def cancel(store: Store, actor: str, message_id: int) -> str | None:
    """Call one message off; gives its status, which tells whether it was too late, or None where there is none."""
    return store.by_hand(actor, "cancel", _message(message_id), "cancel_sms_retry", message_id)


def requeue(
    store: Store, actor: str, error_code: int, since: datetime, limit: int, until: datetime | None = None
) -> int:
    """Give at most `limit` of what failed with this code one more try; gives how many, 0 when none is left.

    What fails again meanwhile would have its turn again, unless `until` says when to stop.
    """
    subject = f"code {error_code} since {since.isoformat(timespec='seconds')}"
    given = (error_code, since, until, limit)
    return int(store.by_hand(actor, "requeue", subject, "requeue_failed_sms", *given) or 0)


def hold(store: Store, actor: str, scope: str, key: str, wait: timedelta, reason: str) -> None:
    """Nothing goes there until `wait` is over, and one message has probed it."""
    store.by_hand(actor, "hold", _place(scope, key), "open_sms_hold", scope, key, wait, reason)


def release(store: Store, actor: str, scope: str, key: str) -> bool:
    """Close a hold; says whether there was one."""
    return store.by_hand(actor, "release", _place(scope, key), "close_sms_hold", scope, key) == "true"


def set_consent(store: Store, actor: str, business_id: str, phone_number: str, consent: str) -> int:
    """Write down what a person agreed to, to one business or ('*') to all; gives how many messages that ended."""
    subject = f"{masked(phone_number)} by {business_id}"
    return int(store.by_hand(actor, consent, subject, "set_sms_consent", business_id, phone_number, consent) or 0)


def erase(store: Store, actor: str, phone_number: str) -> Erased:
    """Erase a person, a thousand messages at a time: again while more are left than are on their way."""
    erased = store.by_hand(actor, "erase", masked(phone_number), "erase_sms_recipient", phone_number)
    return Erased(**json.loads(erased or "{}"))


def masked(phone_number: str) -> str:
    """A number as others may see it: `+4917******78`, and of a short one only how it begins."""
    start, end = (5, 2) if len(phone_number) > 8 else (2, 0)
    stars = "*" * (len(phone_number) - start - end)
    return phone_number[:start] + stars + phone_number[start + len(stars) :]


def without_numbers(text: str) -> str:
    """A text in which every number is masked."""
    return re.sub(r"\+?[1-9][0-9]{6,14}", lambda number: masked(number[0]), text)


def _message(message_id: int) -> str:
    return f"message {message_id}"


def _place(scope: str, key: str) -> str:
    return f"{scope} {masked(key) if scope == 'recipient' else key}"
