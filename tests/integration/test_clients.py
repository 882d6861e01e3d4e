"""The clients of applications: they have the signatures of SQL, and the same results in each language."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import psycopg
import pytest

from clients.__main__ import FILES
from clients.entries import ENTRIES, Argument, Entry
from local.aws.container import ROOT
from local.postgres.server import Server
from sms_retry.migrate import migrate
from sms_retry.rights import APPLICATION_ENTRIES
from tests.tables import truncate_all

NODE_MODULES = os.pathsep.join([str(ROOT / "build/node/node_modules"), "/usr/share/nodejs"])
SIGNATURE = """
select proargnames, proargmodes::text[], array(
        select format_type(t.oid, null)
        from unnest(coalesce(proallargtypes, proargtypes::oid[])) with ordinality t (oid, place) order by place),
    pronargs - pronargdefaults, format_type(prorettype, null)
from pg_proc where pronamespace = 'sms_retry'::regnamespace and proname = %s
"""
TEXT = 'It\'s "50 %" \\ done, {now}; 100 €'
ALL_FIELDS = {
    "to_number": "+14155550123",
    "body": TEXT,
    "message_key": "booking-7",
    "business_id": "shop",
    "kind": "emergency",
    "on_unknown": "hold",
    "time_zone": "America/New_York",
    "scheduled_for": "2030-01-31T09:00:00+01:00",
    "expires_at": "2030-02-01T09:00:00.5+00:00",
    "error_code": 30001,
    "error_message": TEXT,
    "delays": ["5 minutes", "15 minutes"],
    "sender": "+15005550006",
    "batch": "spring",
    "media_urls": ["https://example.com/a,b.png", "https://example.com/{c}.png"],
    "content_sid": "HX" + "0" * 32,
    "content_variables": {"1": TEXT},
}
CALLS: list[tuple[str, dict[str, Any]]] = [
    ("set_sms_consent", {"business_id": "*", "phone_number": "+14155550199", "consent": "opted_out"}),
    ("queue_sms_retry", ALL_FIELDS),
    ("queue_sms_retry", {"to_number": "+14155550124", "body": TEXT}),
    ("queue_sms_retries", {"messages": [{"to": "+14155550125", "body": TEXT}, {"to": "x"}], "batch": "spring"}),
    ("sms_message_state", {"message_id": 1}),
    ("sms_message_state", {"message_id": 99}),
    ("cancel_sms_retry", {"message_id": 2}),
    ("cancel_sms_retry", {"message_id": 99}),
    ("sms_batch", {"batch": "spring"}),
    ("cancel_sms_batch", {"batch": "spring", "limit_count": 10}),
    ("take_sms_events", {"limit_count": 1, "lease": "5 minutes"}),
    ("take_sms_events", {}),
    ("done_sms_events", {"ids": [1, 2, 99]}),
]


def event(id: int, message_id: int, key: str | None, business: str, batch: str | None) -> dict[str, Any]:
    of_message = {"message_id": message_id, "message_key": key, "business_id": business, "batch": batch}
    return {"id": id, "type": "cancelled", **of_message, "reason": "called_off", "detail": None}


RESULTS = [
    0,
    1,
    2,
    [
        {"place": 1, "message_id": 3, "status": "queued", "fault": None},
        {"place": 2, "message_id": None, "status": None, "fault": "to_number"},
    ],
    [
        {
            "message_id": 1,
            "status": "queued",
            "provider_sid": None,
            "next_attempt_at": datetime.fromisoformat("2030-01-31T08:00:00+00:00"),
            "error_code": 30001,
        }
    ],
    [],
    "cancelled",
    None,
    [{"status": "queued", "messages": 2}],
    2,
    [event(1, 2, None, "default", None) | {"error_code": None}],
    [
        event(2, 1, "booking-7", "shop", "spring") | {"error_code": 30001},
        event(3, 3, None, "default", "spring") | {"error_code": None},
    ],
    2,
]


def driver_is_missing(check: list[str]) -> bool:
    environment = os.environ | {"NODE_PATH": NODE_MODULES}
    return not shutil.which(check[0]) or subprocess.run(check, env=environment, capture_output=True).returncode != 0


def program(language: str, check: list[str], *run: str) -> Any:
    return pytest.param(
        language,
        run,
        id=language,
        marks=pytest.mark.skipif(driver_is_missing(check), reason=f"{language} or its driver pg is not installed"),
    )


PROGRAMS = [
    pytest.param("python", (sys.executable, "tests/clients/call.py"), id="python"),
    program("node", ["node", "-e", "require('pg')"], "node", "tests/clients/call.mjs"),
    program("ruby", ["ruby", "-e", "require 'pg'"], "ruby", "-W", "tests/clients/call.rb"),
]


@pytest.fixture(scope="module")
def as_application(server: Server, worker_id: str) -> Iterator[tuple[psycopg.Connection, dict[str, str]]]:
    """The owner's connection to an empty database, and the environment of a role that has only APPLICATION_ROLES."""
    url, role = server.create_database(f"clients_{worker_id}"), f"client_{worker_id}"
    with psycopg.connect(url, autocommit=True) as owner:
        owner.execute(f'create role "{role}"')
        migrate(url, roles=[role])
        yield (
            owner,
            {"DATABASE_URL": url, "PGOPTIONS": f"-c role={role} -c timezone=Asia/Tokyo", "NODE_PATH": NODE_MODULES},
        )


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_the_table_has_the_signature_of_the_function(db: psycopg.Connection, entry: Entry) -> None:
    [(names, modes, types, required, returns)] = db.execute(SIGNATURE, [entry.name]).fetchall()
    columns = [(name, type) for name, mode, type in zip(names, modes or [], types, strict=False) if mode == "t"]
    arguments = list(zip(names, types, strict=True))[: len(names) - len(columns)]
    assert _named(entry.arguments) == [(name, _short(type)) for name, type in arguments]
    assert [argument.required for argument in entry.arguments] == [n < required for n in range(len(arguments))]
    assert _named(entry.columns) == [(name, _short(type)) for name, type in columns]
    assert entry.returns == (None if columns else returns)


