"""Every hour: erases the texts of ended messages, removes their queue rows, old messages and old events."""

from __future__ import annotations

import os
from typing import Any

from sms_retry import runtime, settings

# The time that one batch may take (seconds).
ONE_BATCH = 10.0


@runtime.invocation
def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    given = settings.cleaning_up(os.environ)
    days = given.erase_body_after
    store, seconds_left = runtime.store(), runtime.seconds_left(context)
    erased = removed = messages = 0
    while days is not None and seconds_left() > ONE_BATCH and (batch := store.erase_bodies(days)):
        erased += batch
    while seconds_left() > ONE_BATCH and (batch := store.cleanup(only_erased=days is not None)):
        removed += batch
    after: int | None = 0
    while given.keep_messages and after is not None and seconds_left() > ONE_BATCH:
        batch, after = store.remove_old(given.keep_messages, after)
        messages += batch
    while seconds_left() > ONE_BATCH and (batch := store.cleanup_events()):
        removed += batch
    return {"removed": removed, "erased": erased, "messages_removed": messages}
