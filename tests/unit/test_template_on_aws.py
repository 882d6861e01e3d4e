"""The resources of the template, created in moto: it refuses names, shapes and references that AWS refuses."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws

from sms_retry import health, metrics, scale_out
from sms_retry.delivery import Recorded
from sms_retry.worker import Tally
from tests.unit.test_template import PARAMETERS, Resource, expand, of_type

REGION, ACCOUNT, STACK = "eu-west-1", "123456789012", "sms-retry"
PSEUDO = {"AWS::Region": REGION, "AWS::AccountId": ACCOUNT, "AWS::StackName": STACK, "AWS::Partition": "aws"}
ARN = {
    "AWS::Lambda::Function": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:",
    "AWS::Lambda::Alias": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:",
    "AWS::SNS::Topic": f"arn:aws:sns:{REGION}:{ACCOUNT}:",
    "AWS::SQS::Queue": f"arn:aws:sqs:{REGION}:{ACCOUNT}:",
    "AWS::IAM::Role": f"arn:aws:iam::{ACCOUNT}:role/",
    "AWS::CloudWatch::Alarm": f"arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:",
}


@pytest.fixture(scope="module")
def template() -> dict[str, Any]:
    return expand()


@pytest.fixture
def _aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    with mock_aws(config={"lambda": {"use_docker": False}}):
        yield


def resolved(value: Any, template: dict[str, Any]) -> Any:
    """A property as CloudFormation resolves it; the name of a resource is its logical id."""
    match value:
        case {"Ref": name}:
            return _ref(name, template)
        case {"Fn::If": ["HasConsole" | "PublishesEvents" | "HasFunctionUrl", with_it, _]}:
            return resolved(with_it, template)
        case {"Fn::GetAtt": [name, "Arn"]} if template["Resources"][name]["Type"] in ARN:
            return f"{ARN[template['Resources'][name]['Type']]}{name}"
        case {"Fn::GetAtt": [name, _]}:
            return name
        case {"Fn::Sub": str(text)}:
            names = r"\$\{([\w:]+)(\.Arn)?\}"
            return re.sub(names, lambda m: resolved(_named(m[1], bool(m[2])), template), text)
        case dict():
            return {name: resolved(each, template) for name, each in value.items()}
        case list():
            return [resolved(each, template) for each in value]
        case _:
            return value


def _named(name: str, arn: bool) -> dict[str, Any]:
    return {"Fn::GetAtt": [name, "Arn"]} if arn else {"Ref": name}


def _ref(name: str, template: dict[str, Any]) -> str:
    if name in PSEUDO:
        return PSEUDO[name]
    if name in template["Parameters"]:
        return str(PARAMETERS.get(name, template["Parameters"][name].get("Default")))
    kind = template["Resources"][name]["Type"]
    if kind == "AWS::Lambda::Alias":
        return f"{ARN[kind]}{name.removesuffix('Aliaslive')}:live"
    return f"{ARN[kind]}{name}" if kind == "AWS::SNS::Topic" else name


def alarms(template: dict[str, Any]) -> dict[str, Resource]:
    """Those that page; the alarms of a deployment are for CodeDeploy alone."""
    every = of_type(template, "AWS::CloudWatch::Alarm")
    return {name: alarm for name, alarm in every.items() if not name.endswith("Deployment")}


def metrics_of(alarm: Resource) -> list[Resource]:
    """The metrics of an alarm, including those of optional resources."""
    if "Metrics" not in alarm:
        return [alarm]
    chosen = [m["Fn::If"][1] if "Fn::If" in m else m for m in alarm["Metrics"]]
    return [m["MetricStat"]["Metric"] for m in chosen if "MetricStat" in m]


def test_every_alarm_notifies_the_topic_and_declares_how_to_treat_missing_data(template: dict[str, Any]) -> None:
    assert len(of_type(template, "AWS::SNS::Topic")) == 1
    silent = of_type(template, "AWS::CloudWatch::Alarm").keys() - alarms(template).keys()
    assert {name.removesuffix("Deployment") for name in silent} == {"ProcessRetries", "SendSms", "TwilioWebhook"}
    for name, alarm in alarms(template).items():
        assert alarm["AlarmActions"] == alarm["OKActions"] == [{"Ref": "Alarms"}], name
        assert alarm["TreatMissingData"] == ("breaching" if name == "NoTick" else "notBreaching"), name
        assert len(alarm["AlarmDescription"]) > 20, name


@pytest.mark.usefixtures("_aws")
def test_cloudwatch_accepts_every_alarm(template: dict[str, Any]) -> None:
    boto3.client("sns").create_topic(Name="Alarms")
    cloudwatch = boto3.client("cloudwatch")
    every = of_type(template, "AWS::CloudWatch::Alarm")
    for name, alarm in every.items():
        cloudwatch.put_metric_alarm(AlarmName=name, **resolved(alarm, template))

    kept = {alarm["AlarmName"]: alarm for alarm in cloudwatch.describe_alarms()["MetricAlarms"]}
    assert kept.keys() == every.keys()
    (topic,) = boto3.client("sns").list_topics()["Topics"]
    assert {action for alarm in kept.values() for action in alarm["AlarmActions"]} == {topic["TopicArn"]}


@pytest.mark.parametrize(
    ("rate", "in_alarm"),
    [(95, set()), (70, {"SuccessRateWarning"}), (50, {"SuccessRateWarning", "SuccessRateCritical"})],
)
def test_the_success_rate_has_a_warning_below_80_percent_and_is_critical_below_60(
    template: dict[str, Any], rate: float, in_alarm: set[str]
) -> None:
    assert {
        name for name in ("SuccessRateWarning", "SuccessRateCritical") if goes_off(alarms(template)[name], rate)
    } == in_alarm


@pytest.mark.parametrize(
    ("name", "quiet", "loud"),
    [
        ("Backlog", 100, 101),
        ("SlowTick", 300, 301),
        ("HeldUnknowns", 0, 1),
        ("StaleTickets", 0, 1),
        ("ForgedCallbacks", 9, 10),
        ("HoldsOpen", 0, 1),
        ("BudgetSpent", 0, 1),
        ("SlowDeliveries", 600, 601),
        ("FinalErrors", 30, 31),
        ("BrokenMessages", 0, 1),
        ("Throttles", 0, 1),
        ("FunctionErrors", 0, 1),
        ("WebhookErrors", 0, 1),
        ("DeadLettersWaiting", 0, 1),
        ("WebhookFailures", 0, 1),
        ("NoTick", 1, 0),
    ],
)
def test_an_alarm_goes_off_at_the_value_of_the_runbook(
    template: dict[str, Any], name: str, quiet: float, loud: float
) -> None:
    assert not goes_off(alarms(template)[name], quiet)
    assert goes_off(alarms(template)[name], loud)


def goes_off(alarm: Resource, value: float) -> bool:
    return {
        "GreaterThanThreshold": value > alarm["Threshold"],
        "GreaterThanOrEqualToThreshold": value >= alarm["Threshold"],
        "LessThanThreshold": value < alarm["Threshold"],
    }[alarm["ComparisonOperator"]]


def test_three_minutes_without_a_tick_raise_an_alarm(template: dict[str, Any]) -> None:
    alarm = alarms(template)["NoTick"]
    filled, ticks = alarm["Metrics"]
    # A minute without data counts as one without a tick: CloudWatch would look back for older data.
    # https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-missing-data.html
    assert filled["Expression"] == f"FILL({ticks['Id']}, 0)"
    assert ticks["MetricStat"]["Period"] * alarm["EvaluationPeriods"] == 180
    metric = resolved(ticks["MetricStat"]["Metric"], template)
    assert metric["Dimensions"] == [{"Name": "FunctionName", "Value": "ProcessRetriesFunction"}]


def test_no_alarm_has_more_metrics_than_cloudwatch_takes(template: dict[str, Any]) -> None:
    # https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricAlarm.html
    for name, alarm in alarms(template).items():
        assert len(metrics_of(alarm)) <= 10, name


def test_the_alarms_on_errors_and_throttles_cover_every_function(template: dict[str, Any]) -> None:
    functions = of_type(template, "AWS::Lambda::Function").keys()
    for metric, names in (("Errors", ("FunctionErrors", "WebhookErrors")), ("Throttles", ("Throttles",))):
        watched = [m for name in names for m in metrics_of(alarms(template)[name]) if m["MetricName"] == metric]
        assert {m["Dimensions"][0]["Value"]["Ref"] for m in watched} == functions


def test_the_alarms_use_the_namespace_and_the_dimension_of_our_metrics(
    template: dict[str, Any],
) -> None:
    # The service is POWERTOOLS_SERVICE_NAME, and so the stack's name.
    sent = {
        "Namespace": metrics.metrics.namespace,
        "Dimensions": [{"Name": "service", "Value": {"Ref": "AWS::StackName"}}],
    }
    for name, alarm in alarms(template).items():
        for metric in metrics_of(alarm):
            if not metric["Namespace"].startswith("AWS/"):
                assert {key: metric[key] for key in sent} == sent, name


def counted() -> set[str]:
    """The names of all metrics that the functions may send."""
    metrics.metrics.clear_metrics()
    metrics.tick(Tally(), {}, 0.0)
    for answer in ("settled", "noted", "repeated", "unheard_of"):
        metrics.receipt(Recorded(answer, hold_set=True, unlisted=True))
    names = set(metrics.metrics.metric_set) | health.GAUGES.keys() | health.PERCENTAGES.keys()
    metrics.metrics.clear_metrics()
    return names | {
        "ForgedCallbacks",
        "UnsignedCallbacks",
        "OtherReplies",
        "CalledWorkers",
        "UncalledWorkers",
        "DistrustedLists",
    }


def test_every_metric_of_an_alarm_or_the_dashboard_is_sent_by_a_function(template: dict[str, Any]) -> None:
    watched = {
        m["MetricName"]
        for alarm in alarms(template).values()
        for m in metrics_of(alarm)
        if m["Namespace"] == "SmsRetry"
    }
    body = resolved(of_type(template, "AWS::CloudWatch::Dashboard")["Dashboard"]["DashboardBody"], template)
    for widget in json.loads(body)["widgets"]:
        watched |= {metric[1] for metric in widget["properties"].get("metrics", []) if metric[0] == "SmsRetry"}
    assert watched <= counted()


@pytest.mark.usefixtures("_aws")
def test_the_dashboard_shows_every_alarm_and_has_no_unresolved_reference(template: dict[str, Any]) -> None:
    body = resolved(of_type(template, "AWS::CloudWatch::Dashboard")["Dashboard"]["DashboardBody"], template)
    boto3.client("cloudwatch").put_dashboard(DashboardName=STACK, DashboardBody=body)

    widgets = json.loads(boto3.client("cloudwatch").get_dashboard(DashboardName=STACK)["DashboardBody"])["widgets"]
    shown = {arn.rpartition(":")[2] for widget in widgets for arn in widget["properties"].get("alarms", [])}
    assert shown == alarms(template).keys()
    assert "${" not in body
    assert all(widget["x"] + widget["width"] <= 24 for widget in widgets)


@pytest.mark.usefixtures("_aws")
def test_scheduler_accepts_every_schedule(template: dict[str, Any]) -> None:
    scheduler = boto3.client("scheduler")
    for name, schedule in of_type(template, "AWS::Scheduler::Schedule").items():
        scheduler.create_schedule(Name=name, **resolved(schedule, template))
        kept = scheduler.get_schedule(Name=name)
        assert kept["Target"]["Arn"].endswith(":live")
        assert json.loads(kept["Target"]["Input"]) == {"scheduled_time": "<aws.scheduler.scheduled-time>"}


@pytest.mark.usefixtures("_aws")
def test_a_worker_is_called_through_the_alias_in_the_policy(template: dict[str, Any]) -> None:
    (policy,) = of_type(template, "AWS::IAM::Policy").values()
    (statement,) = policy["PolicyDocument"]["Statement"]
    alias = resolved(statement["Resource"], template)
    create_lambda(template, "ProcessRetriesFunction")

    class Context:
        invoked_function_arn = alias

    scale_out.call_workers({"scheduled_time": "2026-06-01T12:00:00Z"}, Context(), 2)

    sent = json.loads(json.dumps(metrics.metrics.metric_set))
    metrics.metrics.clear_metrics()
    assert sent.keys() == {"CalledWorkers"}
    assert statement["Action"] == "lambda:InvokeFunction"


def create_lambda(template: dict[str, Any], name: str) -> None:
    """Create the function and its alias `live` in moto."""
    role = boto3.client("iam").create_role(RoleName="role", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    code = io.BytesIO()
    with zipfile.ZipFile(code, "w") as archive:
        archive.writestr("app.py", "def lambda_handler(event, context): ...")
    properties = of_type(template, "AWS::Lambda::Function")[name]
    chosen = {key: properties[key] for key in ("Runtime", "Handler", "Timeout", "MemorySize")}
    functions = boto3.client("lambda")
    functions.create_function(FunctionName=name, Role=role, Code={"ZipFile": code.getvalue()}, Publish=True, **chosen)
    functions.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
