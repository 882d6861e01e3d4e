"""An application's role: it queues and cancels messages and takes events, reads no table and erases no person."""

from __future__ import annotations

import re
from collections.abc import Iterator

import psycopg
import pytest
from psycopg.errors import InsufficientPrivilege

from local.aws.container import ROOT
from local.postgres.server import Server
from sms_retry.migrate import MigrationError, migrate
from sms_retry.rights import APPLICATION_ENTRIES

ALLOWED = {
    "queue_sms_retry": "sms_retry.queue_sms_retry('+14155550123', 'Hello.')",
    "queue_sms_retries": """sms_retry.queue_sms_retries('[{"to": "+14155550123", "body": "Hello."}]', 'spring')""",
    "cancel_sms_retry": "sms_retry.cancel_sms_retry(1)",
    "cancel_sms_batch": "sms_retry.cancel_sms_batch('spring')",
    "sms_batch": "sms_retry.sms_batch('spring')",
    "set_sms_consent": "sms_retry.set_sms_consent('shop', '+14155550123', 'opted_in')",
    "sms_message_state": "sms_retry.sms_message_state(1)",
    "take_sms_events": "sms_retry.take_sms_events()",
    "done_sms_events": "sms_retry.done_sms_events(array[1])",
}


@pytest.fixture(scope="module")
def allowed(server: Server, worker_id: str) -> Iterator[psycopg.Connection]:
    """A connection as a role that has nothing but APPLICATION_ROLES."""
    url, role = server.create_database(f"rights_{worker_id}"), f"application_{worker_id}"
    with psycopg.connect(url, autocommit=True) as owner:
        owner.execute(f'create role "{role}"')
        migrate(url, roles=[role], event_types=["cancelled"])
        migrate(url, roles=[role], event_types=["cancelled"])
        owner.execute(f'set role "{role}"')
        yield owner
        owner.execute("reset role")


def test_every_entry_is_tried() -> None:
    assert set(APPLICATION_ENTRIES) == ALLOWED.keys()


@pytest.mark.parametrize("entry", ALLOWED)
def test_the_role_may_call_the_entries_of_applications(allowed: psycopg.Connection, entry: str) -> None:
    allowed.execute(f"select * from {ALLOWED[entry]}")


def test_the_role_may_execute_no_other_function(allowed: psycopg.Connection) -> None:
    rows = allowed.execute(
        """select proname from pg_proc p
        where pronamespace = 'sms_retry'::regnamespace and has_function_privilege(current_user, p.oid, 'execute')"""
    )
    assert {name for (name,) in rows} == set(APPLICATION_ENTRIES)
    with pytest.raises(InsufficientPrivilege):
        allowed.execute("select sms_retry.erase_sms_recipient('+14155550123')")


def test_the_role_may_read_and_change_no_table(allowed: psycopg.Connection) -> None:
    rows = allowed.execute(
        """select relname from pg_class where relnamespace = 'sms_retry'::regnamespace and relkind in ('r', 'S', 'v')
        and has_table_privilege(current_user, oid, 'select, insert, update, delete, truncate, references, trigger')"""
    )
    assert rows.fetchall() == []
    with pytest.raises(InsufficientPrivilege):
        allowed.execute("select body from sms_retry.sms_messages")


def test_every_entry_has_the_rights_of_its_owner_and_a_pinned_search_path(allowed: psycopg.Connection) -> None:
    rows = allowed.execute(
        """select proname, 'search_path=sms_retry, pg_temp' = any (proconfig) from pg_proc
        where pronamespace = 'sms_retry'::regnamespace and prosecdef"""
    )
    assert set(rows.fetchall()) == {(name, True) for name in APPLICATION_ENTRIES}


def test_a_role_that_does_not_exist_is_named_and_nothing_changes(server: Server, worker_id: str) -> None:
    url = server.create_database(f"no_role_{worker_id}")
    with pytest.raises(MigrationError, match='the role "nowhere" of APPLICATION_ROLES does not exist'):
        migrate(url, roles=["nowhere"])
    with psycopg.connect(url) as connection:
        assert connection.execute("select to_regnamespace('sms_retry')").fetchone() == (None,)


def test_the_role_may_run_the_example_of_the_readme(allowed: psycopg.Connection) -> None:
    readme = (ROOT / "README.md").read_text()
    examples = re.findall(r"```sql\n(select sms_retry\.queue_sms_retry.*?;)\n```", readme, re.DOTALL)
    assert len(examples) == 1
    assert allowed.execute(examples[0]).fetchone() is not None
