"""The runtime role: it does all that the functions of the service do, and can do nothing else in the schema."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest
from psycopg.errors import InsufficientPrivilege

from local.postgres.server import Server
from local.stack import stack as local_stack
from sms_retry.doctor import look_at_database
from sms_retry.doctor.database import judge
from sms_retry.migrate import MigrationError, migrate, role_of
from sms_retry.rights import RUNTIME_COLUMNS, RUNTIME_ENTRIES
from sms_retry.store import Store
from tests.integration.examples import take_in
from tests.integration.life import life
from tests.runtime_role import runtime_login
from tests.tables import truncate_all

RIGHTS_TO_TABLES = """
select c.relname from pg_class c
where c.relnamespace = 'sms_retry'::regnamespace and (
    c.relkind in ('r', 'v', 'p', 'm')
        and (has_table_privilege(c.oid, 'select, insert, update, delete, truncate, references, trigger')
            or has_any_column_privilege(c.oid, 'insert, update, references'))
    or c.relkind = 'S' and has_sequence_privilege(c.oid, 'usage, select, update'))
"""
READABLE = """
select relname, attname from pg_class c join pg_attribute a on attrelid = c.oid and attnum > 0 and not attisdropped
where relnamespace = 'sms_retry'::regnamespace and relkind in ('r', 'v', 'p', 'm')
    and has_column_privilege(c.oid, attnum, 'select')
