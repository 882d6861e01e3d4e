"""The migrator: all or nothing, repeatable, and an error names its file and line."""

from __future__ import annotations

import shutil
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import count
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from local.postgres.server import Server
from local.waiting import wait_until
from sms_retry.migrate import MigrationError, migrate, sql_folder
from sms_retry.store import Store
from sms_retry.values import Report
from tests import released
from tests.integration.examples import in_parallel, one, receipt, sid, take_in, wait_until_blocked

NUMBERS = count(1)

TABLE = "-- A table.\ncreate table sms_retry.first (id int);\n"
CALLER = """-- Calls a function that a later file defines.
create or replace function sms_retry.a_caller() returns int language sql as $$ select sms_retry.b_called() $$;
"""
FUNCTIONS = """
select oid::regprocedure::text collate "C" from pg_proc where pronamespace = 'sms_retry'::regnamespace order by 1
"""
CALLED = "create or replace function sms_retry.b_called() returns int language sql as $$ select 1 $$;\n"


@pytest.fixture
def empty(server: Server, worker_id: str) -> Iterator[str]:
    """A database with nothing in it."""
    name = f"migrated_{worker_id}_{next(NUMBERS)}"
    yield server.create_database(name)
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """A small release: one table, and two functions; the first calls the second."""
    _write(tmp_path, "migrations/0001_first.sql", TABLE)
    _write(tmp_path, "functions/a_caller.sql", CALLER)
    _write(tmp_path, "functions/b_called.sql", CALLED)
    return tmp_path


def test_new_migrations_run_once_and_functions_are_defined_each_time(empty: str, release: Path) -> None:
    first = migrate(empty, release)
    assert (first.migrations, first.functions, first.dropped) == (("0001_first",), 2, ())

    _write(release, "migrations/0002_second.sql", "create table sms_retry.second (id int);")
    _write(release, "functions/b_called.sql", CALLED.replace("select 1", "select 2"))
    second = migrate(empty, release)
    assert (second.migrations, second.functions) == (("0002_second",), 2)

    with psycopg.connect(empty) as connection:
        assert one(connection, "select sms_retry.a_caller()") == 2


def test_this_release_can_be_applied_repeatedly(empty: str) -> None:
    first, again = migrate(empty), migrate(empty)

    assert first.migrations == tuple(path.stem for path in sorted((sql_folder() / "migrations").iterdir()))
    assert again.migrations == again.dropped == ()
    assert first.functions == again.functions == len(list((sql_folder() / "functions").rglob("*.sql")))


def test_concurrent_runs_on_an_empty_database_wait_for_each_other(empty: str) -> None:
    done = in_parallel(3, lambda _: migrate(empty))
    assert sorted(len(each.migrations) for each in done) == [0, 0, len(list((sql_folder() / "migrations").iterdir()))]


def test_a_function_is_dropped_once_the_release_before_no_longer_had_it(empty: str, release: Path) -> None:
    _write(release, "functions/c_old.sql", CALLED.replace("b_called()", "c_old(text, int)"))
    migrate(empty, release)
    (release / "functions/c_old.sql").unlink()

    # The release before still calls it while traffic shifts, and after a rollback.
    _write(release, "releases/0.9.0.txt", "sms_retry.c_old(text,integer)\n")
    assert migrate(empty, release).dropped == ()

    _write(release, "releases/0.10.0.txt", "sms_retry.b_called()\n")
    assert migrate(empty, release).dropped == ("sms_retry.c_old(text,integer)",)
    assert migrate(empty, release).dropped == ()


def test_a_function_with_new_arguments_replaces_that_of_the_release_before(empty: str, release: Path) -> None:
    _write(release, "functions/c.sql", CALLED.replace("b_called()", "c(n int)"))
    migrate(empty, release)
    _write(release, "functions/c.sql", CALLED.replace("b_called()", "c(n int, m int = 1)"))
    _write(release, "releases/0.1.0.txt", "sms_retry.c(integer)\n")

    assert migrate(empty, release).dropped == ("sms_retry.c(integer)",)

    with psycopg.connect(empty) as connection:
        assert one(connection, "select sms_retry.c(5)") == 1


