"""Fixtures for all tests: one database per session, emptied before each test, and a Twilio stand-in."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from hypothesis import HealthCheck, settings

from local.postgres.server import Server, postgres
from local.twilio.stand_in import ACCOUNT_SID, AUTH_TOKEN, TwilioStandIn
from sms_retry import twilio
from sms_retry.migrate import migrate
from sms_retry.store import Store
from sms_retry.twilio import Credentials, Send
from tests.tables import reset_settings, truncate_all

# An assertion in it fails with a diff, like one in a test file.
pytest.register_assert_rewrite("tests.integration.examples")

# Hypothesis tries the same examples in each run, and a slow machine fails none of them.
settings.register_profile("short", deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
settings.register_profile("long", deadline=None, max_examples=2_000, suppress_health_check=list(HealthCheck))
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "short"))

SENDER = "+15005550006"
WEBHOOK_URL = "https://sms.example.com"


def pytest_xdist_auto_num_workers() -> int | None:
    """Two processes for each core: many tests wait for a container, a lock or a clock. The variable comes first."""
    return None if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ else 2 * (os.cpu_count() or 1)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """PostgreSQL: the embedded version 18, the programs in POSTGRES_BIN, or the server of LOCAL_DATABASE_URL."""
    programs = os.environ.get("POSTGRES_BIN")
    with postgres(Path(programs) if programs else None, durable=False) as server:
        yield server


@pytest.fixture(scope="session")
def migrated(server: Server, worker_id: str) -> str:
    """A migrated database."""
    url = server.create_database(f"sms_retry_{worker_id}")
    with psycopg.connect(url, autocommit=True) as connection:
        reset_settings(connection)
    migrate(url)
    return url


@pytest.fixture(scope="session")
def empty_tables(migrated: str) -> Iterator[Callable[[], None]]:
    """Empties the tables, in one session for all tests: a new session costs more than the statement."""
    connection = psycopg.connect(migrated, autocommit=True)

    def empty() -> None:
        nonlocal connection
        try:
            truncate_all(connection)
        except psycopg.OperationalError:
            if not connection.closed:
                raise
            # A test ended every session of the server.
            connection = psycopg.connect(migrated, autocommit=True)
            truncate_all(connection)

    yield empty
    connection.close()


@pytest.fixture
def database_url(migrated: str, empty_tables: Callable[[], None]) -> str:
    """A migrated database with empty tables."""
    empty_tables()
    return migrated


@pytest.fixture
def db(database_url: str) -> Iterator[psycopg.Connection]:
    """The connection with which a test reads tables and lets time pass."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def open_store(database_url: str) -> Iterator[Callable[[], Store]]:
    """Opens stores. Each has a separate connection, as in each Lambda container."""
    stores: list[Store] = []

    def open_one() -> Store:
        stores.append(Store(lambda: database_url))
        return stores[-1]

    yield open_one
    for store in stores:
        store.close()


@pytest.fixture
def store(open_store: Callable[[], Store]) -> Store:
    return open_store()


@pytest.fixture
def stand_in() -> Iterator[TwilioStandIn]:
    """A Twilio that sends its callbacks only when the test asks for them."""
    with TwilioStandIn(callbacks="manual") as stand_in:
        yield stand_in


@pytest.fixture
def send(stand_in: TwilioStandIn) -> Iterator[Send]:
    """Sends to the stand-in over real HTTP."""
    credentials = Credentials(ACCOUNT_SID, AUTH_TOKEN)
    with twilio.open_sender(credentials, stand_in.url, SENDER, WEBHOOK_URL) as send:
        yield send
