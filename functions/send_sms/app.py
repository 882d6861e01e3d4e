"""Invoked by an application: stores a message and sends it, unless the application has sent it itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sms_retry import entry, first_send, intake, metrics, response, runtime, worker
from sms_retry.values import Message


@runtime.invocation
def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    message, done = intake.read(event)
    # Lambda's own repeat of an invocation has the same id: it is the same message.
    message = replace(message, message_key=message.message_key or context.aws_request_id)
    with intake.refusals():
        message_id = _take_in(message, done, context)
    return response.state(runtime.store(), message_id)


def _take_in(message: Message, done: intake.Failed | intake.Sent | None, context: Any) -> int:
    match done:
        case intake.Failed() as failed:
            return first_send.take_failed(runtime.store(), message, failed, runtime.now())
        case intake.Sent(provider_sid=sid):
            return runtime.store().log_sent(message, sid)
        case None:
            with runtime.sender() as send:
                store = runtime.store()
                overrides = store.all_overrides()
                entry.check_hours(store, message, overrides, runtime.now())
                message_id, claim = store.queue_and_claim(message)
                if claim:
                    left = runtime.seconds_left(context)
                    metrics.send(worker.send_claimed(store, send, claim, left, overrides, runtime.only_to()))
            return message_id
