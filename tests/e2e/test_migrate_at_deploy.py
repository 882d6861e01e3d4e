"""A deployment runs the migration as a custom resource, and waits for its answer."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import boto3
import psycopg
import pytest
from aws_lambda_powertools.utilities.parameters.exceptions import GetParameterError
from botocore.exceptions import ClientError, EndpointConnectionError
from moto import mock_aws

from local.aws.container import ROOT
from local.postgres.server import Server
from local.stack import Stack
from sms_retry import deployment
from tests.e2e.listener import Listener, listener


def request(request_type: str, answer_to: Listener) -> dict[str, Any]:
    """The event that CloudFormation sends to the function of a custom resource."""
    return {
        "RequestType": request_type,
        "ResponseURL": f"{answer_to.url}/answer?signature=1",
        "StackId": "arn:aws:cloudformation:eu-west-1:123456789012:stack/sms-retry/1",
        "RequestId": "r-1",
        "LogicalResourceId": "Migration",
        "ResourceType": "Custom::Migration",
        "ResourceProperties": {"Release": "1"},
    }


def answer(cloudformation: Listener) -> dict[str, Any]:
    (heard,) = cloudformation.heard
    assert (heard.method, heard.path, heard.headers["Content-Type"]) == ("PUT", "/answer?signature=1", "")
    body: dict[str, Any] = json.loads(heard.body)
    ids = (body["RequestId"], body["LogicalResourceId"], body["PhysicalResourceId"])
    assert ids == ("r-1", "Migration", "sms_retry")
    return body


@pytest.fixture
def empty(server: Server, stack: Stack, monkeypatch: pytest.MonkeyPatch, worker_id: str) -> str:
    """The database of a first deployment."""
    url = server.create_database(f"sms_retry_first_{worker_id}")
    monkeypatch.setenv("DATABASE_URL", url)
    monkeypatch.setenv("MIGRATION_URL", "")
    return url


def test_a_first_deployment_creates_the_tables(stack: Stack, empty: str) -> None:
    with listener() as cloudformation:
        assert stack.invoke("migrate", request("Create", cloudformation))["migrations"] > 0
    assert answer(cloudformation)["Status"] == "SUCCESS"
    with psycopg.connect(empty) as database:
        assert database.execute("select * from sms_retry.claim_due_sms_retries(1)").fetchall() == []
    with psycopg.connect(stack.database_url, autocommit=True) as database:
        database.execute(f"drop database {psycopg.conninfo.conninfo_to_dict(empty)['dbname']} with (force)")


def test_a_deployment_without_a_reachable_database_fails_with_the_reason(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://app:s3cret@127.0.0.1:1/app")
    with listener() as cloudformation, pytest.raises(psycopg.OperationalError):
        stack.invoke("migrate", request("Update", cloudformation))
    answered = answer(cloudformation)
    assert answered["Status"] == "FAILED"
    assert "port 1 failed" in answered["Reason"]
    assert "s3cret" not in answered["Reason"]


def test_an_unreadable_url_is_not_quoted(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://app:s3cret%zz@127.0.0.1/app")
    with listener() as cloudformation, pytest.raises(Exception, match="DATABASE_URL cannot be read"):
        stack.invoke("migrate", request("Update", cloudformation))
    answered = answer(cloudformation)
    assert (answered["Status"], "s3cret" in answered["Reason"]) == ("FAILED", False)


ARN = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:database-AbCdEf"


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Secrets Manager, which has no secret of DATABASE_SECRET_ARN."""
    monkeypatch.delenv("DATABASE_URL")
    monkeypatch.setenv("DATABASE_SECRET_ARN", ARN)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws():
        yield boto3.client("secretsmanager", region_name="eu-west-1")


def reason(stack: Stack) -> str:
    """The reason of a deployment that fails, as the stack's events have it."""
    with listener() as cloudformation, contextlib.suppress(Exception):
        stack.invoke("migrate", request("Update", cloudformation))
    answered = answer(cloudformation)
    assert answered["Status"] == "FAILED"
    return str(answered["Reason"])


