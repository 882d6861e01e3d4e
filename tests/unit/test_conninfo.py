"""The connection string of Postgres: a password, or an IAM token at RDS, and the certificates that are accepted."""

from __future__ import annotations

import os
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
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


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST", "127.0.0.1", "127.1.2.3", "[::1]", "%2Ftmp", "", "localhost,127.0.0.1"]
)
def test_this_machine_needs_no_tls(host: str) -> None:
    assert "sslmode" not in read(conninfo.from_url(f"postgresql://app:s3cret@{host}/app"))


@pytest.mark.parametrize(
    "where",
    [
        "db.example.com/app",
        "10.0.0.5/app",
        "[2001:db8::1]/app",
        "localhost.example.com/app",
        "127.0.0.1,db.example.com/app",
        "/app?hostaddr=10.0.0.5",
        "localhost/app?hostaddr=10.0.0.5",
    ],
)
def test_every_other_machine_speaks_tls(where: str) -> None:
    assert read(conninfo.from_url(f"postgresql://app:s3cret@{where}"))["sslmode"] == "require"


def test_a_host_of_the_environment_speaks_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGHOST", "db.example.com")
    assert read(conninfo.from_url("postgresql:///app"))["sslmode"] == "require"


def test_a_url_a_secret_or_the_environment_can_state_the_sslmode(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "postgresql://app:s3cret@db.example.com/app"
    assert read(conninfo.from_url(url + "?sslmode=disable"))["sslmode"] == "disable"
    assert read(conninfo.from_secret(SECRET | {"sslmode": "verify-full"}))["sslmode"] == "verify-full"
    monkeypatch.setenv("PGSSLMODE", "verify-ca")
    assert read(conninfo.from_url(url))["sslmode"] == "verify-ca"


@pytest.mark.parametrize("host", [PROXY.upper(), PROXY + ".", "Sms.Proxy-abc123.EU-WEST-1.RDS.amazonaws.com."])
def test_rds_is_recognised_in_every_spelling(host: str) -> None:
    made = read(conninfo.from_url(f"postgresql://app:s3cret@{host}/app"))
    assert (made["host"], made["sslmode"], made["sslrootcert"]) == (PROXY, "verify-full", str(conninfo.ROOTS))
    assert read(conninfo.from_secret(SECRET | {"host": host}))["sslrootcert"] == str(conninfo.ROOTS)


@pytest.mark.usefixtures("_credentials")
def test_the_token_of_a_host_in_another_spelling_is_made_for_its_name() -> None:
    made = read(conninfo.from_url(f"postgresql://sms_retry@{PROXY.upper()}./sms_retry"))
    assert made["password"].startswith(f"{PROXY}:5432/")


def test_a_host_name_that_only_contains_that_of_rds_is_not_rds() -> None:
    made = read(conninfo.from_secret(SECRET | {"host": f"{PROXY}.example.com"}))
    assert made["sslmode"] == "require"


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    """The certificate of localhost, which signs itself, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    start = datetime(2020, 1, 1, tzinfo=UTC)
    signing = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    signing = signing.not_valid_before(start).not_valid_after(start + timedelta(days=36_500))
    for extension in (
        x509.BasicConstraints(ca=True, path_length=None),
        x509.SubjectAlternativeName([x509.DNSName("localhost")]),
    ):
        signing = signing.add_extension(extension, critical=False)
    pem = signing.sign(key, SHA256()).public_bytes(Encoding.PEM)
    file = tmp_path / "localhost.pem"
    file.write_bytes(pem + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return file


def reached(url: str, certificate: Path) -> bool:
    """Whether libpq believes a server with this certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    def serve(listening: socket.socket) -> bool:
        client, _ = listening.accept()
        with client:
            client.recv(8)
            client.sendall(b"S")
            try:
                with context.wrap_socket(client, server_side=True) as tls:
                    return bool(tls.recv(1))
            except ssl.SSLError:
                return False

    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor(1) as pool:
        served = pool.submit(serve, listening)
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(conninfo.from_url(url.format(port=listening.getsockname()[1])), connect_timeout=10)
        return served.result()


def test_the_roots_of_the_system_are_believed_and_no_others(authority: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = "postgresql://app@localhost:{port}/app?hostaddr=127.0.0.1&sslrootcert=system"
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    assert not reached(url, authority)
    assert os.environ["SSL_CERT_FILE"] == ssl.get_default_verify_paths().cafile

    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    assert reached(url, authority)


def test_the_root_certificates_are_readable_and_valid_until_2037() -> None:
    context = ssl.create_default_context(cafile=str(conninfo.ROOTS))
    roots = context.get_ca_certs()
    assert len(roots) > 80
    assert all(
        ssl.cert_time_to_seconds(str(root["notAfter"])) > ssl.cert_time_to_seconds("Jan  1 00:00:00 2037 GMT")
        for root in roots
    )
