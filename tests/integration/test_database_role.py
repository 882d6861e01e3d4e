"""The role of the service, which the master user creates in a database of the stack."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from local.postgres.server import Server
from sms_retry import database_role, migrate

PASSWORD = "4uhs8vdQ2mXk7Lr0"
SECRETS = {
    "master": {"username": "role_master", "password": "m"},
    "role": {"username": "role_service", "password": PASSWORD},
    "rotated": {"username": "role_service", "password": "another one"},
}
NAME = "database_of_the_stack"
HASH = "select rolpassword from pg_authid where rolname = 'role_service'"


@pytest.fixture
def url(server: Server) -> Iterator[str]:
    """An empty database whose master user is no superuser, as on RDS."""
    url = server.create_database(NAME)
    with psycopg.connect(server.url, autocommit=True) as db:
        db.execute("create role role_master login createrole")
        db.execute(f"alter database {NAME} owner to role_master")
        yield url
        db.execute(f"drop database {NAME} with (force)")
        db.execute("drop role role_service")
        db.execute("drop role role_master")


@pytest.fixture
def asked(url: str) -> dict[str, str]:
    """The properties of the stack's resource DatabaseRole."""
    with psycopg.connect(url) as db:
        folder = db.execute("show unix_socket_directories").fetchone()
        assert folder
        place = {"Host": folder[0], "Port": str(db.info.port), "Database": NAME}
    return place | {"MasterSecret": "master", "RoleSecret": "role"}


def one(url: str, query: str) -> Any:
    with psycopg.connect(url) as db:
        row = db.execute(query).fetchone()
        assert row
        return row[0]


def is_password(password: str, stored: str) -> bool:
    """Whether Postgres lets somebody in by a password: https://www.rfc-editor.org/rfc/rfc5802#section-3"""
    _, salted, keys = stored.split("$")
    rounds, salt = salted.split(":")
    salted_password = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(salt), int(rounds))
    key = hmac.digest(salted_password, b"Client Key", "sha256")
    return hashlib.sha256(key).digest() == base64.b64decode(keys.split(":")[0])


def test_the_role_of_the_service_can_migrate_and_is_no_administrator(url: str, asked: dict[str, str]) -> None:
    database_role.create(asked, SECRETS.__getitem__)

    assert migrate.migrate(make_conninfo(url, user="role_service")).migrations
    rights = "select rolsuper or rolcreaterole or rolcreatedb or rolbypassrls from pg_roles"
    assert one(url, f"{rights} where rolname = 'role_service'") is False
    assert one(url, "select nspowner::regrole::text from pg_namespace where nspname = 'sms_retry'") == "role_service"


def test_the_role_has_the_password_of_its_secret_also_after_a_rotation(url: str, asked: dict[str, str]) -> None:
    database_role.create(asked, SECRETS.__getitem__)
    assert is_password(PASSWORD, one(url, HASH))

    database_role.create(asked | {"RoleSecret": "rotated"}, SECRETS.__getitem__)
    assert is_password("another one", one(url, HASH))
    assert not is_password(PASSWORD, one(url, HASH))
