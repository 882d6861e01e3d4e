"""The response of send_sms and retry_sms: the state of one message."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from sms_retry.store import Store


def state(store: Store, message_id: int) -> dict[str, Any]:
    """`next_attempt_at` is in ISO 8601. LookupError: no message has this id."""
    found = store.state(message_id)
    if found is None:
        raise LookupError(f"message_id {message_id}: no message has this id")
    next_attempt_at = found.next_attempt_at and found.next_attempt_at.isoformat()
    return {**asdict(found), "next_attempt_at": next_attempt_at}
