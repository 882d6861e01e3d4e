"""More workers for a large backlog: process_retries invokes itself, asynchronously, through Lambda's API."""

from __future__ import annotations

import json
import logging
from typing import Any

from sms_retry import metrics

logger = logging.getLogger("sms-retry")


def most_workers(event: dict[str, Any], max_workers: int) -> int:
    """The number of workers for this event, itself included; a worker that another worker called calls none."""
    return 1 if event.get("called") else max_workers


def call_workers(event: dict[str, Any], context: Any, more: int) -> None:
    """Call `more` workers. A failed call is counted, and the workers that run send those messages too."""
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    worker = {
        "FunctionName": context.invoked_function_arn,
        "InvocationType": "Event",
        "Payload": json.dumps({**event, "called": True}),
    }
    for _ in range(more):
        try:
            boto3.client("lambda").invoke(**worker)
            metrics.count("CalledWorkers")
        except (BotoCoreError, ClientError):
            metrics.count("UncalledWorkers")
            logger.exception("a worker could not be called")
