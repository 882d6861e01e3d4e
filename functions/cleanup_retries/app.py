"""Daily: erases the texts and removes the rows of what ended long ago, in batches, while there is time."""

from __future__ import annotations

from typing import Any

from sms_retry import runtime

ONE_BATCH = 10.0


@runtime.invocation
def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    days, store, seconds_left = runtime.erase_body_after(), runtime.store(), runtime.seconds_left(context)
    erased = removed = 0
    while days and seconds_left() > ONE_BATCH and (batch := store.erase_bodies(days)):
        erased += batch
    while seconds_left() > ONE_BATCH and (batch := store.cleanup(only_erased=bool(days))):
        removed += batch
    return {"removed": removed, "erased": erased}
