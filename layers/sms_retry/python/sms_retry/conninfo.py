"""How to sign in to Postgres: with the password of a URL or of a secret, or at RDS by IAM."""

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
# A secret may also say how far the server is trusted, in libpq's own words.
TLS = ("sslmode", "sslrootcert")
RDS = re.compile(r".+\.rds\.amazonaws\.com(\.cn)?")
ROOTS = Path(__file__).with_name("rds_ca.pem")


def from_url(url: str) -> str:
    """What libpq connects with. At RDS a URL without a password stands for one that IAM gives, for 15 minutes."""
    try:
        given = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        # Postgres's own message repeats what it could not read.
        raise SettingsError(
            "DATABASE_URL cannot be read: it must be postgresql://user:password@host:port/dbname, and what is neither"
            " letter nor digit in the password must be percent-encoded"
        ) from None
    if _is_rds(given) and "password" not in given:
        given["password"] = _token(given)
    return _trusted(given)


def from_secret(secret: Mapping[str, Any]) -> str:
    """What libpq connects with, by a secret of Secrets Manager."""
    if missing := [name for name in SECRET if name not in secret]:
        raise SettingsError(
            f"the secret of DATABASE_SECRET_ARN has no {', '.join(missing)}; the secret that RDS itself makes has only"
            " username and password: make a secret that has all five, or sign in by IAM (DatabaseUrl)"
        )
    given = {ours: secret[name] for name, ours in SECRET.items()}
    given |= {name: secret[name] for name in TLS if name in secret}
    return _trusted(given, otherwise="require")


def _is_rds(given: Mapping[str, Any]) -> bool:
    return RDS.fullmatch(str(given.get("host", ""))) is not None


def _trusted(given: dict[str, Any], otherwise: str | None = None) -> str:
    """With RDS's own roots where the host is RDS's, so that nobody else can stand in its place."""
    if _is_rds(given):
        given = {"sslmode": "verify-full", "sslrootcert": str(ROOTS), **given}
    elif otherwise:
        given = {"sslmode": otherwise, **given}
    return make_conninfo(**given)


def _token(given: Mapping[str, Any]) -> str:
    import boto3

    rds = boto3.client("rds", region_name=os.environ.get("AWS_REGION"))
    port = int(given.get("port") or 5432)
    token: str = rds.generate_db_auth_token(DBHostname=given["host"], Port=port, DBUsername=given.get("user"))
    return token
