"""The doctor's verdicts on a stack, and the facts of it in moto."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from dataclasses import replace

import boto3
import pytest
from moto import mock_aws

from sms_retry.doctor import look_at_aws
from sms_retry.doctor.aws import Function, Schedule, Stack, judge
from sms_retry.doctor.finding import Unseen

FUNCTION = Function("ProcessRetries", "3", "3", is_same=True, is_shifting=False, settings="hash")
SCHEDULE = Schedule("tick", "ENABLED", "arn:aws:lambda:eu-west-1:123456789012:function:process-retries:live")
STACK = Stack(
    status="UPDATE_COMPLETE",
    settings="hash",
    workers=4,
    functions=(FUNCTION,),
    schedules=(SCHEDULE,),
    ticks=5,
    subscribers=("arn:aws:sns:eu-west-1:123456789012:alarms:1",),
    answers={"https://sms.example.com": 403},
    kept_for_ever=(),
    concurrency=1000,
)


def levels(stack: Stack) -> dict[str, str]:
    return {finding.check: finding.level for finding in judge(stack) if finding.level != "ok"}


def test_a_stack_without_a_fault_has_no_finding() -> None:
    assert levels(STACK) == {}
    assert len(list(judge(STACK))) == 8


@pytest.mark.parametrize(
    ("changed", "check", "level"),
    [
        ({"status": "UPDATE_ROLLBACK_FAILED"}, "aws: stack", "wrong"),
        ({"functions": (replace(FUNCTION, version="2"),)}, "aws: alias of ProcessRetries", "wrong"),
        ({"functions": (replace(FUNCTION, is_same=False),)}, "aws: alias of ProcessRetries", "wrong"),
        ({"functions": (replace(FUNCTION, settings="old"),)}, "aws: alias of ProcessRetries", "wrong"),
        ({"functions": (replace(FUNCTION, is_shifting=True),)}, "aws: alias of ProcessRetries", "warning"),
        ({"functions": (replace(FUNCTION, reserved=0),)}, "aws: concurrency of ProcessRetries", "wrong"),
        ({"functions": Unseen("AWS refused GetAlias")}, "aws: functions", "warning"),
        ({"schedules": (replace(SCHEDULE, state="DISABLED"),)}, "aws: schedule tick", "wrong"),
        ({"schedules": (replace(SCHEDULE, target="arn:function:3"),)}, "aws: schedule tick", "wrong"),
        ({"ticks": 0}, "aws: ticks", "wrong"),
        ({"subscribers": ()}, "aws: alarms", "wrong"),
        ({"subscribers": ("PendingConfirmation",)}, "aws: alarms", "wrong"),
        ({"answers": {"https://sms.example.com": 204}}, "aws: webhook https://sms.example.com", "wrong"),
        (
            {"answers": {"https://sms.example.com": Unseen("URLError")}},
            "aws: webhook https://sms.example.com",
            "warning",
        ),
        ({"kept_for_ever": ("/aws/lambda/x",)}, "aws: logs", "warning"),
        ({"concurrency": 9}, "aws: concurrency", "warning"),
        ({"concurrency": 4}, "aws: concurrency", "wrong"),
    ],
)
def test_each_fault_of_a_stack_is_found(changed: dict[str, object], check: str, level: str) -> None:
    assert levels(replace(STACK, **changed)) == {check: level}


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    with mock_aws():
        yield


def code(text: str) -> bytes:
    archived = io.BytesIO()
    with zipfile.ZipFile(archived, "w") as archive:
        archive.writestr("app.py", text)
    return archived.getvalue()


def test_an_alias_that_does_not_follow_its_function_is_stale(aws: None) -> None:
    role = boto3.client("iam").create_role(RoleName="role", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    client = boto3.client("lambda")
    settings = {"Variables": {"SETTINGS": "hash"}}
    client.create_function(
        FunctionName="f",
        Role=role,
        Code={"ZipFile": code("1")},
        Publish=True,
        Runtime="python3.13",
        Handler="app.lambda_handler",
        Environment=settings,
    )
    client.create_alias(FunctionName="f", Name="live", FunctionVersion="1")
    assert look_at_aws.function("FFunction", "f") == Function("F", "1", "1", True, False, "hash")

    client.update_function_code(FunctionName="f", ZipFile=code("2"))
    assert not look_at_aws.function("FFunction", "f").is_same

    client.publish_version(FunctionName="f")
    stale = look_at_aws.function("FFunction", "f")
    assert (stale.version, stale.newest) == ("1", "2")


def test_a_schedule_that_is_disabled_is_found(aws: None) -> None:
    client, target = boto3.client("scheduler"), {"Arn": SCHEDULE.target, "RoleArn": "arn:aws:iam::1:role/r"}
    schedule = {"ScheduleExpression": "rate(1 minute)", "FlexibleTimeWindow": {"Mode": "OFF"}, "Target": target}
    client.create_schedule(Name="tick", **schedule)
    assert look_at_aws.schedule("tick") == SCHEDULE

    client.update_schedule(Name="tick", State="DISABLED", **schedule)
    assert look_at_aws.schedule("tick").state == "DISABLED"


def test_a_topic_without_a_subscriber_and_a_log_without_a_retention_are_found(aws: None) -> None:
    topic = boto3.client("sns").create_topic(Name="alarms")["TopicArn"]
    assert look_at_aws.subscribers(topic) == ()
    boto3.client("sns").subscribe(TopicArn=topic, Protocol="email", Endpoint="anna@example.com")
    assert len(look_at_aws.subscribers(topic)) == 1
    logs = boto3.client("logs")
    logs.create_log_group(logGroupName="/aws/lambda/x")
    assert look_at_aws.is_kept_for_ever("/aws/lambda/x")
    logs.put_retention_policy(logGroupName="/aws/lambda/x", retentionInDays=30)
    assert not look_at_aws.is_kept_for_ever("/aws/lambda/x")
