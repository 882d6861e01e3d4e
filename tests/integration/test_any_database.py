"""The service works the same, whatever settings its database and its role have, and one bad value costs one row."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from local.postgres.server import Server
from local.stack import Stack
from local.stack import stack as local_stack
from local.twilio.stand_in import TwilioStandIn
from local.waiting import let_time_pass
from sms_retry import operate, worker
from sms_retry.migrate import migrate
from sms_retry.store import Store
from sms_retry.twilio import Send
from sms_retry.values import Hold, Report
from tests import released
from tests.e2e.messages import number, queue
from tests.e2e.visitor import Visitor
from tests.integration.examples import (
    end_connections,
    fill,
    five_minutes_left,
    in_parallel,
    one,
    sid,
    statuses,
    take_in,
)
from tests.integration.life import life
from tests.shell import command
from tests.simulation.clock import VirtualClock
from tests.tables import reset_settings, truncate_all

# Settings that databases and roles have, mostly for the sake of the application that shares the database.
SETTINGS = {
    "New York": ["timezone = 'America/New_York'"],
    "Kathmandu": ["timezone = 'Asia/Kathmandu'"],
    "a zone without a name": ["timezone = '<-03>+03'"],
    "SQL dates": ["datestyle = 'SQL, MDY'"],
    "German dates": ["datestyle = 'German'"],
    "Postgres dates": ["datestyle = 'Postgres, DMY'"],
    "SQL intervals": ["intervalstyle = 'sql_standard'"],
    "ISO intervals": ["intervalstyle = 'iso_8601'"],
    "verbose intervals": ["intervalstyle = 'postgres_verbose'"],
    "no encoding": ["client_encoding = 'SQL_ASCII'"],
    "Latin-1": ["client_encoding = 'LATIN1'"],
    "KOI8-R": ["client_encoding = 'KOI8R'"],
    "backslashes": ["standard_conforming_strings = off"],
    "serializable": ["default_transaction_isolation = 'serializable'"],
    "repeatable read": ["default_transaction_isolation = 'repeatable read'"],
    "timeouts": ["idle_session_timeout = '150ms'", "statement_timeout = '5s'", "lock_timeout = '50ms'"],
    "a search path": ["search_path = ''"],
    "quotes and nulls": ["quote_all_identifiers = on", "array_nulls = off", "transform_null_equals = on"],
    "numbers": ["extra_float_digits = -15", "bytea_output = 'escape'", "enable_indexscan = off"],
}
ALL = [f"{setting}" for name in ("New York", "SQL dates", "ISO intervals", "Latin-1") for setting in SETTINGS[name]]
SETTINGS["many"] = [*ALL, *SETTINGS["backslashes"], *SETTINGS["serializable"], *SETTINGS["quotes and nulls"]]

KINDS = ("role", "database")


@pytest.fixture(scope="module")
def admin(server: Server) -> Iterator[psycopg.Connection]:
    with psycopg.connect(server.url, autocommit=True) as admin:
        yield admin


@pytest.fixture(scope="module")
def whole(server: Server, admin: psycopg.Connection, worker_id: str) -> Iterator[Stack]:
    """The stack as an ordinary role: no superuser, and no right but to connect and to use its schema."""
    name = f"any_{worker_id}"
    url = server.create_database(name)
    admin.execute(f"create role {name} login nosuperuser")
    admin.execute(f"revoke all on database {name} from public")
    admin.execute(f"grant connect on database {name} to {name}")
    with psycopg.connect(url, autocommit=True) as db:
        db.execute("revoke all on schema public from public")
        db.execute(f"create schema sms_retry authorization {name}")
    with local_stack(make_conninfo(url, user=name)) as stack:
        yield stack
    admin.execute(f"drop database {name} with (force)")
    admin.execute(f"drop role {name}")


@pytest.fixture
def stack(whole: Stack, admin: psycopg.Connection) -> Iterator[Stack]:
    """An empty stack, whose sessions begin with the default settings."""
    yield whole
    name = whole.db.info.dbname
    for kind in KINDS:
        admin.execute(f"alter {kind} {name} reset all")


def restart(stack: Stack) -> None:
    """No rows, nothing at Twilio, and sessions with the settings that apply now."""
    stack.twilio.reset()
    truncate_all(stack.db)
    end_connections(stack.db)


def change(admin: psycopg.Connection, kind: str, name: str, settings: list[str]) -> None:
    for setting in settings:
        admin.execute(f"alter {kind} {name} set {setting}")


@pytest.fixture(scope="module")
def baseline() -> list[str]:
    """The lines of a life without any setting; empty before the first test."""
    return []


# Of a role, of a database in turn; those that changed the life of a message in release 0.1, of both.
BOTH = {"New York", "SQL dates", "no encoding", "Latin-1", "backslashes", "serializable", "many"}
PLACES = [(kind, name) for n, name in enumerate(SETTINGS) for kind in KINDS if name in BOTH or kind == KINDS[n % 2]]


@pytest.mark.xdist_group("any database")
@pytest.mark.parametrize(("kind", "name"), PLACES)
def test_a_message_has_the_same_life_under_every_setting(
    stack: Stack,
    admin: psycopg.Connection,
    baseline: list[str],
    capsys: pytest.CaptureFixture[str],
    kind: str,
    name: str,
) -> None:
    restart(stack)
    if not baseline:
        baseline += life(stack, capsys)
        restart(stack)
    change(admin, kind, stack.db.info.dbname, SETTINGS[name])
    restart(stack)

    assert life(stack, capsys) == baseline


# The instant, and the end of the message, of a hold or of a daily limit; then the seconds in which Twilio must deliver,
# or None if the message must wait. At each instant the clocks of the zone are about to change, or have just changed.
NEAR_A_CHANGE = [
    ("America/New_York", "2027-03-14 06:50Z", "expires", "2027-03-14 07:10Z", 1200),
    ("America/New_York", "2026-11-01 05:40Z", "expires", "2026-11-01 06:20Z", 2400),
    ("America/New_York", "2026-11-01 05:50Z", "held", "2026-11-01 06:10Z", None),
    ("America/New_York", "2026-11-01 06:10Z", "held", "2026-11-01 05:50Z", 36_000),
    ("Europe/Berlin", "2027-03-28 00:50Z", "expires", "2027-03-28 01:10Z", 1200),
    ("Europe/Berlin", "2026-10-25 00:40Z", "expires", "2026-10-25 01:20Z", 2400),
    ("Europe/Berlin", "2026-10-25 00:50Z", "held", "2026-10-25 01:10Z", None),
    ("Australia/Lord_Howe", "2027-04-03 14:50Z", "held", "2027-04-03 15:10Z", None),
    ("Asia/Kathmandu", "2027-03-14 06:50Z", "expires", "2027-03-14 07:10Z", 1200),
    ("America/New_York", "2026-11-01 05:50Z", "limited", "2026-11-01 06:10Z", None),
    ("America/New_York", "2026-11-01 06:10Z", "limited", "2026-11-01 05:50Z", 36_000),
    ("America/New_York", "2027-03-14 06:50Z", "limited", "2027-03-14 07:10Z", None),
    ("UTC", "2026-11-01 05:50Z", "held", "2026-11-01 06:10Z", None),
]


SENT_A_DAY_BEFORE = """
insert into sms_retry.sms_messages
    (business_id, to_number, body, kind, on_unknown, expires_at, status, provider_sid, sent_at)
