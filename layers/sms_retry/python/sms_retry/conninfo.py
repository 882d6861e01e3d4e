"""The connection string of Postgres, from a URL or a secret; at RDS also with an IAM token as the password."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from sms_retry.settings import SettingsError

SECRET = {"host": "host", "port": "port", "username": "user", "password": "password", "dbname": "dbname"}
# A secret may also set how the server's certificate is verified, by libpq's parameters.
TLS = ("sslmode", "sslrootcert")
# The first characters of a socket's folder, and of an abstract socket.
SOCKET = ("/", "@")
LOOPBACK = re.compile(r"localhost|127(\.[0-9]+){3}|::1", re.IGNORECASE)
RDS = re.compile(r".+\.rds\.amazonaws\.com(\.cn)?")
ROOTS = Path(__file__).with_name("rds_ca.pem")


def from_url(url: str) -> str:
    """The connection string for a URL. At RDS, a URL without a password gets an IAM token, valid for 15 minutes."""
    try:
        given = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        given = None
    # libpq's messages quote the URL, and with it the password. An `@` in the password ends up in the host.
    if given is None or "@" in str(given.get("host") or "")[1:]:
        raise SettingsError(
            "DATABASE_URL cannot be read: it must be postgresql://user:password@host:port/dbname, and special"
            " characters in the password must be percent-encoded"
        )
    given = _spelled(given)
    if _is_rds(given) and "password" not in given:
        given["password"] = _token(given)
    return _trusted(given)


def from_secret(secret: Mapping[str, Any]) -> str:
    """The connection string for the content of a secret."""
    if missing := [name for name in SECRET if name not in secret]:
        raise SettingsError(
            f"the secret of DATABASE_SECRET_ARN has no {', '.join(missing)}; the secret that RDS itself makes has only"
            " username and password: make a secret that has all five, or sign in by IAM (DatabaseUrl)"
        )
    given = {ours: secret[name] for name, ours in SECRET.items()}
    given |= {name: secret[name] for name in TLS if name in secret}
    return _trusted(_spelled(given), always=True)


def _spelled(given: dict[str, Any]) -> dict[str, Any]:
    """A host name as its certificate spells it: without the dot of a full name, in lower case."""
    host = str(given.get("host") or "")
    return given if not host or host[0] in SOCKET else {**given, "host": host.lower().rstrip(".")}


def _is_rds(given: Mapping[str, Any]) -> bool:
    return RDS.fullmatch(str(given.get("host", ""))) is not None


def _is_here(given: Mapping[str, Any]) -> bool:
    """Whether every host is this machine. libpq reads the environment where the connection string names none."""
    hosts = given.get("hostaddr") or given.get("host") or os.environ.get("PGHOSTADDR") or os.environ.get("PGHOST")
    return all(host.startswith(SOCKET) or LOOPBACK.fullmatch(host) for host in str(hosts or "/").split(","))


def _trusted(given: dict[str, Any], always: bool = False) -> str:
    """Adds the TLS settings: every other machine must speak TLS, unless `sslmode` says otherwise.

    A host of RDS must show a certificate that is signed by RDS's own roots.
    """
    if given.get("sslrootcert") == "system":
        import ssl

        # psycopg brings an OpenSSL that looks for roots in a folder which no machine has.
        if roots := ssl.get_default_verify_paths().cafile:
            os.environ.setdefault("SSL_CERT_FILE", roots)
        given = {"sslmode": "verify-full", **given}
    elif _is_rds(given):
        given = {"sslmode": "verify-full", "sslrootcert": str(ROOTS), **given}
    elif always or not _is_here(given):
        given = {"sslmode": os.environ.get("PGSSLMODE") or "require", **given}
    return make_conninfo(**given)


def _token(given: Mapping[str, Any]) -> str:
    import boto3

    rds = boto3.client("rds", region_name=os.environ.get("AWS_REGION"))
    port = int(given.get("port") or 5432)
    token: str = rds.generate_db_auth_token(DBHostname=given["host"], Port=port, DBUsername=given.get("user"))
    return token
