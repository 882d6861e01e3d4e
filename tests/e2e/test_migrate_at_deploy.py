"""A deployment asks for the migration as for a resource, and waits for its answer."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest
from moto import mock_aws

from local.postgres.server import Server
from local.stack import Stack
from tests.e2e.listener import Listener, listener


def asked(kind: str, by: Listener) -> dict[str, Any]:
    """What CloudFormation sends to the function behind a custom resource."""
    return {
        "RequestType": kind,
        "ResponseURL": f"{by.url}/answer?signature=1",
        "StackId": "arn:aws:cloudformation:eu-west-1:123456789012:stack/sms-retry/1",
        "RequestId": "r-1",
        "LogicalResourceId": "Migration",
        "ResourceType": "Custom::Migration",
        "ResourceProperties": {"Release": "1"},
    }


def answer(to: Listener) -> dict[str, Any]:
    (heard,) = to.heard
    assert (heard.method, heard.path, heard.headers["Content-Type"]) == ("PUT", "/answer?signature=1", "")
    told: dict[str, Any] = json.loads(heard.body)
    assert (told["RequestId"], told["LogicalResourceId"], told["PhysicalResourceId"]) == (
        "r-1",
        "Migration",
        "sms_retry",
    )
    return told


@pytest.fixture
def empty(server: Server, stack: Stack, monkeypatch: pytest.MonkeyPatch, worker_id: str) -> str:
    """The database of a first deployment."""
    url = server.create_database(f"sms_retry_first_{worker_id}")
    monkeypatch.setenv("DATABASE_URL", url)
    return url


def test_a_first_deployment_finds_its_tables(stack: Stack, empty: str) -> None:
    with listener() as cloudformation:
        assert stack.invoke("migrate", asked("Create", cloudformation))["migrations"] > 0
    assert answer(cloudformation)["Status"] == "SUCCESS"
    with psycopg.connect(empty) as database:
        assert database.execute("select * from sms_retry.claim_due_sms_retries(1)").fetchall() == []
    with psycopg.connect(stack.database_url, autocommit=True) as database:
        database.execute(f"drop database {psycopg.conninfo.conninfo_to_dict(empty)['dbname']} with (force)")


def test_a_deployment_that_cannot_reach_its_database_fails_and_says_why(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://app:s3cret@127.0.0.1:1/app")
    with listener() as cloudformation, pytest.raises(psycopg.OperationalError):
        stack.invoke("migrate", asked("Update", cloudformation))
    told = answer(cloudformation)
    assert told["Status"] == "FAILED"
    assert "port 1 failed" in told["Reason"]
    assert "s3cret" not in told["Reason"]


def test_a_url_that_cannot_be_read_is_not_repeated(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://app:s3cret%zz@127.0.0.1/app")
    with listener() as cloudformation, pytest.raises(Exception, match="DATABASE_URL cannot be read"):
        stack.invoke("migrate", asked("Update", cloudformation))
    told = answer(cloudformation)
    assert (told["Status"], "s3cret" in told["Reason"]) == ("FAILED", False)


def test_what_was_not_expected_is_left_to_the_log(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL")
    monkeypatch.setenv("DATABASE_SECRET_ARN", "arn:aws:secretsmanager:eu-west-1:123456789012:secret:none-AbCdEf")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws(), listener() as cloudformation, pytest.raises(Exception, match="ResourceNotFoundException"):
        stack.invoke("migrate", asked("Update", cloudformation))
    assert answer(cloudformation)["Reason"] == "GetParameterError, see the log /aws/lambda/migrate"


def test_a_stack_that_goes_leaves_the_messages(stack: Stack) -> None:
    with listener() as cloudformation:
        assert stack.invoke("migrate", asked("Delete", cloudformation)) == {}
    assert answer(cloudformation)["Status"] == "SUCCESS"
    assert stack.db.execute("select to_regclass('sms_retry.sms_messages') is not null").fetchone() == (True,)


def test_by_hand_nobody_is_answered(stack: Stack) -> None:
    with listener() as cloudformation:
        stack.invoke("migrate")
    assert cloudformation.heard == []
