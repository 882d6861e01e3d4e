"""After a restore to an earlier time nobody gets a message twice, and every message is sent."""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path

import pytest

from local.postgres.server import Server, embedded_programs
from local.stack import Stack
from local.stack import stack as local_stack
from local.twilio.stand_in import Accept, Callbacks, Refuse, Reset
from local.waiting import let_time_pass
from tests.e2e.messages import number, queue, statuses
from tests.shell import command

PROGRAMS = Path(os.environ.get("POSTGRES_BIN") or embedded_programs())
LOST = Callbacks(lost=1)
# The messages of the test, by number.
DELIVERED, WAITING, UNKNOWN, SENT = range(20), range(20, 40), range(40, 60), range(60, 80)
DUE, REFUSED = range(80, 260), range(260, 280)
LOST_MINUTES = 20


@pytest.fixture
def parts(server: Server) -> Iterator[Stack]:
    """A stack with a database that this test restores."""
    with local_stack(server.create_database(f"sms_retry_restore_{uuid.uuid4().hex[:8]}")) as parts:
        yield parts


def run(program: str, *arguments: str | Path) -> None:
    subprocess.run([PROGRAMS / program, *arguments], check=True, capture_output=True)


def before_the_dump(parts: Stack) -> None:
    """Messages in every state: delivered, waiting after a failed delivery, unknown, sent, and due."""
    for n in WAITING:
        parts.twilio.plan(number(n), Accept(("sent", ("undelivered", 30003))))
    for n in UNKNOWN:
        parts.twilio.plan(number(n), Reset(Accept(callbacks=LOST)))
    for n in SENT:
        # Their delivery fails after the dump. Twilio repeats no receipt after the restore.
        parts.twilio.plan(number(n), Accept(("sent", ("undelivered", 30003)), callbacks=Callbacks(delay=120)))
    # Ten sends in a row without an answer would set a hold.
    for n in chain.from_iterable(zip(DELIVERED, WAITING, UNKNOWN, SENT, strict=True)):
        queue(parts, n)
    parts.invoke("process_retries")
    parts.twilio.deliver_callbacks()
    for n in (*DUE, *REFUSED):
        queue(parts, n)


def after_the_dump(parts: Stack) -> int:
    """The lost time: the service sends, except to some people. Returns the number of messages that Twilio accepted."""
    before = len(parts.twilio.accepted())
    for n in REFUSED:
        parts.twilio.plan(number(n), *[Refuse(429, 20429)] * 100)
    parts.let_minutes_pass(LOST_MINUTES)
    for n in REFUSED:
        parts.twilio.plan(number(n))
    return len(parts.twilio.accepted()) - before


def restore(parts: Stack, dump: Path) -> None:
    """Restore the dump as it would be now: the rows are older by the lost time."""
    parts.db.execute("drop schema sms_retry cascade")
    run("pg_restore", "--no-owner", f"--dbname={parts.database_url}", dump)
    let_time_pass(parts.db, minutes=LOST_MINUTES)


def arrived(parts: Stack) -> Counter[str]:
    """How many messages reached each person."""
    reached = Counter(dict.fromkeys(map(number, range(REFUSED.stop)), 0))
    for post in parts.twilio.accepted():
        reached[post.to] += parts.twilio.status(post.sid or "") != "undelivered"
    return reached


def test_after_a_restore_and_a_doubt_each_person_gets_each_message_once(
    parts: Stack, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before_the_dump(parts)
    dump, dumped_at = tmp_path / "dump", datetime.now(UTC)
    run("pg_dump", "--format=custom", "--schema=sms_retry", f"--file={dump}", parts.database_url)
    assert after_the_dump(parts) >= 200
    restore(parts, dump)

    capsys.readouterr()
    since = dumped_at - timedelta(minutes=LOST_MINUTES)
    assert command(["hold", "account", "--for", "7d"]) == 0
    assert command(["doubt", "--since", since.isoformat(), "--yes", "--json"]) == 0
    doubted = json.loads(capsys.readouterr().out.partition("\n")[2])["doubted"]
    assert doubted == len(WAITING) + len(UNKNOWN) + len(DUE) + len(REFUSED)
    assert command(["release", "account"]) == 0
    parts.let_minutes_pass(120)

    times = Counter(arrived(parts).values())
    with capsys.disabled():
        print(f"\n{doubted} in doubt; messages that arrived: {times[1]} once, {times[0]} never, {times[2]} twice")
    assert times == {1: REFUSED.stop}
    assert statuses(parts) == {"delivered": REFUSED.stop}
