"""A login for the runtime role: it may connect to its database, and has no other right before the migration."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import psycopg


@contextmanager
def runtime_login(database_url: str) -> Iterator[str]:
    """The URL of a new role in the database, which is dropped at the end."""
    role = f"runtime_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(database_url, autocommit=True) as owner:
        owner.execute(f"create role {role} login")
        try:
            parts = urlsplit(database_url)
            yield parts._replace(netloc=f"{role}@{parts.netloc.rpartition('@')[2]}").geturl()
        finally:
            owner.execute(f"drop owned by {role}")
            owner.execute(f"drop role {role}")
