"""The examples of docs/clients.md run, and each message belongs to the transaction of its booking."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from collections.abc import Callable
from importlib import util
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from local.aws.container import ROOT
from tests.integration.examples import count, one
from tests.integration.test_clients import NODE_MODULES, driver_is_missing

PAGE = (ROOT / "docs" / "clients.md").read_text()
NODE_CLIENT = ROOT / "clients/node/sms_retry_client.mjs"
TYPESCRIPT = ROOT / "build/node/node_modules/.bin/tsc"


class Crash(Exception):
    """The application fails before its commit."""


def example(heading: str, language: str) -> str:
    [block] = re.findall(rf"## {heading}\n.*?```{language}\n(.*?)```", PAGE, re.DOTALL)
    return str(block)


def confirm_of(heading: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """The function `confirm` of an example in Python."""
    spec = util.spec_from_file_location("sms_retry_client", ROOT / "clients/python/sms_retry_client.py")
    assert spec
    assert spec.loader
    client = util.module_from_spec(spec)
    spec.loader.exec_module(client)
    monkeypatch.setitem(sys.modules, "sms_retry_client", client)
    names: dict[str, Any] = {}
    exec(example(heading, "python"), names)
    confirm: Callable[..., None] = names["confirm"]
    return confirm


def booking(id: int, save: Callable[[], None] = lambda: None) -> SimpleNamespace:
    return SimpleNamespace(pk=id, phone="+14155550123", save=save)


def crash() -> None:
    raise Crash


def test_the_example_for_sqlalchemy(db: psycopg.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sqlalchemy, orm = pytest.importorskip("sqlalchemy"), pytest.importorskip("sqlalchemy.orm")
    confirm = confirm_of("SQLAlchemy", monkeypatch)
    engine = sqlalchemy.create_engine(database_url.replace("postgresql://", "postgresql+psycopg://"))
    with orm.Session(engine) as session:
        confirm(session, booking(7))
    with orm.Session(engine) as session:
        monkeypatch.setattr(session, "commit", crash)
        with pytest.raises(Crash):
            confirm(session, booking(8))
    engine.dispose()
    assert one(db, "select string_agg(message_key, ' ') from sms_retry.sms_messages") == "booking-7-ready"


def test_the_example_for_django(db: psycopg.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    conf, django_db = pytest.importorskip("django.conf"), pytest.importorskip("django.db")
    info = psycopg.conninfo.conninfo_to_dict(database_url)
    names = {"dbname": "NAME", "host": "HOST", "port": "PORT", "user": "USER", "password": "PASSWORD"}
    database = {names[name]: str(value) for name, value in info.items() if name in names}
    conf.settings.configure(DATABASES={"default": {"ENGINE": "django.db.backends.postgresql", **database}})
    importlib.import_module("django").setup()
    confirm = confirm_of("Django", monkeypatch)
    confirm(booking(7))

    @django_db.transaction.atomic
    def crash_after(unsent: SimpleNamespace) -> None:
        confirm(unsent)
        crash()

    with pytest.raises(Crash):
        crash_after(booking(8))
    django_db.connection.close()
    assert one(db, "select string_agg(message_key, ' ') from sms_retry.sms_messages") == "booking-7-ready"


def test_the_example_for_supabase(db: psycopg.Connection) -> None:
    db.execute("create table public.bookings (id bigint primary key, phone text, confirmed boolean)")
    try:
        db.execute("insert into public.bookings values (7, '+14155550123', false)")
        db.execute(example("Supabase", "sql").split("grant ")[0])
        assert one(db, "select public.confirm_booking(booking_id => 7)") == 1
        assert one(db, "select public.confirm_booking(booking_id => 7)") == 1
        assert one(db, "select confirmed from public.bookings") is True
        assert count(db, "sms_messages") == 1
    finally:
        db.execute("drop table public.bookings; drop function if exists public.confirm_booking")


@pytest.mark.skipif(driver_is_missing(["node", "-e", "require('pg')"]), reason="node or its driver pg is not installed")
def test_the_example_for_node(db: psycopg.Connection, database_url: str) -> None:
    db.execute("create table public.bookings (id bigint primary key, confirmed boolean)")
    program = (
        example("Node.js", "js").replace('"./sms_retry_client.mjs"', f'"{NODE_CLIENT}"').replace("export ", "")
        + 'import { createRequire } from "node:module";'
        + f'const {{ Client }} = createRequire("{NODE_CLIENT}")("pg");'
        + f'const client = new Client({{ connectionString: "{database_url}" }});'
        + 'await client.connect(); await confirm(client, { id: 7, phone: "+14155550123" }); await client.end();'
    )
    command = ["node", "--input-type=module", "-e", program]
    try:
        subprocess.run(command, check=True, env={"PATH": "/usr/bin:/usr/local/bin", "NODE_PATH": NODE_MODULES})
    finally:
        db.execute("drop table public.bookings")
    assert one(db, "select message_key from sms_retry.sms_messages") == "booking-7-ready"


@pytest.mark.skipif(not TYPESCRIPT.exists(), reason="typescript is not installed in build/node")
def test_the_types_of_the_client_for_node_are_right() -> None:
    strict = ["--allowJs", "--checkJs", "--strict", "--noEmit", "--target", "es2022", "--module", "nodenext"]
    done = subprocess.run([TYPESCRIPT, *strict, NODE_CLIENT], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
