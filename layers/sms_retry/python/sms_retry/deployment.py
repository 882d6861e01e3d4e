"""CloudFormation's side of a deployment: what it asks of a custom resource, and the answer that it waits for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.request import Request, urlopen

# CloudFormation takes an answer of 4,096 bytes in all.
LONGEST_REASON = 1000


@contextmanager
def answered(event: Mapping[str, Any], log: str, explained: tuple[type[Exception], ...]) -> Iterator[None]:
    """Tells CloudFormation, where it asked, whether what is done within this succeeded; without an answer it waits.

    What fails is raised again. Its words are told only where it is one of `explained`, whose words hold no secret:
    anybody who sees the stack reads them. For all else there is the `log`.
    https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/crpg-ref-responses.html
    """
    try:
        yield
    except Exception as error:
        reason = str(error) if isinstance(error, explained) else f"{type(error).__name__}, see the log {log}"
        _answer(event, "FAILED", reason[:LONGEST_REASON])
        raise
    _answer(event, "SUCCESS")


def is_removal(event: Mapping[str, Any]) -> bool:
    """Whether the resource goes, with its stack or because the deployment that brought it failed."""
    return event.get("RequestType") == "Delete"


def _answer(event: Mapping[str, Any], status: str, reason: str = "") -> None:
    if "ResponseURL" not in event:
        return
    asked = {name: event[name] for name in ("StackId", "RequestId", "LogicalResourceId")}
    # Another id than before would be a replacement, and the former one be removed.
    answer = {**asked, "PhysicalResourceId": "sms_retry", "Status": status, "Reason": reason}
    # The URL is signed for an empty content type.
    request = Request(event["ResponseURL"], json.dumps(answer).encode(), {"Content-Type": ""}, method="PUT")  # noqa: S310
    with urlopen(request, timeout=10):  # noqa: S310
        pass
