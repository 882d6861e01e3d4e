"""The Twilio secret: read at the first use, kept for a while, and read again when it may have been rotated."""

from __future__ import annotations

import json
from collections.abc import Iterator
from urllib.parse import urlencode

import boto3
import pytest
from moto import mock_aws

from local.aws.triggers import Handler, http_api_event, load
from local.stack import ENVIRONMENT, Stack
from local.twilio.callbacks import signature
from tests.e2e.messages import message, number, queue, statuses

RIGHT = {"account_sid": ENVIRONMENT["TWILIO_ACCOUNT_SID"], "auth_token": ENVIRONMENT["TWILIO_AUTH_TOKEN"]}
WRONG = {**RIGHT, "auth_token": "revoked"}


@pytest.fixture
def secret(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The ARN of the Twilio secret in moto's Secrets Manager, which replaces no code of this project."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    with mock_aws():
        arn = boto3.client("secretsmanager").create_secret(Name="twilio", SecretString=json.dumps(RIGHT))["ARN"]
        monkeypatch.setenv("TWILIO_SECRET_ARN", arn)
        for name in ("TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN"):
            monkeypatch.setenv(name, "")
        yield arn


@pytest.fixture
def worker(secret: str) -> Iterator[Handler]:
    """A new container, which reads the secret at its first invocation."""
    worker = load("process_retries")
    yield worker
    worker.close()


def rotate(arn: str, to: dict[str, str]) -> None:
    boto3.client("secretsmanager").put_secret_value(SecretId=arn, SecretString=json.dumps(to))


def test_credentials_come_from_the_secret(stack: Stack, worker: Handler) -> None:
    queue(stack)
    assert worker({})["success"] == 1


def test_a_rotated_token_sets_no_hold(stack: Stack, secret: str, worker: Handler) -> None:
    rotate(secret, WRONG)
    worker({})  # without a due message: the container reads the secret, and keeps it for five minutes
    rotate(secret, RIGHT)
    for n in range(5):
        queue(stack, n)

    assert worker({})["success"] == 5
    assert stack.db.execute("select count(*) from sms_retry.sms_holds").fetchone() == (0,)


def test_wrong_credentials_set_a_hold_on_the_account(stack: Stack, secret: str, worker: Handler) -> None:
    rotate(secret, WRONG)
    queue(stack)

    assert worker({})["rescheduled"] == 1
    assert len(stack.twilio.posts()) == 1  # the secret that was read again had the same credentials
    assert stack.db.execute("select scope, reason from sms_retry.sms_holds").fetchone() == ("account", "error_20003")
    assert statuses(stack) == {"queued": 1}


def test_a_missing_secret_is_reported_before_a_message_is_claimed(
    stack: Stack, worker: Handler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWILIO_SECRET_ARN", "arn:aws:secretsmanager:eu-west-1:123456789012:secret:none-AbCdEf")
    queue(stack)
    with pytest.raises(Exception, match="ResourceNotFoundException"):
        worker({})
    assert stack.db.execute("select attempt from sms_retry.sms_retry_queue").fetchone() == (0,)


def test_send_sms_reads_the_same_secret(stack: Stack, secret: str) -> None:
    sender = load("send_sms")
    assert sender(message())["status"] == "sent"
    sender.close()


def test_a_callback_signed_with_a_rotated_token_is_accepted(stack: Stack, secret: str) -> None:
    webhook = load("twilio_webhook")
    form = {"MessageSid": "SM1", "MessageStatus": "sent", "To": number(0)}

    def answer(token: str) -> int:
        signed = signature(token, f"{ENVIRONMENT['PUBLIC_WEBHOOK_URL']}/twilio/status", form)
        headers = {"content-type": "application/x-www-form-urlencoded", "x-twilio-signature": signed}
        event = http_api_event("POST", "/twilio/status", "", headers, urlencode(form).encode())
        status: int = webhook(event)["statusCode"]
        return status

    assert answer(RIGHT["auth_token"]) == 204
    rotate(secret, {**RIGHT, "auth_token": "rotated"})
    assert answer("rotated") == 204
    # A second early read within a minute is not made: forged callbacks must not cause one read each.
    rotate(secret, {**RIGHT, "auth_token": "rotated at once"})
    assert answer("rotated at once") == 403
    webhook.close()