def test_the_table_has_every_entry_of_applications() -> None:
    assert {entry.name for entry in ENTRIES} == set(APPLICATION_ENTRIES)


@pytest.mark.parametrize("name", FILES)
def test_a_client_is_as_make_clients_would_write_it(name: str) -> None:
    assert (ROOT / "clients" / name).read_text() == FILES[name](), "the table changed: run `make clients`"


@pytest.mark.parametrize(("language", "run"), PROGRAMS)
def test_a_client_calls_every_entry(
    as_application: tuple[psycopg.Connection, dict[str, str]], language: str, run: tuple[str, ...]
) -> None:
    owner, environment = as_application
    truncate_all(owner)
    owner.execute("select sms_retry.subscribe_sms_events(array['cancelled'])")
    [client] = [str(ROOT / "clients" / name) for name in FILES if name.startswith(f"{language}/")]

    done = subprocess.run(
        [*run, client], cwd=ROOT, env=os.environ | environment, input=json.dumps(CALLS), capture_output=True, text=True
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert {name for name, _ in CALLS} == set(APPLICATION_ENTRIES)
    assert _plain(json.loads(done.stdout)) == RESULTS
    assert stored(owner) == EXPECTED


EXPECTED = {
    **{name: ALL_FIELDS[name] for name in ALL_FIELDS if name not in ("scheduled_for", "expires_at", "delays")},
    "expires_at": datetime.fromisoformat("2030-02-01T09:00:00.5+00:00"),
}


def stored(db: psycopg.Connection) -> dict[str, Any]:
    """The first message, by the names of the arguments."""
    [row] = db.execute(f"select {', '.join(EXPECTED)} from sms_retry.sms_messages where id = 1").fetchall()
    return dict(zip(EXPECTED, row, strict=True))


def _named(arguments: tuple[Argument, ...]) -> list[tuple[str, str]]:
    return [(argument.name, argument.type) for argument in arguments]


def _short(type: str) -> str:
    return type.replace("timestamp with time zone", "timestamptz")


def _plain(value: Any) -> Any:
    """Results without the differences of languages: Node.js has ids as text, and instants have several spellings."""
    match value:
        case list():
            return [_plain(each) for each in value]
        case dict():
            return {name: _plain(each) for name, each in value.items() if name != "at"}
        case str() if re.fullmatch(r"\d+", value):
            return int(value)
        case str() if re.match(r"\d{4}-\d\d-\d\d[T ]", value):
            return datetime.fromisoformat(value.replace(" +", "+"))
        case str() if value.startswith("to_number must be"):
            return "to_number"
        case _:
            return value
