"""Daily: erases the texts of messages that ended, and removes their queue rows and old events, in batches."""

from __future__ import annotations

import os
from typing import Any

from sms_retry import runtime, settings

# The time that one batch may take (seconds).
ONE_BATCH = 10.0


@runtime.invocation
def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    days = settings.cleaning_up(os.environ).erase_body_after
    store, seconds_left = runtime.store(), runtime.seconds_left(context)
    erased = removed = 0
    while days and seconds_left() > ONE_BATCH and (batch := store.erase_bodies(days)):
        erased += batch
    while seconds_left() > ONE_BATCH and (batch := store.cleanup(only_erased=bool(days))):
        removed += batch
    while seconds_left() > ONE_BATCH and (batch := store.cleanup_events()):
        removed += batch
    return {"removed": removed, "erased": erased}
