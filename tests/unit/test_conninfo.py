"""The connection string of Postgres: a password, or an IAM token at RDS, and the certificates that are accepted."""

from __future__ import annotations

import ssl
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from psycopg.conninfo import conninfo_to_dict

from sms_retry import conninfo
from sms_retry.settings import SettingsError

PROXY = "sms.proxy-abc123.eu-west-1.rds.amazonaws.com"
SECRET = {"host": "db.example.com", "port": 6432, "username": "app", "password": "s3 cr'et", "dbname": "app"}


@pytest.fixture
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS credentials, as the role of a Lambda has them."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "example")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")


def read(given: str) -> dict[str, Any]:
    return conninfo_to_dict(given)


def test_a_url_is_used_unchanged() -> None:
    url = "postgresql://app:s3cret@127.0.0.1:5433/app"
    assert read(conninfo.from_url(url)) == read(url)


@pytest.mark.usefixtures("_credentials")
def test_a_url_of_rds_without_a_password_gets_an_iam_token() -> None:
    made = read(conninfo.from_url(f"postgresql://sms_retry@{PROXY}:5432/sms_retry"))

    token = urlsplit("https://" + made["password"])
    query = {name: values[0] for name, values in parse_qs(token.query).items()}
    assert token.netloc == f"{PROXY}:5432"
    assert (query["Action"], query["DBUser"], query["X-Amz-Expires"]) == ("connect", "sms_retry", "900")
    assert "/eu-west-1/rds-db/aws4_request" in query["X-Amz-Credential"]


def test_a_password_in_a_url_of_rds_is_used() -> None:
    assert read(conninfo.from_url(f"postgresql://app:s3cret@{PROXY}/app"))["password"] == "s3cret"


def test_a_secret_gives_host_user_password_and_database_over_tls() -> None:
    made = read(conninfo.from_secret(SECRET | {"engine": "postgres"}))
    assert made == {
        "host": "db.example.com",
        "port": "6432",
        "user": "app",
        "password": "s3 cr'et",
        "dbname": "app",
        "sslmode": "require",
    }


def test_the_missing_fields_of_a_secret_are_named() -> None:
    with pytest.raises(SettingsError, match="DATABASE_SECRET_ARN has no host, dbname") as raised:
        conninfo.from_secret({name: SECRET[name] for name in ("port", "username", "password")})
    assert SECRET["password"] not in str(raised.value)


def test_an_unreadable_url_is_not_quoted() -> None:
    with pytest.raises(SettingsError, match="must be postgresql://") as raised:
        conninfo.from_url("postgresql://app:s3cret%zz@127.0.0.1/app")
    assert "s3cret" not in str(raised.value)
    assert raised.value.__cause__ is None


def test_rds_is_verified_with_its_own_root_certificates() -> None:
    made = read(conninfo.from_secret(SECRET | {"host": PROXY}))
    assert (made["sslmode"], made["sslrootcert"]) == ("verify-full", str(conninfo.ROOTS))


def test_a_secret_or_a_url_can_set_another_sslmode() -> None:
    assert read(conninfo.from_secret(SECRET | {"host": PROXY, "sslmode": "require"}))["sslmode"] == "require"
    url = f"postgresql://app:s3cret@{PROXY}/app?sslmode=require"
    assert read(conninfo.from_url(url))["sslmode"] == "require"


def test_a_host_name_that_only_contains_that_of_rds_is_not_rds() -> None:
    made = read(conninfo.from_secret(SECRET | {"host": f"{PROXY}.example.com"}))
    assert made["sslmode"] == "require"


def test_the_root_certificates_are_readable_and_valid_until_2037() -> None:
    context = ssl.create_default_context(cafile=str(conninfo.ROOTS))
    roots = context.get_ca_certs()
    assert len(roots) > 80
    assert all(
        ssl.cert_time_to_seconds(str(root["notAfter"])) > ssl.cert_time_to_seconds("Jan  1 00:00:00 2037 GMT")
        for root in roots
    )
