"""What the tests share: one database a session, emptied before each test, and a Twilio stand-in."""

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

# Each run tries the same examples, and a slow machine fails none of them.
settings.register_profile("short", deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
settings.register_profile("long", deadline=None, max_examples=2_000, suppress_health_check=list(HealthCheck))
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "short"))

SENDER = "+15005550006"
WEBHOOK_URL = "https://sms.example.com"


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """The embedded PostgreSQL 18; POSTGRES_BIN names the programs of another, DATABASE_URL one that runs."""
    programs = os.environ.get("POSTGRES_BIN")
    with postgres(Path(programs) if programs else None, durable=False) as server:
        yield server


@pytest.fixture(scope="session")
def migrated(server: Server, worker_id: str) -> str:
    """A database with this release in it; a lock that is waited for fails a test instead of hanging it."""
    url = server.create_database(f"sms_retry_{worker_id}")
    with psycopg.connect(url, autocommit=True) as connection:
        name = connection.info.dbname
        for setting in ("lock_timeout = '5s'", "statement_timeout = '20s'"):
            connection.execute(f'alter database "{name}" set {setting}')
    migrate(url)
    return url


@pytest.fixture
def database_url(migrated: str) -> str:
    """A database with no row in it."""
    with psycopg.connect(migrated, autocommit=True) as connection:
        connection.execute(
            "truncate sms_retry.sms_messages, sms_retry.sms_retry_queue, sms_retry.sms_attempts,"
            " sms_retry.sms_recipients, sms_retry.sms_delivery_events, sms_retry.sms_holds,"
            " sms_retry.sms_limits, sms_retry.sms_error_overrides, sms_retry.sms_actions restart identity"
        )
    return migrated


@pytest.fixture
def db(database_url: str) -> Iterator[psycopg.Connection]:
    """A connection to look with, and to move time with."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def open_store(database_url: str) -> Iterator[Callable[[], Store]]:
    """Makes a store with a connection of its own, as each container has."""
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
    """Twilio, whose callbacks go out when a test says so."""
    with TwilioStandIn(callbacks="manual") as stand_in:
        yield stand_in


@pytest.fixture
def send(stand_in: TwilioStandIn) -> Iterator[Send]:
    """Sends to the stand-in, over real HTTP."""
    credentials = Credentials(ACCOUNT_SID, AUTH_TOKEN)
    with twilio.open_sender(credentials, stand_in.url, SENDER, WEBHOOK_URL) as send:
        yield send
