"""The migrator: all or nothing, repeatable, and an error names its file and line."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from local.postgres.server import Server
from sms_retry.migrate import MigrationError, migrate, sql_folder
from tests import released
from tests.integration.examples import in_parallel, one

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
