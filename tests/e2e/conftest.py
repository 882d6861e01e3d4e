"""One local stack per session, emptied before each test; after each test, its log must hold no private data."""

from __future__ import annotations

import io
import logging
import uuid
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from local.aws.build import sam_build
from local.browser import browser
from local.postgres.server import Server
from local.stack import Stack
from local.stack import stack as local_stack
from tests.e2e.messages import private_lines
from tests.runtime_role import runtime_login
from tests.tables import truncate_all


@pytest.fixture(scope="package")
def log() -> io.StringIO:
    """The output of the handlers' loggers; several threads write it at once, so it is not a file."""
    return io.StringIO()


@pytest.fixture(scope="package")
def stack_of_the_session(server: Server, worker_id: str, log: io.StringIO) -> Iterator[Stack]:
    url = server.create_database(f"sms_retry_e2e_{worker_id}_{uuid.uuid4().hex[:8]}")
    with runtime_login(url) as runtime_url, redirect_stdout(log), local_stack(url, runtime_url=runtime_url) as stack:
        yield stack


@pytest.fixture
def stack(
    stack_of_the_session: Stack,
    log: io.StringIO,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> Iterator[Stack]:
    """An empty database and an empty Twilio; afterwards, no number, text or token may have been logged."""
    stack = stack_of_the_session
    stack.twilio.reset()
    truncate_all(stack.db)
    already = len(log.getvalue())
    yield stack
    printed = capsys.readouterr()
    logged = log.getvalue()[already:] + printed.out + printed.err
    # A container of an earlier test still prints to that test's output, so its log records are read, with all fields.
    for record in caplog.get_records("call"):
        logged += f"{logging.Formatter().format(record)} {vars(record)}"
    assert not private_lines(logged)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of `sam build`. Its tests are in the xdist group "sam build", so that it is built once."""
    folder = tmp_path_factory.mktemp("sam") / "build"
    sam_build(folder)
    return folder


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as found:
        yield found
