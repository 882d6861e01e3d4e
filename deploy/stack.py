"""The stack in CloudFormation: its state, the changes of a deployment, and the reasons of a failed one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from botocore.exceptions import ClientError

from deploy.section import Refused

# The statuses of a stack at the start of a deployment.
BEGUN = ("CREATE_IN_PROGRESS", "UPDATE_IN_PROGRESS")
# A stack that was never complete cannot be updated, only deleted.
NEVER_WHOLE = ("CREATE_FAILED", "ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "DELETE_FAILED")


def find(session: Any, name: str) -> dict[str, Any] | None:
    """The stack as CloudFormation describes it; None before its first deployment."""
    try:
        [stack] = session.client("cloudformation").describe_stacks(StackName=name)["Stacks"]
    except ClientError as error:
        if error.response["Error"]["Code"] == "ValidationError":
            return None
        raise
    return None if stack["StackStatus"] == "REVIEW_IN_PROGRESS" else dict(stack)


def can_be_deployed(stack: Mapping[str, Any] | None, name: str) -> None:
    """Raises Refused if CloudFormation cannot update the stack; the sentence has the command that helps."""
    status = stack["StackStatus"] if stack else ""
    if status in NEVER_WHOLE:
        raise Refused(f"The stack {name} is in {status}: its first deployment failed. {delete_first(name)}")
    if status == "UPDATE_ROLLBACK_FAILED":
        raise Refused(
            f"The stack {name} is in {status}. Remove the cause first, such as a database that does not answer:"
            f" `aws cloudformation continue-update-rollback --stack-name {name}`, then deploy again."
        )
    if status.endswith("_IN_PROGRESS"):
        raise Refused(f"The stack {name} is in {status}: wait until that deployment has ended.")


def delete_first(name: str) -> str:
    return (
        f"Delete the stack, which is empty, and deploy again: `.venv/bin/sam delete --stack-name {name} --no-prompts`."
    )


def changes(stack: Mapping[str, Any] | None, parameters: Mapping[str, str]) -> Iterator[tuple[str, str | None, str]]:
    """Name, old value and new value of each parameter that differs; the old one is None for a new parameter."""
    before = {each["ParameterKey"]: each["ParameterValue"] for each in stack.get("Parameters", ())} if stack else {}
    for name, value in parameters.items():
        if name != "Settings" and before.get(name) != value:
            yield name, before.get(name), value


def fixed(stack: Mapping[str, Any] | None, parameters: Mapping[str, str]) -> Iterator[str]:
    """The changes that CloudFormation cannot make, or only by deleting the database of the stack."""
    before = {name: old for name, old, _ in changes(stack, parameters) if old is not None}
    created = before.get("CreateDatabase", parameters["CreateDatabase"]) == "true"
    given = {each["ParameterKey"] for each in stack.get("Parameters", ())} if stack else set()
    if stack and parameters["CreateDatabase"] == "true" and created and "Settings" not in given:
        yield (
            "Release 0.1 created the database of this stack under another name, and this release would replace it by an"
            " empty one. Deploy another stack, and delete this one once no message waits."
        )
    if created and "CreateDatabase" in before:
        yield (
            "CreateDatabase=false would delete the database of the stack with all messages that wait, and leave a"
            " snapshot. Deploy another stack instead, and delete this one once no message waits."
        )
    for name in ("VpcId", "VpcSubnetIds"):
        if created and name in before:
            yield f"{name} cannot change while the stack has its own database: it must remain {before[name]}."


def reasons(session: Any, name: str) -> list[str]:
    """The resources whose own failure ended the last deployment, the first one first."""
    found: list[str] = []
    pages = session.client("cloudformation").get_paginator("describe_stack_events").paginate(StackName=name)
    for event in pages.search("StackEvents[]"):
        reason = event.get("ResourceStatusReason", "")
        if event["LogicalResourceId"] == name and event["ResourceStatus"] in BEGUN:
            break
        if event["ResourceStatus"].endswith("_FAILED") and "cancelled" not in reason:
            found.insert(0, f"{event['LogicalResourceId']}: {reason}")
    return found