def test_the_ledger_of_releases_has_the_functions_that_each_release_defined(empty: str, tmp_path: Path) -> None:
    """A new release in tests/releases needs its page in sql/releases: the assertion shows it."""
    with psycopg.connect(empty, autocommit=True) as connection:
        for archive in released.RELEASES.glob("*.tar.gz"):
            version = archive.name.removesuffix(".tar.gz")
            connection.execute("drop schema if exists sms_retry cascade")
            released.migrate(version, empty, tmp_path)
            found = connection.execute(FUNCTIONS).fetchall()
            assert "".join(f"{name}\n" for (name,) in found) == (sql_folder() / f"releases/{version}.txt").read_text()


GUESTS = """
create table sms_retry.their_notes (id int);
create view sms_retry.their_view as select * from sms_retry.first;
create function sms_retry.their_function() returns int language sql as $$ select 1 $$;
create function sms_retry.their_trigger() returns trigger language plpgsql as $$ begin return new; end $$;
create trigger theirs before insert on sms_retry.first for each row execute function sms_retry.their_trigger();
create procedure sms_retry.nightly() language sql as $$ select 1 $$;
create aggregate sms_retry.theirs(int) (sfunc = int4larger, stype = int);
"""


def test_every_other_object_in_the_schema_stays(empty: str, release: Path) -> None:
    migrate(empty, release)
    with psycopg.connect(empty, autocommit=True) as connection:
        connection.execute(GUESTS)
    before = _everything(empty)

    assert migrate(empty, release).dropped == ()
    assert _everything(empty) == before


@pytest.fixture
def used(empty: str, release: Path) -> str:
    """A database in which a view of another owner needs a function of the release before."""
    _write(release, "functions/c_old.sql", CALLED.replace("b_called()", "c_old()"))
    migrate(empty, release)
    with psycopg.connect(empty, autocommit=True) as connection:
        connection.execute("create view public.theirs as select sms_retry.c_old()")
    return empty


def test_an_old_function_that_another_object_needs_stays(used: str, release: Path) -> None:
    (release / "functions/c_old.sql").unlink()
    _write(release, "releases/0.1.0.txt", "sms_retry.c_old()\n")
    _write(release, "releases/0.2.0.txt", "")

    assert migrate(used, release).dropped == ()


def test_an_object_that_needs_the_former_arguments_of_a_function_is_named(used: str, release: Path) -> None:
    _write(release, "functions/c_old.sql", CALLED.replace("b_called()", "c_old(m int = 1)"))
    _write(release, "releases/0.1.0.txt", "sms_retry.c_old()\n")

    with pytest.raises(MigrationError, match=r"c_old\(\) has new arguments; drop first: view public.theirs depends on"):
        migrate(used, release)


def test_a_repair_is_repeated_after_a_release_that_did_not_know_it(empty: str, release: Path) -> None:
    migrate(empty, release)
    later = release.parent / "later"
    shutil.copytree(release, later)
    _write(later, "repairs/0001_first.sql", "insert into sms_retry.first values (1);")

    assert migrate(empty, later).repairs == ("repairs/0001_first",)
    assert migrate(empty, later).repairs == ()
    migrate(empty, release)
    assert migrate(empty, later).repairs == ("repairs/0001_first",)


PLPGSQL = """-- One line.
create or replace function sms_retry.broken() returns int language plpgsql as $$
declare
    found_one int;
begin
    select 1 into found_one;
    {wrong}
    return found_one;
end
$$;
"""


