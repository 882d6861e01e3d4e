"""Queues many messages at once: the valid ones are stored, and each invalid one has its fault."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

from sms_retry import entry, intake
from sms_retry.intake import InvalidEvent, Refusal
from sms_retry.store import Store
from sms_retry.values import Message


def queue(store: Store, event: Mapping[str, Any], request_id: str, now: datetime) -> dict[str, Any]:
    """Queue the messages of a `send_sms` event; `message_ids` are in their order.

    Lambda repeats an invocation with the same `request_id`: a message without a key gets one of it and its place.
    """
    batch, valid, refused = intake.read_many(event)
    overrides = store.all_overrides()
    ready: dict[int, Message] = {}
    for place, message in valid.items():
        keyed = replace(message, message_key=message.message_key or f"{request_id}-{place}")
        try:
            entry.check_hours(store, keyed, overrides, now)
            ready[place] = keyed
        except InvalidEvent as fault:
            refused.append(Refusal(place, str(fault).removeprefix(intake.NOTHING_STORED)))
    places, ids = list(ready), []
    if ready:
        for queued in store.queue_many(json.dumps([_fields(message) for message in ready.values()]), batch):
            if queued.fault is not None:
                refused.append(Refusal(places[queued.place - 1], queued.fault))
            else:
                ids.append(queued.message_id)
    listed = [asdict(refusal) for refusal in sorted(refused, key=lambda refusal: refusal.place)]
    return {"batch": batch, "queued": len(ids), "message_ids": ids, "refused": listed}


def _fields(message: Message) -> dict[str, Any]:
    """A message as SQL's queue_sms_retries reads it."""
    given = {name: value for name, value in asdict(message).items() if value is not None}
    given["to"] = given.pop("to_number")
    for name in ("scheduled_for", "expires_at"):
        if name in given:
            given[name] = given[name].isoformat()
    if message.content_variables is not None:
        given["content_variables"] = json.loads(message.content_variables)
    return given
