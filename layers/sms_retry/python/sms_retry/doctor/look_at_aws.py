"""Gathers the facts of a stack, through the APIs of AWS and by one unsigned POST to each address of the webhook."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import boto3

from sms_retry.doctor.aws import Function, Schedule, Stack
from sms_retry.doctor.finding import seen

ALIAS = "live"
# The parts of a function that each of its versions keeps, as they were when it was published.
CONTENT = ("CodeSha256", "Environment", "Layers", "Handler", "Runtime", "Timeout", "MemorySize")
TIMEOUT = 10.0
RECENTLY = timedelta(minutes=5)


def look(stack: str) -> tuple[Stack, dict[str, str], dict[str, str]]:
    """The facts, the variables that the functions have, and the variables of the API's stage."""
    cloudformation = boto3.client("cloudformation")
    described = cloudformation.describe_stacks(StackName=stack)["Stacks"][0]
    parameters = {each["ParameterKey"]: each["ParameterValue"] for each in described.get("Parameters", ())}
    outputs = {each["OutputKey"]: each["OutputValue"] for each in described.get("Outputs", ())}
    pages = cloudformation.get_paginator("list_stack_resources").paginate(StackName=stack)
    resources = list(pages.search("StackResourceSummaries[]"))
    named = {each["LogicalResourceId"]: each.get("PhysicalResourceId", "") for each in resources}
    of_kind = {each["LogicalResourceId"]: each["ResourceType"] for each in resources}
    functions = [name for name, kind in of_kind.items() if kind == "AWS::Lambda::Function"]
    schedules = [named[name] for name, kind in of_kind.items() if kind == "AWS::Scheduler::Schedule"]
    groups = [named[name] for name, kind in of_kind.items() if kind == "AWS::Logs::LogGroup"]
    own = ("CallbacksUrl", "WebhookUrl")
    addresses = list(filter(None, (*map(outputs.get, own), parameters.get("PublicWebhookUrl"))))
    found = Stack(
        status=described["StackStatus"],
        settings=parameters.get("Settings", ""),
        workers=int(parameters.get("MaxWorkers") or 4),
        functions=seen(lambda: tuple(function(name, named[name]) for name in functions)),
        schedules=seen(lambda: tuple(map(schedule, schedules))),
        ticks=seen(lambda: _ticks(named["ProcessRetriesFunction"])),
        subscribers=seen(lambda: subscribers(outputs["AlarmsArn"])),
        answers={address: seen(partial(_answer, f"{address}/twilio/status")) for address in addresses},
        kept_for_ever=seen(lambda: tuple(filter(is_kept_for_ever, groups))),
        concurrency=seen(_concurrency),
    )
    deployed = {**_variables(named["TwilioWebhookFunction"]), **_variables(named["ProcessRetriesFunction"])}
    return found, deployed, {"PUBLIC_WEBHOOK_URL": outputs.get("CallbacksUrl", "")}


def function(name: str, physical: str) -> Function:
    """A function by its names in the template and in Lambda."""
    client = boto3.client("lambda")
    alias = client.get_alias(FunctionName=physical, Name=ALIAS)
    live = client.get_function_configuration(FunctionName=physical, Qualifier=alias["FunctionVersion"])
    latest = client.get_function_configuration(FunctionName=physical)
    pages = client.get_paginator("list_versions_by_function").paginate(FunctionName=physical)
    versions = [int(each) for each in pages.search("Versions[].Version") if each.isdigit()]
    return Function(
        name=name.removesuffix("Function"),
        version=alias["FunctionVersion"],
        newest=str(max(versions, default="none")),
        is_same=_content(live) == _content(latest),
        is_shifting=bool((alias.get("RoutingConfig") or {}).get("AdditionalVersionWeights")),
        settings=live.get("Environment", {}).get("Variables", {}).get("SETTINGS", ""),
        reserved=client.get_function_concurrency(FunctionName=physical).get("ReservedConcurrentExecutions"),
    )


def schedule(name: str) -> Schedule:
    found = boto3.client("scheduler").get_schedule(Name=name)
    return Schedule(name, found["State"], found["Target"]["Arn"])


def _content(configuration: Any) -> list[Any]:
    layers = [each["Arn"] for each in configuration.get("Layers") or ()]
    return [layers if name == "Layers" else configuration.get(name) for name in CONTENT]


def _ticks(physical: str) -> int:
    now = datetime.now(UTC)
    found = boto3.client("cloudwatch").get_metric_statistics(
        Namespace="AWS/Lambda",
        MetricName="Invocations",
        Dimensions=[{"Name": "FunctionName", "Value": physical}],
        StartTime=now - RECENTLY,
        EndTime=now,
        Period=60,
        Statistics=["Sum"],
    )
    return int(sum(point["Sum"] for point in found["Datapoints"]))


def subscribers(topic: str) -> tuple[str, ...]:
    pages = boto3.client("sns").get_paginator("list_subscriptions_by_topic").paginate(TopicArn=topic)
    return tuple(each["SubscriptionArn"] for each in pages.search("Subscriptions[]"))


def _answer(url: str) -> int:
    # The address is an output or a parameter of the stack.
    request = Request(url, b"", {"Content-Type": "application/x-www-form-urlencoded"}, method="POST")  # noqa: S310
    try:
        with urlopen(request, timeout=TIMEOUT) as answer:  # noqa: S310
            return int(answer.status)
    except HTTPError as refused:
        return refused.code


def is_kept_for_ever(group: str) -> bool:
    found = boto3.client("logs").describe_log_groups(logGroupNamePrefix=group)["logGroups"]
    return any(each["logGroupName"] == group and not each.get("retentionInDays") for each in found)


def _concurrency() -> int:
    return int(boto3.client("lambda").get_account_settings()["AccountLimit"]["UnreservedConcurrentExecutions"])


def _variables(physical: str) -> dict[str, str]:
    found = boto3.client("lambda").get_function_configuration(FunctionName=physical, Qualifier=ALIAS)
    return dict(found.get("Environment", {}).get("Variables", {}))