@pytest.mark.parametrize(
    ("file", "text", "line", "reason"),
    [
        ("functions/broken.sql", PLPGSQL.format(wrong="selct 1;"), 7, 'syntax error at or near "selct"'),
        ("functions/broken.sql", PLPGSQL.format(wrong="if true then"), 10, "syntax error at end of input"),
        ("functions/broken.sql", PLPGSQL.format(wrong="nothing := 1;"), 7, '"nothing" is not a known variable'),
        (
            "functions/broken.sql",
            "create or replace function sms_retry.broken() returns int language sql as $$\n"
            "    select id\n    from sms_retry.first\n    where nothing\n$$;\n",
            4,
            'column "nothing" does not exist',
        ),
        (
            "migrations/0002_broken.sql",
            "create table sms_retry.second (id int);\n\n-- Two lines\n-- about it.\n"
            "create table sms_retry.first (id int);\n\ncreate table sms_retry.third (id int);\n",
            5,
            'relation "first" already exists',
        ),
        (
            "migrations/0002_broken.sql",
            "create table sms_retry.second (\n    id int,\n    at nothing\n);\n",
            3,
            'type "nothing" does not exist',
        ),
        (
            "migrations/0002_broken.sql",
            "alter table sms_retry.first add column at date;\n/* One\n   more. */\nselect 1 / 0;\n",
            4,
            "division by zero",
        ),
    ],
)
def test_a_broken_file_changes_nothing_and_is_reported_with_its_line(
    empty: str, release: Path, file: str, text: str, line: int, reason: str
) -> None:
    migrate(empty, release)
    before = _everything(empty)
    _write(release, "functions/b_called.sql", CALLED.replace("select 1", "select 2"))
    _write(release, file, text)

    with pytest.raises(MigrationError) as raised:
        migrate(empty, release)

    assert str(raised.value).startswith(f"{file}, line {line}: {reason}")
    assert _everything(empty) == before


def test_a_broken_first_release_leaves_an_empty_database_empty(empty: str, release: Path) -> None:
    before = _everything(empty)
    _write(release, "functions/d_broken.sql", PLPGSQL.format(wrong="selct 1;"))
    with pytest.raises(MigrationError):
        migrate(empty, release)
    assert _everything(empty) == before


def test_rows_survive_a_second_run(empty: str) -> None:
    migrate(empty)
    with psycopg.connect(empty, autocommit=True) as connection:
        connection.execute("select sms_retry.queue_sms_retry('+491761234567', 'Hello.')")
        migrate(empty)
        assert one(connection, "select sms_retry.claim_due_sms_retries()::text") is not None


@pytest.fixture
def roles(server: Server, empty: str, worker_id: str) -> Iterator[tuple[str, str]]:
    """Two ordinary roles, which have only the right to connect, as at RDS, Supabase and Neon."""
    names = (f"app_{worker_id}", f"other_{worker_id}")
    with psycopg.connect(empty, autocommit=True) as admin:
        admin.execute(f"revoke all on database {admin.info.dbname} from public")
        admin.execute("revoke all on schema public from public")
        for name in names:
            admin.execute(f"create role {name} login nosuperuser nocreatedb nocreaterole")
            admin.execute(f"grant connect on database {admin.info.dbname} to {name}")
        yield names
        for name in names:
            admin.execute(f"drop owned by {name} cascade")
            admin.execute(f"drop role {name}")


def as_role(url: str, name: str) -> str:
    return psycopg.conninfo.make_conninfo(url, user=name)


def owners(db: psycopg.Connection) -> set[str]:
    """The owners of all tables, functions and types of the schema."""
    rows = db.execute(
        """select pg_get_userbyid(relowner) from pg_class where relnamespace = 'sms_retry'::regnamespace
        union select pg_get_userbyid(proowner) from pg_proc where pronamespace = 'sms_retry'::regnamespace
        union select pg_get_userbyid(typowner) from pg_type where typnamespace = 'sms_retry'::regnamespace"""
    )
    return {name for (name,) in rows}


def test_a_migration_that_lacks_a_right_names_the_grant(empty: str, roles: tuple[str, str]) -> None:
    app, _ = roles
    expected = f"{app} may not migrate .*`create schema sms_retry authorization {app}`, or `grant create on database"
    with pytest.raises(MigrationError, match=expected):
        migrate(as_role(empty, app))
    with psycopg.connect(empty, autocommit=True) as admin:
        admin.execute("create schema sms_retry")
    with pytest.raises(MigrationError, match=f"`grant create, usage on schema sms_retry to {app}`"):
        migrate(as_role(empty, app))


