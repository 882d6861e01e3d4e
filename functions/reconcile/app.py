"""Every 5 minutes: asks Twilio about unknown messages, and about sent messages without a receipt."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import Any

from sms_retry import delivery, metrics, reconcile, runtime


@runtime.invocation
def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    with runtime.asking() as (sent_to, look_up):
        record = partial(delivery.record, runtime.store(), now=runtime.now(), sender=runtime.default_sender())
        findings = reconcile.reconcile(runtime.store(), sent_to, look_up, record, runtime.seconds_left(context))
    metrics.count("DistrustedLists", findings.distrusted)
    return asdict(findings)
