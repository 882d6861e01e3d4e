"""POST /twilio/status and POST /twilio/inbound: records delivery receipts and replies from Twilio."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sms_retry import callback, delivery, metrics, runtime
from sms_retry.callback import Forged, NotACallback, Unsigned
from sms_retry.values import Receipt, Reply

# Twilio repeats a failed callback, and this function may run for 10 seconds.
PATIENCE = timedelta(seconds=4)
NO_ANSWER = {"statusCode": 200, "headers": {"content-type": "text/xml"}, "body": "<Response/>"}


@runtime.invocation
def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    found = callback.read(event, *runtime.signers(event))
    if isinstance(found, Forged) and (newer := runtime.newer_signers(event)):
        found = callback.read(event, *newer)
    match found:
        case Unsigned():
            metrics.count("UnsignedCallbacks")
            return {"statusCode": 403}
        case Forged():
            metrics.count("ForgedCallbacks")
            return {"statusCode": 403}
        case NotACallback(why=why):
            runtime.logger.warning("not a callback", extra={"why": why})
            return {"statusCode": 400}
        case Receipt() as receipt:
            found_by = (runtime.code_of, runtime.default_sender())
            metrics.receipt(delivery.record(runtime.store(PATIENCE), receipt, runtime.now(), *found_by))
            return {"statusCode": 204}
        case Reply() as reply:
            if not delivery.apply_reply(runtime.store(PATIENCE), reply):
                metrics.count("OtherReplies")
            return NO_ANSWER