def test_a_missing_secret_is_reported(stack: Stack, secrets: Any) -> None:
    assert reason(stack) == (
        f"the secret {ARN} of DATABASE_SECRET_ARN cannot be read: ResourceNotFoundException."
        " Is it in this region and in this account?"
    )


def test_a_secret_that_is_not_json_is_reported_without_its_content(
    stack: Stack, secrets: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = secrets.create_secret(Name="url", SecretString="postgresql://app:s3cret@db.example.com/app")
    monkeypatch.setenv("DATABASE_SECRET_ARN", kept["ARN"])
    answered = reason(stack)
    assert answered.startswith(f"the secret {kept['ARN']} of DATABASE_SECRET_ARN is not JSON: it must be")
    assert "s3cret" not in answered


def test_the_secret_that_rds_creates_is_refused_with_an_explanation(
    stack: Stack, secrets: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = secrets.create_secret(Name="rds!db-1", SecretString='{"username": "app", "password": "s3cret"}')
    monkeypatch.setenv("DATABASE_SECRET_ARN", kept["ARN"])
    answered = reason(stack)
    assert "has no host, port, dbname; the secret that RDS itself makes has only username and password" in answered
    assert "s3cret" not in answered


def refusal(code: str, operation: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "the words of AWS"}}, operation)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            refusal("AccessDeniedException", "GetSecretValue"),
            "cannot be read: AccessDeniedException. If it is encrypted",
        ),
        (refusal("ThrottlingException", "AssumeRole"), "AWS refused AssumeRole: ThrottlingException"),
        (
            EndpointConnectionError(endpoint_url="https://x"),
            "AWS cannot be reached (EndpointConnectionError): in a VPC",
        ),
        (ImportError("no pq wrapper available"), "no pq wrapper available: were the layers built for another"),
    ],
    ids=["not allowed", "another call", "no way out", "another architecture"],
)
def test_a_failure_at_aws_is_explained(error: Exception, words: str) -> None:
    assert words in str(deployment.explained(error))
    # Powertools raises its own exception while it handles that of AWS.
    raised = GetParameterError("the words of AWS")
    raised.__context__ = error
    assert isinstance(error, ImportError) or words in str(deployment.explained(raised))


def test_an_unexpected_failure_refers_to_the_log(stack: Stack, secrets: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = secrets.create_secret(Name="list", SecretString='["s3cret"]')
    monkeypatch.setenv("DATABASE_SECRET_ARN", kept["ARN"])
    assert reason(stack) == "ValueError, see the log /aws/lambda/migrate"


def test_cloudformation_gets_an_answer_if_layers_have_another_architecture(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = str(ROOT / "layers" / "sms_retry" / "python")
    program = "import sys; sys.modules['psycopg'] = None; import app; app.lambda_handler(EVENT, CONTEXT)"
    for kind, status in (("Create", "FAILED"), ("Delete", "SUCCESS")):
        with listener() as cloudformation:
            given = f"import types; EVENT = {request(kind, cloudformation)!r}; CONTEXT = types.SimpleNamespace("
            given += "log_group_name='log', function_name='migrate', aws_request_id='1')\n"
            environ = os.environ | {"PYTHONPATH": layer}
            folder = ROOT / "functions" / "migrate"
            ended = subprocess.run(
                [sys.executable, "-c", given + program], cwd=folder, env=environ, capture_output=True
            )
            answered = answer(cloudformation)
        assert (answered["Status"], ended.returncode) == (status, 1 if kind == "Create" else 0)
    assert answered["Reason"] == ""


def test_the_removal_of_a_stack_keeps_the_messages(stack: Stack) -> None:
    with listener() as cloudformation:
        assert stack.invoke("migrate", request("Delete", cloudformation)) == {}
    assert answer(cloudformation)["Status"] == "SUCCESS"
    assert stack.db.execute("select to_regclass('sms_retry.sms_messages') is not null").fetchone() == (True,)


def test_a_migration_by_hand_sends_no_answer(stack: Stack) -> None:
    with listener() as cloudformation:
        stack.invoke("migrate")
    assert cloudformation.heard == []
