"""CloudFormation's side of a deployment: its request to a custom resource, and the answer that it waits for.

Nothing is imported here that a layer of another architecture cannot load, so that this failure is answered too.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.request import Request, urlopen

# CloudFormation takes an answer of 4,096 bytes in all.
LONGEST_REASON = 1000
HINTS = {
    "ResourceNotFoundException": "Is it in this region and in this account?",
    "AccessDeniedException": "If it is encrypted with a key of your own, name that key in SecretsKeyArn.",
}


@contextmanager
def answered(event: Mapping[str, Any], log: str) -> Iterator[None]:
    """Answers CloudFormation, where it asked, with success or with the reason of the failure.

    Every reader of the stack reads the reason, so it has the words of an exception only where they hold no secret.
    Every other exception is named, with the `log` that has its words. An exception is raised again.
    https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/crpg-ref-responses.html
    """
    try:
        yield
    except Exception as error:
        reason = explained(error) or f"{type(error).__name__}, see the log {log}"
        _answer(event, "FAILED", reason[:LONGEST_REASON])
        raise
    _answer(event, "SUCCESS")


def is_removal(event: Mapping[str, Any]) -> bool:
    """Whether the resource is removed, with its stack or because the deployment that brought it failed."""
    return event.get("RequestType") == "Delete"


def explained(error: BaseException) -> str | None:
    """The failure in words that hold no secret; None where its own words could hold one."""
    if isinstance(error, ImportError):
        return f"{error}: were the layers built for another architecture? Deploy with `make deploy`, which checks it."

    import psycopg
    from aws_lambda_powertools.utilities.parameters.exceptions import TransformParameterError
    from botocore.exceptions import BotoCoreError, ClientError

    from sms_retry import migrate, settings

    match next(_aws_errors(error, ClientError, BotoCoreError), error):
        case migrate.MigrationError() | psycopg.OperationalError() | settings.SettingsError():
            return str(error)
        case TransformParameterError():
            return f'{_secret()} is not JSON: it must be {{"host": ..., "port": ..., "username": ..., ...}}'
        case ClientError(response={"Error": {"Code": code}}, operation_name="GetSecretValue"):
            return f"{_secret()} cannot be read: {code}. {HINTS.get(code, '')}".rstrip()
        case ClientError(response={"Error": {"Code": code}}, operation_name=operation):
            return f"AWS refused {operation}: {code}"
        case BotoCoreError() as unreachable:
            return f"AWS cannot be reached ({type(unreachable).__name__}): in a VPC the functions need a NAT gateway"
    return None


def _secret() -> str:
    """An ARN is no secret."""
    if arn := os.environ.get("DATABASE_SECRET_ARN"):
        return f"the secret {arn} of DATABASE_SECRET_ARN"
    return "a secret of the stack's own database"


def _aws_errors(error: BaseException, *kinds: type[Exception]) -> Iterator[BaseException]:
    """The errors of these kinds in a chain of causes: Powertools raises another error while it handles one of AWS."""
    cause: BaseException | None = error
    while cause:
        if isinstance(cause, kinds):
            yield cause
        cause = cause.__cause__ or cause.__context__


def _answer(event: Mapping[str, Any], status: str, reason: str = "") -> None:
    if "ResponseURL" not in event:
        return
    asked = {name: event[name] for name in ("StackId", "RequestId", "LogicalResourceId")}
    # Another id than before would be a replacement, and CloudFormation would remove the former one.
    answer = {**asked, "PhysicalResourceId": "sms_retry", "Status": status, "Reason": reason}
    # The URL is signed for an empty content type.
    request = Request(event["ResponseURL"], json.dumps(answer).encode(), {"Content-Type": ""}, method="PUT")  # noqa: S310
    with urlopen(request, timeout=10):  # noqa: S310
        pass
