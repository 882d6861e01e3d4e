"""Actions by hand. Each is recorded in sms_actions with its actor, in the statement that does it.

An export and a search by number change nothing, and are recorded in the next statement.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count, islice
from typing import Any, NamedTuple

from sms_retry.readings import Erased, FailedSince, FoundMessage
from sms_retry.store import Store
from sms_retry.values import Cause

# SQL's open_sms_hold takes every longer time as this one: a hundred years.
LONGEST_HOLD = timedelta(days=36_525)

# Messages that one statement requeues.
BATCH = 1000
# Messages of a batch that one statement cancels, in about a second.
CANCELLED_AT_ONCE = 10_000
# Seven to fifteen digits, as people write a number: `(415) 555-9876`, `+1.415.555.9876`.
NUMBER = re.compile(r"\+?\(?[0-9](?:[\s().\-/\u2010-\u2015]{0,2}[0-9]){6,14}(?![0-9])")

UNITS = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))

# Called after each batch with the number of messages that are done, and the number of all.
Progress = Callable[[int, int], None]


class Requeued(NamedTuple):
    messages: int
    is_complete: bool


class ErasedMessages(NamedTuple):
    messages: int
    left: int


def retry(store: Store, actor: str, message_id: int, force: bool = False) -> bool:
    """Make one message due now, an unknown one only by force; true if it is due."""
    return store.retry_by_hand(actor, _message(message_id), message_id, force)


def cancel(store: Store, actor: str, message_id: int) -> str | None:
    """Cancel one message; its status afterwards, which tells whether it was too late. None: no message has this id."""
    return store.cancel_by_hand(actor, _message(message_id), message_id)


def cancel_batch(
    store: Store, actor: str, batch: str, most_parts: int | None = None, progress: Progress | None = None
) -> int:
    """Cancel the waiting messages of a batch, part by part; their number. No other message of it is sent again."""
    cancelled, waiting = 0, store.batch(batch).get("queued", 0)
    for _ in islice(count(), most_parts):
        part = store.cancel_batch_by_hand(actor, f"batch {batch}", batch, CANCELLED_AT_ONCE)
        if not part:
            break
        cancelled += part
        if progress:
            progress(cancelled, max(waiting, cancelled))
    return cancelled


def requeue(store: Store, actor: str, cause: Cause, since: datetime, limit: int, until: datetime | None = None) -> int:
    """Give at most `limit` messages that failed of this cause one more try; their number, 0 when none is left.

    Without `until`, a message that fails again meanwhile is requeued again.
    """
    subject = f"{named(cause)} since {since.isoformat(timespec='seconds')}"
    return store.requeue_by_hand(actor, subject, cause, since, until, limit)


def requeue_all(
    store: Store,
    actor: str,
    cause: Cause,
    since: datetime,
    counted: FailedSince,
    most_batches: int | None = None,
    progress: Progress | None = None,
) -> Requeued:
    """Requeue the messages that `store.failed_since` counted, batch by batch, until none is left."""
    messages = 0
    for _ in islice(count(), most_batches):
        batch = requeue(store, actor, cause, since, BATCH, counted.until)
        if not batch:
            return Requeued(messages, is_complete=True)
        messages += batch
        if progress:
            progress(messages, counted.failed)
    return Requeued(messages, is_complete=False)


def hold(store: Store, actor: str, scope: str, key: str, wait: timedelta, reason: str) -> None:
    """Set a hold: nothing is sent in its scope until `wait` is over and a probe has gone through."""
    store.set_hold_by_hand(actor, _place(scope, key), scope, key, wait, reason)


def clear_hold(store: Store, actor: str, scope: str, key: str) -> bool:
    """Clear a hold; false if it was not set."""
    return store.clear_hold_by_hand(actor, _place(scope, key), scope, key)


def set_sender(
    store: Store, actor: str, sender: str, business_id: str | None, pace: Decimal | None, account: str | None
) -> None:
    """Add a sender, or replace its business, its pace (segments a second) and its subaccount."""
    store.set_sender_by_hand(actor, f"sender {sender}", sender, business_id, pace, account)


def set_budget(store: Store, actor: str, scope: str, key: str, segments: int | None, per: timedelta) -> None:
    """Allow so many segments in each interval; None removes the budget. Messages that wait for a budget become due."""
    amount = "none" if segments is None else f"{segments} segments per {interval(per)}"
    store.set_budget_by_hand(actor, f"{scope} {key}: {amount}", scope, key, segments, per)


def set_consent(store: Store, actor: str, business_id: str, phone_number: str, consent: str) -> int:
    """Record a person's consent to one business, or to all ('*'); the number of waiting messages that it ended."""
    subject = f"{masked(phone_number)} by {business_id}"
    return store.set_consent_by_hand(actor, subject, business_id, phone_number, consent)