"""
EXECUTABLE = """
select distinct proname from pg_proc
where pronamespace = 'sms_retry'::regnamespace and has_function_privilege(current_user, oid, 'execute')
"""
WITH_RIGHTS_OF_THE_OWNER = """
select proname, 'search_path=sms_retry, pg_temp' = any (proconfig) from pg_proc
where pronamespace = 'sms_retry'::regnamespace and prosecdef
"""
FORBIDDEN = {
    "read a text": "select body from sms_retry.sms_messages",
    "fake a message": "insert into sms_retry.sms_messages (to_number, body) values ('+14155550123', 'Hello.')",
    "change a status": "update sms_retry.sms_messages set status = 'sent'",
    "lock a table": "begin; lock table sms_retry.sms_messages",
    "read the log of actions": "select * from sms_retry.sms_actions",
    "add to the log of actions directly": "insert into sms_retry.sms_actions (actor, action) values ('anna', 'erase')",
    "change the log of actions": "update sms_retry.sms_actions set actor = 'anna'",
    "delete from the log of actions": "delete from sms_retry.sms_actions",
    "truncate the log of actions": "truncate sms_retry.sms_actions",
    "drop the log of actions": "drop table sms_retry.sms_actions",
    "stop the log by a trigger": "create trigger stop before insert on sms_retry.sms_actions execute function f()",
    "open the log": "grant all on sms_retry.sms_actions to public",
    "replace a function": """create or replace function sms_retry.note_sms_action(text, text, text, text) returns text
        language sql return $4""",
    "drop a function": "drop function sms_retry.note_sms_action",
    "call an internal function": "select sms_retry.sms_number('+14155550123')",
    "change the types of events": "select sms_retry.subscribe_sms_events('{delivered}')",
    "create a table in the schema": "create table sms_retry.mine ()",
    "forget a migration": "delete from sms_retry.schema_migrations",
    "drop the schema": "drop schema sms_retry cascade",
}


@pytest.fixture(scope="module")
def url(server: Server, worker_id: str) -> str:
    return server.create_database(f"runtime_role_{worker_id}")


@pytest.fixture(scope="module")
def runtime_url(url: str) -> Iterator[str]:
    with runtime_login(url) as runtime_url:
        migrate(url, runtime_role=role_of(runtime_url))
        migrate(url, runtime_role=role_of(runtime_url))
        yield runtime_url


@pytest.fixture(scope="module")
def runtime(runtime_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(runtime_url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def owner(url: str, runtime_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(url, autocommit=True) as connection:
        truncate_all(connection)
        yield connection


def test_a_message_has_the_same_life_as_with_the_owner(
    server: Server, worker_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with local_stack(server.create_database(f"life_owner_{worker_id}")) as stack:
        expected = life(stack, capsys)
    url = server.create_database(f"life_runtime_{worker_id}")
    with runtime_login(url) as runtime_url, local_stack(url, runtime_url=runtime_url) as stack:
        assert life(stack, capsys) == expected


@pytest.mark.parametrize("deed", FORBIDDEN)
def test_the_role_may_not(runtime: psycopg.Connection, owner: psycopg.Connection, deed: str) -> None:
    with pytest.raises(InsufficientPrivilege):
        runtime.execute(FORBIDDEN[deed])
    runtime.rollback()


def test_the_role_may_read_its_columns_and_change_no_table(runtime: psycopg.Connection) -> None:
    assert runtime.execute(RIGHTS_TO_TABLES).fetchall() == []
    columns = {(table, column) for table, columns in RUNTIME_COLUMNS.items() for column in columns}
    assert set(runtime.execute(READABLE).fetchall()) == columns


def test_the_role_may_execute_its_entries_and_no_other_function(runtime: psycopg.Connection) -> None:
    assert {name for (name,) in runtime.execute(EXECUTABLE)} == set(RUNTIME_ENTRIES)


def test_every_entry_has_the_rights_of_its_owner_and_a_pinned_search_path(runtime: psycopg.Connection) -> None:
    assert set(runtime.execute(WITH_RIGHTS_OF_THE_OWNER).fetchall()) == {(name, True) for name in RUNTIME_ENTRIES}


def test_the_role_adds_to_the_log_of_actions_by_its_function(runtime_url: str, owner: psycopg.Connection) -> None:
    with closing(Store(lambda: runtime_url)) as store:
        store.note_action("anna", "search", "a number", "1")
        assert store.session_user() == role_of(runtime_url)
    rows = owner.execute("select actor, action, subject, result from sms_retry.sms_actions").fetchall()
    assert rows == [("anna", "search", "a number", "1")]


def test_the_doctor_finds_nothing_wrong_as_the_role(runtime_url: str) -> None:
    found = look_at_database.look(runtime_url, wanted=1)
    findings = {each.check: each.level for each in judge(found)}
    assert {findings[f"database: {check}"] for check in ("owner", "rights", "migrations")} == {"ok"}
    assert look_at_database.senders(runtime_url) == []


def test_the_doctor_names_functions_that_the_role_may_not_execute(runtime_url: str, owner: psycopg.Connection) -> None:
    role = role_of(runtime_url)
    owner.execute(f"revoke execute on function sms_retry.count_due_sms from {role}")
    findings = {each.check: each for each in judge(look_at_database.look(runtime_url, wanted=1))}
    owner.execute(f"grant execute on function sms_retry.count_due_sms to {role}")
    assert "execute on 1 functions of sms_retry" in findings["database: rights"].fact
    assert findings["database: owner"].level == "warning"


def test_the_role_cannot_migrate(runtime_url: str, owner: psycopg.Connection) -> None:
    with pytest.raises(MigrationError, match="its tables belong to"):
        migrate(runtime_url)


@pytest.mark.parametrize(
    "granted", ["{owner}", "pg_write_all_data", "update on sms_retry.sms_actions", "delete on sms_retry.sms_messages"]
)
def test_a_role_that_may_change_a_table_is_refused(url: str, owner: psycopg.Connection, granted: str) -> None:
    right = granted.format(owner=owner.info.user)
    with runtime_login(url) as login:
        owner.execute(f"grant {right} to {role_of(login)}")
        with pytest.raises(MigrationError, match="may change the tables of"):
            migrate(url, runtime_role=role_of(login))


def test_the_owner_as_the_runtime_role_is_refused_and_nothing_changes(server: Server, worker_id: str) -> None:
    url = server.create_database(f"runtime_owner_{worker_id}")
    with pytest.raises(MigrationError, match="may change the tables of"):
        migrate(url, runtime_role=role_of(url))
    with psycopg.connect(url) as connection:
        assert connection.execute("select to_regnamespace('sms_retry')").fetchone() == (None,)


def test_a_function_of_another_program_keeps_its_rights(server: Server, worker_id: str) -> None:
    url = server.create_database(f"runtime_guest_{worker_id}")
    migrate(url)
    with psycopg.connect(url, autocommit=True) as db, runtime_login(url) as runtime_url:
        db.execute("create function sms_retry.count_due_sms(text) returns int language sql return 1")
        migrate(url, runtime_role=role_of(runtime_url))
        guest = "'sms_retry.count_due_sms(text)'::regprocedure"
        assert db.execute(f"select prosecdef from pg_proc where oid = {guest}").fetchone() == (False,)
        rights = db.execute(f"select has_function_privilege(%s, {guest}, 'execute')", [role_of(runtime_url)])
        assert rights.fetchone() == (False,)


def test_the_owner_alone_remains_where_the_role_is_left_out_again(server: Server, worker_id: str) -> None:
    url = server.create_database(f"runtime_left_{worker_id}")
    with runtime_login(url) as runtime_url:
        migrate(url, runtime_role=role_of(runtime_url))
        migrate(url)
        with closing(Store(lambda: runtime_url)) as store, pytest.raises(InsufficientPrivilege):
            store.has_due()
        with closing(Store(lambda: url)) as store:
            take_in(store)
            assert len(store.claim_due(1)) == 1
