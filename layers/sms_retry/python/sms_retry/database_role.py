"""The role of the service in a database of the stack. The master user creates the role, and does nothing else.

RDS Proxy signs in to the database by the password of the role, and the functions sign in to the proxy by IAM. The role
is no member of `rds_iam`: its creator would become one too, and the master user's password would then be refused.
https://github.com/movetokube/postgres-operator/issues/315
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import psycopg
from psycopg import sql

from sms_retry import conninfo
from sms_retry.migrate import CONNECT_TIMEOUT

EXISTS = "select 1 from pg_roles where rolname = %s"


def create(asked: Mapping[str, str], secret: Callable[[str], Mapping[str, Any]]) -> None:
    """Create the role, or give it the password of its secret again. It may create schemas in its database.

    `asked` is the properties of the stack's resource DatabaseRole; `secret` reads a secret by its ARN.
    """
    role = secret(asked["RoleSecret"])
    place = {"host": asked["Host"], "port": asked["Port"], "dbname": asked["Database"]}
    master = conninfo.from_secret({**secret(asked["MasterSecret"]), **place})
    with psycopg.connect(master, prepare_threshold=None, connect_timeout=CONNECT_TIMEOUT) as connection:
        name, database = sql.Identifier(role["username"]), sql.Identifier(asked["Database"])
        if not connection.execute(EXISTS, [role["username"]]).fetchone():
            connection.execute(sql.SQL("create role {} login").format(name))
        password = sql.Literal(_hashed(connection, role["username"], role["password"]))
        connection.execute(sql.SQL("alter role {} password {}").format(name, password))
        connection.execute(sql.SQL("grant create on database {} to {}").format(database, name))


def _hashed(connection: psycopg.Connection, user: str, password: str) -> str:
    """The password as Postgres stores it, so that no log of statements has the password itself."""
    return connection.pgconn.encrypt_password(password.encode(), user.encode(), b"scram-sha-256").decode()
