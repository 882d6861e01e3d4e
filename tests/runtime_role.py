"""A login for the runtime role: it may connect to its database, and has no other right before the migration."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg.conninfo import make_conninfo


@contextmanager
def runtime_login(database_url: str) -> Iterator[str]:
    """The connection string of a new role in the database, which is dropped at the end."""
    role = f"runtime_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(database_url, autocommit=True) as owner:
        owner.execute(f"create role {role} login")
        try:
            yield make_conninfo(database_url, user=role)
        finally:
            owner.execute(f"drop owned by {role}")
            owner.execute(f"drop role {role}")
