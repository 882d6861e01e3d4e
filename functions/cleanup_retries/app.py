"""Daily: removes what ended more than a week ago, in batches, while there is time."""

from __future__ import annotations

from typing import Any

from sms_retry import runtime

ONE_BATCH = 10.0


@runtime.invocation
def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    seconds_left = runtime.seconds_left(context)
    removed = 0
    while seconds_left() > ONE_BATCH and (batch := runtime.store().cleanup()):
        removed += batch
    return {"removed": removed}