select business_id, to_number, body, kind, on_unknown, expires_at, 'sent', 'SM1', %s::timestamptz - interval '24 hours'
from sms_retry.sms_messages
"""


@pytest.fixture(scope="module")
def clock(server: Server, worker_id: str) -> Iterator[tuple[str, VirtualClock]]:
    """A database, and the clock that it reads."""
    url, clock = server.create_database(f"clock_{worker_id}"), VirtualClock(datetime(2026, 1, 1, tzinfo=UTC))
    migrate(url)
    with psycopg.connect(url, autocommit=True) as db, clock.in_use(db):
        yield url, clock


@pytest.mark.parametrize(("zone", "now", "what_ends", "end", "seconds"), NEAR_A_CHANGE)
def test_the_hours_around_a_change_of_clocks_are_as_long_as_all_others(
    clock: tuple[str, VirtualClock],
    stand_in: TwilioStandIn,
    send: Send,
    zone: str,
    now: str,
    what_ends: str,
    end: str,
    seconds: int | None,
) -> None:
    url, moved = clock
    with psycopg.connect(url, autocommit=True) as db, closing(Store(lambda: url)) as store:
        truncate_all(db)
        db.execute(f"alter database {db.info.dbname} set timezone = '{zone}'")
        moved.set(datetime.fromisoformat(now))
        take_in(store)
        if what_ends == "expires":
            db.execute("update sms_retry.sms_messages set expires_at = %s", [end])
        elif what_ends == "limited":
            db.execute(SENT_A_DAY_BEFORE, [end])
            db.execute("insert into sms_retry.sms_limits values ('*', 1)")
        else:
            db.execute("insert into sms_retry.sms_holds values ('country', '+49', %s, '20 minutes', 'by hand')", [end])
        worker.drain(store, send, five_minutes_left, concurrency=2)

    periods = [int(post.form["ValidityPeriod"]) for post in stand_in.posts()]
    assert periods == pytest.approx([] if seconds is None else [seconds], abs=2)


@pytest.mark.parametrize("settings", [*SETTINGS.values(), []], ids=[*SETTINGS, "none"])
def test_every_instant_enters_in_utc(database_url: str, settings: list[str]) -> None:
    with psycopg.connect(database_url, autocommit=True) as db:
        change(db, "database", db.info.dbname, settings)
        with closing(Store(lambda: database_url)) as store:
            take_in(store)
            [claim] = store.claim_due(1)
            store.set_hold(Hold("account", "*", timedelta(minutes=5), "error_20003"))
            instants = [claim.claimed_at, claim.expires_at, store.current_holds()[0].until]
            instants += [step.at for step in store.message_story(1)]
        reset_settings(db)
    assert {at.tzinfo for at in instants} == {UTC}


@pytest.mark.parametrize("isolation", ["serializable", "repeatable read", "read committed"])
def test_four_workers_send_each_message_once_under_every_isolation_level(
    db: psycopg.Connection,
    open_store: Callable[[], Store],
    stand_in: TwilioStandIn,
    send: Send,
    isolation: str,
) -> None:
    db.execute(f"alter database {db.info.dbname} set default_transaction_isolation = '{isolation}'")
    try:
        fill(db, 200)
        stores = [open_store() for _ in range(4)]
        in_parallel(4, lambda n: worker.drain(stores[n], send, five_minutes_left, concurrency=4))
    finally:
        reset_settings(db)
    assert statuses(db) == {"sent": 200}
    assert set(stand_in.times_accepted().values()) == {1}


# Postgres from 17 on has infinite intervals.
FOR_EVER = ["9000 years", "5000 years", "280000 years"]


@pytest.mark.parametrize("wait", [*FOR_EVER, "infinity", "-infinity", "-9000 years"])
def test_a_hold_lasts_for_a_hundred_years_at_most(db: psycopg.Connection, store: Store, wait: str) -> None:
    if "infinity" in wait and db.info.server_version < 170000:
        pytest.skip("PostgreSQL before 17 has no infinite interval")
    db.execute("select sms_retry.open_sms_hold('country', '+49', %s::interval, 'by hand')", [wait])
    least, most = "now() - interval '1 minute'", "now() + interval '100 years'"
    assert one(
        db, f"select until between {least} and {most} and wait between '0' and '100 years' from sms_retry.sms_holds"
    )
    take_in(store)
    [claim] = store.claim_due(1)
    assert (claim.held_until is None) == wait.startswith("-")


FUTURE, PAST = ["infinity", "20000-01-01"], ["-infinity", "0500-01-01 BC"]


@pytest.mark.xdist_group("any database")
@pytest.mark.parametrize("until", [*FUTURE, *PAST])
@pytest.mark.parametrize(("scope", "key"), [("account", "*"), ("country", "+49"), ("recipient", number(1))])
def test_pages_commands_and_claims_work_while_a_hold_has_no_end(
    stack: Stack, capsys: pytest.CaptureFixture[str], scope: str, key: str, until: str
) -> None:
    """A hold as release 0.1 stored it, before the repair."""
    restart(stack)
    stack.db.execute("insert into sms_retry.sms_holds values (%s, %s, %s, '5 minutes', 'by hand')", [scope, key, until])
    queue(stack, 1)
    stack.db.execute("select sms_retry.queue_sms_retry('+14155550123', 'Hello.', kind => 'otp')")

    assert stack.invoke("process_retries")["unknown"] == 0
    assert stack.invoke("health_check")["processing"] == 0
    for page in ("/", "/holds", "/stuck", "/waiting", "/messages/1"):
        assert Visitor(stack.console.url).get(page).status == 200
    for words in (["status"], ["status", "--json"], ["show", "1"]):
        assert command(words) == 0
    if until in FUTURE:
        assert command(["release", scope, key]) == 0
        stack.invoke("process_retries")
    assert statuses(stack.db) == {"sent": 2}


@pytest.mark.xdist_group("any database")
def test_a_command_sets_a_hold_of_every_length(stack: Stack, capsys: pytest.CaptureFixture[str]) -> None:
    restart(stack)
    assert command(["hold", "account", "--for", "999999d", "--json"]) == 0
    held_until = datetime.fromisoformat(json.loads(capsys.readouterr().out)["held_until"])
    assert held_until - datetime.now(UTC) == pytest.approx(operate.LONGEST_HOLD, abs=timedelta(minutes=1))
    with pytest.raises(SystemExit):
        command(["requeue", "30001", "--since", "999999d"])
    assert "it is too long ago" in capsys.readouterr().err


def test_the_holds_of_release_01_are_repaired(server: Server, worker_id: str, tmp_path: Path) -> None:
    url = server.create_database(f"for_ever_{worker_id}")
    released.migrate("0.1.0", url, tmp_path)
    with psycopg.connect(url, autocommit=True) as db:
        for place, wait in enumerate(
            [*FOR_EVER, *(["infinity"] if db.info.server_version >= 170000 else []), "2 hours"]
        ):
            db.execute(
                "select sms_retry.open_sms_hold('country', %s, %s::interval, 'by hand')", [f"+{place + 1}", wait]
            )
        assert "repairs/0002_holds" in migrate(url).repairs
        years = "extract(year from justify_interval(least(until - now(), interval '200 years')))"
        rows = db.execute(
            f"select key, {years}::int, wait > interval '100 years' from sms_retry.sms_holds order by key"
        )
        *repaired, (_, left, _) = rows.fetchall()
    assert {tuple(row[1:]) for row in repaired} <= {(99, False), (100, False), (101, False)}
    assert left == 0


def test_one_report_with_values_that_postgres_cannot_store_costs_no_other(db: psycopg.Connection, store: Store) -> None:
    fill(db, 6)
    claims = store.claim_due(6)
    odd = [
        Report(claims[0].ticket, "refused", code=30007, message="a\0b", request_id="c\0d"),
        Report(claims[1].ticket, "refused", code=30007, message="a\ud83db"),
        Report(claims[2].ticket, "refused", code=10**12, message="unlisted"),
        Report(claims[3].ticket, "refused", code=30007, http_status=10**10),
        Report.accepted(claims[4].ticket, sid(1)),
        Report.accepted(claims[5].ticket, sid(2)),
    ]

    assert len(store.finish(odd)) == 6

    assert statuses(db) == {"failed": 4, "sent": 2}
    told = "select error_message from sms_retry.sms_attempts where outcome = 'refused' order by queue_id"
    assert [text for (text,) in db.execute(told)] == ["a\ufffdb", "a?b", None, None]


def test_a_report_that_cannot_be_written_at_all_is_left_to_the_question_to_twilio(
    db: psycopg.Connection, store: Store
) -> None:
    fill(db, 2)
    first, second = store.claim_due(2)
    assert store.finish([Report.accepted(first.ticket, ""), Report(second.ticket, "accepted")]) == {
        first.ticket: "completed"
    }
    let_time_pass(db, minutes=11)
    assert store.take_stock(1).recovered == 1
    assert statuses(db) == {"sent": 1, "unknown": 1}
