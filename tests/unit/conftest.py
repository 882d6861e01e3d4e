"""No test in this folder depends on the version of PostgreSQL: CI runs them once, and the others on each version."""

from __future__ import annotations

from typing import NoReturn

import pytest


@pytest.fixture(scope="session")
def server() -> NoReturn:
    """In place of the PostgreSQL of the other tests."""
    pytest.fail("A test in tests/unit uses the database. Move it to tests/integration.")