@pytest.mark.parametrize(
    "given",
    [
        "create schema sms_retry authorization {0}",
        "create schema sms_retry; grant create, usage on schema sms_retry to {0}",
        "grant create on database {1} to {0}",
    ],
)
def test_an_ordinary_role_needs_no_right_on_the_database_once_the_schema_exists(
    empty: str, roles: tuple[str, str], given: str
) -> None:
    app, _ = roles
    with psycopg.connect(empty, autocommit=True) as admin:
        admin.execute(given.format(app, admin.info.dbname))
        migrate(as_role(empty, app))
        admin.execute(f"revoke create on database {admin.info.dbname} from {app}")

        assert migrate(as_role(empty, app)).migrations == ()
        assert owners(admin) == {app}


def test_another_login_learns_the_owner_and_migrates_as_its_member(empty: str, roles: tuple[str, str]) -> None:
    app, other = roles
    with psycopg.connect(empty, autocommit=True) as admin:
        admin.execute(f"create schema sms_retry authorization {app}")
        migrate(as_role(empty, app))
        admin.execute(f"grant all on schema sms_retry to {other}")
        admin.execute(f"grant all on all tables in schema sms_retry to {other}")
        with pytest.raises(MigrationError, match=f"belong to {app}: sign in as {app}, or `grant {app} to {other}`"):
            migrate(as_role(empty, other))

        # As Secrets Manager grants it to the second of two alternating users.
        admin.execute(f"grant {app} to {other}")
        migrate(as_role(empty, other))
        assert owners(admin) == {app}


SETTINGS = {
    "timeouts": ["statement_timeout = '50ms'", "idle_in_transaction_session_timeout = '50ms'"],
    "a lock timeout": ["lock_timeout = '1ms'"],
    "serializable": ["default_transaction_isolation = 'serializable'"],
    "repeatable read": ["default_transaction_isolation = 'repeatable read'"],
    "backslashes": ["standard_conforming_strings = off"],
    "quotes": ["quote_all_identifiers = on"],
    "a search path": ["search_path = 'sms_retry', 'public'"],
    "dates": ["datestyle = 'SQL, DMY'", "timezone = 'Asia/Kathmandu'", "intervalstyle = 'iso_8601'"],
    "an encoding": ["client_encoding = 'SQL_ASCII'"],
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=list(SETTINGS))
def test_two_migrations_at_once_work_under_every_setting_of_the_database(
    empty: str, release: Path, settings: list[str]
) -> None:
    with psycopg.connect(empty, autocommit=True) as admin:
        if settings == SETTINGS["timeouts"] and admin.info.server_version >= 170000:
            settings = [*settings, "transaction_timeout = '100ms'"]
        for setting in settings:
            admin.execute(f"alter database {admin.info.dbname} set {setting}")
    backslash = "create domain sms_retry.number as text check (value ~ '^\\+[1-9]+$');"
    _write(release, "migrations/0002_backslash.sql", backslash)
    _write(release, "functions/c_old.sql", CALLED.replace("b_called()", "c_old()"))
    migrate(empty, release)
    (release / "functions/c_old.sql").unlink()
    _write(release, "releases/0.1.0.txt", "sms_retry.c_old()\n")
    _write(release, "releases/0.2.0.txt", "")
    _write(release, "migrations/0003_slow.sql", "select pg_sleep(0.3); select '+1'::sms_retry.number;")

    done = in_parallel(2, lambda _: migrate(empty, release))

    assert sorted(each.migrations for each in done) == [(), ("0003_slow",)]
    assert sorted(each.dropped for each in done) == [(), ("sms_retry.c_old()",)]


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1", "WIN1252", "KOI8R"])
def test_a_database_of_another_encoding_than_utf8_is_refused(server: Server, worker_id: str, encoding: str) -> None:
    name = f"encoded_{encoding}_{worker_id}".lower()
    with psycopg.connect(server.url, autocommit=True) as admin:
        admin.execute(f"create database {name} encoding '{encoding}' template template0 locale 'C'")
        try:
            with pytest.raises(MigrationError, match=f"{name} has the encoding {encoding}, and texts need UTF8"):
                migrate(psycopg.conninfo.make_conninfo(server.url, dbname=name))
        finally:
            admin.execute(f"drop database {name} with (force)")


