"""Invoked by an application: stores a message and sends it, unless the application has sent it itself."""

from __future__ import annotations

from typing import Any

from sms_retry import entry, first_send, intake, metrics, response, runtime, worker


@runtime.invocation
def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    message, done = intake.read(event)
    match done:
        case intake.Failed() as failed:
            message_id = first_send.take_failed(runtime.store(), message, failed, runtime.now())
        case intake.Sent(provider_sid=sid):
            message_id = runtime.store().log_sent(message, sid)
        case None:
            overrides = runtime.store().all_overrides()
            entry.check_hours(runtime.store(), message, overrides, runtime.now())
            with runtime.sender() as send:
                message_id, claim = runtime.store().queue_and_claim(message)
                if claim:
                    left = runtime.seconds_left(context)
                    metrics.send(worker.send_claimed(runtime.store(), send, claim, left, overrides))
    return response.state(runtime.store(), message_id)
