"""A deployment runs the migration as a custom resource, and waits for its answer."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest
from moto import mock_aws

from local.postgres.server import Server
from local.stack import Stack
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


def test_the_text_of_an_unexpected_error_is_only_in_the_log(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL")
    monkeypatch.setenv("DATABASE_SECRET_ARN", "arn:aws:secretsmanager:eu-west-1:123456789012:secret:none-AbCdEf")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws(), listener() as cloudformation, pytest.raises(Exception, match="ResourceNotFoundException"):
        stack.invoke("migrate", request("Update", cloudformation))
    assert answer(cloudformation)["Reason"] == "GetParameterError, see the log /aws/lambda/migrate"


def test_the_removal_of_a_stack_keeps_the_messages(stack: Stack) -> None:
    with listener() as cloudformation:
        assert stack.invoke("migrate", request("Delete", cloudformation)) == {}
    assert answer(cloudformation)["Status"] == "SUCCESS"
    assert stack.db.execute("select to_regclass('sms_retry.sms_messages') is not null").fetchone() == (True,)


def test_a_migration_by_hand_sends_no_answer(stack: Stack) -> None:
    with listener() as cloudformation:
        stack.invoke("migrate")
    assert cloudformation.heard == []
