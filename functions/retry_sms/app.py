"""Invoked by a person or a program: sends one message now."""

from __future__ import annotations

from typing import Any

from sms_retry import intake, metrics, operate, response, runtime, worker


@runtime.invocation
def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    message_id, force = intake.read_message_id(event)
    with runtime.sender() as send:
        store = runtime.store()
        if operate.retry(store, "retry_sms", message_id, force) and (claim := store.claim_now(message_id)):
            left, only_to = runtime.seconds_left(context), runtime.only_to()
            metrics.send(worker.send_claimed(store, send, claim, left, only_to=only_to))
    return response.state(store, message_id)
