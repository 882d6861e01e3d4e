"""The secret of the database: it is read again after a rotation; a wrong password is reported with its remedy."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import boto3
import psycopg
import pytest
from moto import mock_aws
from moto.secretsmanager.models import SecretsManagerBackend

from local.aws.triggers import Handler, load
from local.postgres.cable import Cable
from local.postgres.server import postgres
from local.stack import Stack
from local.stack import stack as local_stack
from tests.e2e.messages import message, queue


@dataclass
class Secret:
    """A secret in moto's Secrets Manager, and the number of times it was read."""

    arn: str
    content: dict[str, str]
    reads: int = 0

    def rotate(self, password: str) -> None:
        self.content["password"] = password
        boto3.client("secretsmanager").put_secret_value(SecretId=self.arn, SecretString=json.dumps(self.content))


@pytest.fixture(scope="module")
def guarded() -> Iterator[Stack]:
    """A stack with a Postgres that asks the role `sms` for its password, and no other role."""
    programs = os.environ.get("POSTGRES_BIN")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.delenv("LOCAL_DATABASE_URL", raising=False)
        with postgres(Path(programs) if programs else None, durable=False) as server:
            with psycopg.connect(server.url, autocommit=True) as db:
                db.execute("create role sms superuser login")
                rules = Path(db.execute("show hba_file").fetchone()[0])  # type: ignore[index]
            rules.write_text("host all sms all scram-sha-256\n" + rules.read_text())
            server.restart("fast")
            with local_stack(server.url) as stack:
                yield stack


@pytest.fixture
def cable(guarded: Stack) -> Iterator[Cable]:
    with closing(Cable(guarded.database_url, tls=True)) as cable:
        yield cable


@pytest.fixture
def secret(guarded: Stack, cable: Cable, monkeypatch: pytest.MonkeyPatch) -> Iterator[Secret]:
    """The correct secret of a database behind TLS, which a secret requires."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    where = urlsplit(cable.url)
    content = {"host": "127.0.0.1", "port": str(where.port), "username": "sms", "dbname": where.path[1:]}
    with mock_aws():
        secret = Secret(boto3.client("secretsmanager").create_secret(Name="database")["ARN"], content)
        monkeypatch.setenv("DATABASE_SECRET_ARN", secret.arn)
        monkeypatch.setenv("DATABASE_URL", "")
        change_password(guarded, "first-one")
        secret.rotate("first-one")

        def get_secret_value(backend: SecretsManagerBackend, *given: object, **named: object) -> object:
            secret.reads += 1
            return read(backend, *given, **named)

        read = SecretsManagerBackend.get_secret_value
        monkeypatch.setattr(SecretsManagerBackend, "get_secret_value", get_secret_value)
        yield secret


@pytest.fixture
def worker(secret: Secret) -> Iterator[Handler]:
    """A warm container."""
    with closing(load("process_retries")) as worker:
        worker({})
        yield worker


@pytest.fixture
def sender(secret: Secret) -> Iterator[Handler]:
    """A new container; it does not wait while the database is away."""
    with closing(load("send_sms")) as sender:
        yield sender


def change_password(stack: Stack, password: str) -> None:
    """Change the password and end all connections, as a rotation does."""
    stack.db.execute(f"alter role sms password '{password}'")
    stack.db.execute("select pg_terminate_backend(pid, 5000) from pg_stat_activity where usename = 'sms'")


def test_a_warm_container_reads_a_rotated_password_again(guarded: Stack, secret: Secret, worker: Handler) -> None:
    change_password(guarded, "second-one")
    secret.rotate("second-one")
    queue(guarded)

    assert worker({})["success"] == 1
    assert secret.reads == 2


def test_the_error_for_a_wrong_password_names_the_remedy_and_quotes_no_password(
    guarded: Stack, secret: Secret, sender: Handler
) -> None:
    change_password(guarded, "second-one")
    with pytest.raises(psycopg.OperationalError, match="correct it in the secret of DATABASE_SECRET_ARN") as raised:
        sender(message())

    assert "first-one" not in str(raised.value) + repr(raised.value.__cause__)
    assert secret.reads == 2


def test_a_wrong_password_is_read_again_at_most_once_a_minute(guarded: Stack, secret: Secret, sender: Handler) -> None:
    change_password(guarded, "second-one")
    for _ in range(3):
        with pytest.raises(psycopg.OperationalError):
            sender(message())

    assert secret.reads == 2


def test_an_outage_does_not_read_the_secret_again(cable: Cable, secret: Secret, sender: Handler) -> None:
    cable.pull_out()
    with pytest.raises(psycopg.OperationalError):
        sender(message())

    assert secret.reads == 1