def search(store: Store, actor: str, word: str, phone_number: str | None) -> list[FoundMessage]:
    """Messages with this id, key or SID, and the latest to this number. A search for a number is recorded."""
    found = store.found(word, phone_number)
    if phone_number:
        store.note_action(actor, "search", masked(phone_number), f"messages found: {len(found)}")
    return found


def erase(store: Store, actor: str, phone_number: str) -> Erased:
    """Erase a person, at most 1,000 messages in one call."""
    return store.erase_by_hand(actor, masked(phone_number), phone_number)


def export(store: Store, actor: str, phone_number: str) -> dict[str, Any]:
    """All that is known of a person; the export is recorded as an action."""
    return store.export_by_hand(actor, masked(phone_number), phone_number)


def erase_all(
    store: Store, actor: str, phone_number: str, most_batches: int | None = None, progress: Progress | None = None
) -> ErasedMessages:
    """Erase a person batch by batch, until all that is left is being sent, or a batch erases no message."""
    messages = left = 0
    for _ in islice(count(), most_batches):
        batch = erase(store, actor, phone_number)
        messages, left = messages + batch.messages, batch.left
        if progress:
            progress(messages, messages + left)
        if left <= batch.on_their_way or not batch.messages:
            break
    return ErasedMessages(messages, left)


def doubt(store: Store, actor: str, since: datetime) -> int:
    """After a restore to an earlier time: Twilio is asked about each message that may have been sent since then,
    before it is sent. Returns their number.
    """
    return store.doubt_by_hand(actor, f"since {since.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC", since)


def interval(per: timedelta) -> str:
    """An interval as the command line reads it: `30d`, `36h` or `90m`."""
    seconds = int(per.total_seconds())
    return next(f"{seconds // size}{unit}" for size, unit in UNITS if seconds % size == 0)


def named(cause: Cause) -> str:
    """A cause in words: `code 30005`, `no code` or `reason unlisted`."""
    if isinstance(cause, str):
        return f"reason {cause}"
    return "no code" if cause is None else f"code {cause}"


def masked(phone_number: str) -> str:
    """A number with stars: `+4917******78`; of a number of up to 10 characters only the first two are shown."""
    start, end = (5, 2) if len(phone_number) > 10 else (2, 0)
    stars = "*" * (len(phone_number) - start - end)
    return phone_number[:start] + stars + phone_number[start + len(stars) :]


def without_numbers(text: str) -> str:
    """A text in which every number is masked, in any spelling. Another long row of digits is masked too."""
    return NUMBER.sub(lambda number: _stars(number[0]), text)


def _stars(number: str) -> str:
    """A number with stars for the digits that `masked` hides; its separators stay."""
    digits = sum(map(str.isdigit, number))
    first, last = (4, 2) if digits > 9 else (1, 0)
    seen = count(1)
    return "".join("*" if mark.isdigit() and first < next(seen) <= digits - last else mark for mark in number)


def _message(message_id: int) -> str:
    return f"message {message_id}"


def _place(scope: str, key: str) -> str:
    return f"{scope} {masked(key) if scope == 'recipient' else key}"
