"""Invoked by an application: takes a message in and sends it, unless the application has tried that itself."""

from __future__ import annotations

from typing import Any

from sms_retry import first_send, intake, metrics, runtime, worker


@runtime.invocation
def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    message, done = intake.read(event)
    match done:
        case intake.Failed() as failed:
            return runtime.state(first_send.take_failed(runtime.store(), message, failed, runtime.now()))
        case intake.Sent(provider_sid=sid):
            return runtime.state(runtime.store().log_sent(message, sid))
    with runtime.sender() as send:
        store = runtime.store()
        message_id, claim = store.queue_and_claim(message)
        if claim:
            metrics.send(worker.send_claimed(store, send, claim, runtime.seconds_left(context)))
    return runtime.state(message_id)