TWO_TABLES = """
alter table sms_retry.sms_messages add column new_{n} int;
alter table sms_retry.sms_retry_queue add column new_{n} int;
"""


def test_fifteen_migrations_of_two_tables_under_load_all_succeed(empty: str, tmp_path: Path) -> None:
    """Each changes the messages first, and then the queue: traffic locks them in the other order."""
    migrate(empty)
    over, sent = threading.Event(), count(1)

    def traffic(_: int) -> int:
        settled = 0
        with closing(Store(lambda: empty)) as store:
            while not over.is_set():
                message_id = take_in(store, next(sent))
                reports = [Report.accepted(claim.ticket, sid(claim.message_id)) for claim in store.claim_due(5)]
                settled += len(store.finish(reports))
                receipt(store, sid(message_id), "delivered")
        return settled

    with ThreadPoolExecutor(3) as pool:
        working = [pool.submit(traffic, n) for n in range(3)]
        try:
            for n in range(15):
                _write(tmp_path, f"migrations/{n + 1000}_two.sql", TWO_TABLES.format(n=n))
                assert migrate(empty, tmp_path).migrations == (f"{n + 1000}_two",)
        finally:
            over.set()
        settled = sum(work.result() for work in working)
    with psycopg.connect(empty) as db:
        accepted = db.execute("select count(*), count(distinct queue_id) from sms_retry.sms_attempts").fetchone()
    assert accepted == (settled, settled)
    assert settled > 15


def test_a_migration_waits_for_a_lock_and_fails_if_it_never_gets_it(
    empty: str, release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate(empty, release)
    monkeypatch.setattr("sms_retry.migrate.LOCK_TIMEOUT", "100ms")
    _write(release, "migrations/0002_second.sql", "alter table sms_retry.first add column at date;")
    with psycopg.connect(empty) as other, ThreadPoolExecutor(1) as pool:
        other.execute("select * from sms_retry.first")
        with monkeypatch.context() as impatient:
            impatient.setattr("sms_retry.migrate.PATIENCE", 0.0)
            with pytest.raises(
                MigrationError, match=r"0002_second.sql, line 1: canceling statement due to lock timeout"
            ):
                migrate(empty, release)
        migrating = pool.submit(migrate, empty, release)
        wait_until_blocked(other, by=other)
        wait_until(lambda: not one(other, "select exists (select from pg_locks where not granted)"))
        other.rollback()
        assert migrating.result().migrations == ("0002_second",)


def test_a_database_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sms_retry.migrate.CONNECT_TIMEOUT", 2)  # psycopg's least
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(psycopg.OperationalError, match="timeout"):
        migrate(f"postgresql://app@127.0.0.1:{silent.getsockname()[1]}/app")


def test_the_sql_is_found_beside_the_package_in_the_layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "python" / "sms_retry"
    package.mkdir(parents=True)
    shutil.copytree(sql_folder(), tmp_path / "sql")
    monkeypatch.setattr("sms_retry.migrate.__file__", str(package / "migrate.py"))
    assert sql_folder() == tmp_path / "sql"


def test_a_layer_without_sql_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / "a" / "b" / "c" / "sms_retry"
    monkeypatch.setattr("sms_retry.migrate.__file__", str(deep / "migrate.py"))
    with pytest.raises(MigrationError, match="build the layer again"):
        sql_folder()


def _write(release: Path, name: str, text: str) -> None:
    (release / name).parent.mkdir(exist_ok=True)
    (release / name).write_text(text)


def _everything(url: str) -> list[tuple[str, ...]]:
    """Every relation, column, function body and applied migration of the schema."""
    with psycopg.connect(url) as connection:
        found = connection.execute(
            """select 'column', c.relname, a.attname from pg_class c join pg_attribute a on a.attrelid = c.oid
            where c.relnamespace = to_regnamespace('sms_retry')
            union all
            select 'function', oid::regprocedure::text, prosrc from pg_proc
            where pronamespace = to_regnamespace('sms_retry')
            order by 1, 2, 3"""
        ).fetchall()
        if found:
            found += connection.execute("select 'applied', name from sms_retry.schema_migrations").fetchall()
    return found
