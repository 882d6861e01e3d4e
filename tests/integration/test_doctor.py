"""`python -m sms_retry doctor` on a real Postgres and the Twilio stand-in: it finds each fault of a deployment."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from local.postgres.pgbouncer import PROGRAM, pgbouncer
from local.postgres.server import Server
from local.twilio.rewriting import Rewriting
from local.twilio.senders import OwnNumber, OwnService
from local.twilio.stand_in import ACCOUNT_SID, AUTH_TOKEN, TwilioStandIn
from sms_retry.doctor import database, examine, look_at_database
from sms_retry.doctor.finding import Finding
from sms_retry.migrate import migrate
from tests.shell import command

OURS = "https://sms.example.com/twilio/inbound"
LOCAL, TOLL_FREE, ABROAD = "+14155550123", "+18005550123", "+447700900123"
SERVICE = "MG" + "0" * 32


@pytest.fixture
def environ(stand_in: TwilioStandIn, database_url: str) -> dict[str, str]:
    """A deployment without a fault, apart from the durability and the superuser of the test's server."""
    stand_in.senders.numbers[ABROAD] = OwnNumber(OURS)
    return {
        "DATABASE_URL": database_url,
        "TWILIO_ACCOUNT_SID": ACCOUNT_SID,
        "TWILIO_AUTH_TOKEN": AUTH_TOKEN,
        "TWILIO_SENDER": ABROAD,
        "TWILIO_API_URL": stand_in.url,
        "PUBLIC_WEBHOOK_URL": "https://sms.example.com",
    }


def found(environ: dict[str, str]) -> dict[str, Finding]:
    return {finding.check: finding for finding in examine(environ)}


def wrong(environ: dict[str, str], world: str = "twilio") -> dict[str, Finding]:
    findings = found(environ).items()
    return {check: each for check, each in findings if each.level == "wrong" and check.startswith(world)}


def test_a_deployment_without_a_fault_has_no_finding(environ: dict[str, str]) -> None:
    findings = found(environ)
    assert {check for check, each in findings.items() if each.level != "ok"} == {
        "database: owner",
        "database: synchronous_commit",
    }
    assert "twilio: sender +447700900123: replies" in findings


def test_a_wrong_token_is_found(environ: dict[str, str]) -> None:
    environ["TWILIO_AUTH_TOKEN"] = "another"
    assert "refuses it" in wrong(environ)["twilio: auth token"].fact


def test_a_suspended_account_is_found(environ: dict[str, str], stand_in: TwilioStandIn) -> None:
    stand_in.senders.status = "suspended"
    assert wrong(environ)["twilio: account"].fact == "The account is suspended."


@pytest.mark.parametrize("sender", ["+447700900124", "12345", SERVICE])
def test_a_sender_of_another_account_is_found(environ: dict[str, str], sender: str) -> None:
    environ["TWILIO_SENDER"] = sender
    assert wrong(environ)[f"twilio: sender {sender}"].fact == "It does not belong to this account."


@pytest.mark.parametrize(
    ("number", "fact"),
    [
        (OwnNumber("https://user:secret@crm.example.com/sms?key=secret"), "Replies go to https://crm.example.com/sms."),
        (OwnNumber(""), "Replies have no URL, so Twilio drops them."),
        (OwnNumber(OURS, "GET"), "Replies are sent by GET, which the API does not have."),
    ],
)
def test_an_inbound_webhook_that_leads_elsewhere_is_found(
    environ: dict[str, str], stand_in: TwilioStandIn, number: OwnNumber, fact: str
) -> None:
    stand_in.senders.numbers[ABROAD] = number
    finding = wrong(environ)[f"twilio: sender {ABROAD}: replies"]
    assert finding.fact == fact
    assert OURS in finding.to_do


def test_the_webhook_of_a_messaging_service_goes_before_that_of_its_number(
    environ: dict[str, str], stand_in: TwilioStandIn
) -> None:
    service = OwnService("https://crm.example.com/sms", numbers=(ABROAD,))
    stand_in.senders.services[SERVICE] = service
    assert f"twilio: sender {ABROAD}: replies" in wrong(environ)
    service.per_number = True
    assert wrong(environ) == {}


def test_a_messaging_service_is_looked_at_with_its_numbers(environ: dict[str, str], stand_in: TwilioStandIn) -> None:
    environ["TWILIO_SENDER"] = SERVICE
    stand_in.senders.numbers[LOCAL] = OwnNumber("https://crm.example.com/sms")
    stand_in.senders.services[SERVICE] = OwnService(OURS, numbers=(LOCAL,), campaigns=("VERIFIED",))
    assert wrong(environ) == {}
    assert "It is on" in found(environ)[f"twilio: sender {SERVICE}: Smart Encoding"].fact
    stand_in.senders.services[SERVICE].per_number = True
    assert f"twilio: sender {SERVICE}: {LOCAL}: replies" in wrong(environ)


@pytest.mark.parametrize(
    ("campaigns", "level"), [((), "warning"), (("IN_PROGRESS",), "warning"), (("FAILED",), "wrong")]
)
def test_a_number_of_the_united_states_without_a_verified_campaign_is_found(
    environ: dict[str, str], stand_in: TwilioStandIn, campaigns: tuple[str, ...], level: str
) -> None:
    environ["TWILIO_SENDER"] = SERVICE
    stand_in.senders.numbers[LOCAL] = OwnNumber(OURS)
    stand_in.senders.services[SERVICE] = OwnService(OURS, numbers=(LOCAL,), campaigns=campaigns)
    assert found(environ)[f"twilio: sender {SERVICE}: {LOCAL}: 10DLC"].level == level


@pytest.mark.parametrize(("state", "level"), [(None, "wrong"), ("IN_REVIEW", "wrong"), ("TWILIO_APPROVED", "ok")])
def test_a_toll_free_number_needs_its_verification(
    environ: dict[str, str], stand_in: TwilioStandIn, state: str | None, level: str
) -> None:
    environ["TWILIO_SENDER"] = TOLL_FREE
    stand_in.senders.numbers[TOLL_FREE] = OwnNumber(OURS, verification=state)
    assert found(environ)[f"twilio: sender {TOLL_FREE}: toll-free verification"].level == level


@pytest.mark.parametrize(("setting", "hidden"), [("redacted", "texts"), ("masked", "numbers")])
def test_redaction_is_found(environ: dict[str, str], stand_in: TwilioStandIn, setting: str, hidden: str) -> None:
    stand_in.behave(rewriting=replace(Rewriting(), **{setting: True}))
    post_one(stand_in)
    assert f"hides {hidden}" in wrong(environ)["twilio: redaction"].fact


def post_one(stand_in: TwilioStandIn) -> None:
    from sms_retry.settings import Credentials
    from sms_retry.twilio import open_clients

    with open_clients(stand_in.url) as client:
        twilio, _ = client(Credentials(ACCOUNT_SID, AUTH_TOKEN))
        twilio.messages.create(to=LOCAL, from_=ABROAD, body="Your table is ready.")


def test_an_outage_of_twilio_is_no_fault_and_stops_no_other_check(
    environ: dict[str, str], stand_in: TwilioStandIn
) -> None:
    stand_in.behave(down=True)
    findings = found(environ)
    assert findings["twilio: auth token"].level == "warning"
    assert "HTTP 503" in findings["twilio: auth token"].fact
    assert findings["database: encoding"].level == "ok"


def test_a_database_in_sql_ascii_is_found(server: Server, environ: dict[str, str]) -> None:
    name = "sms_retry_ascii"
    with psycopg.connect(server.url, autocommit=True) as db:
        db.execute(f"drop database if exists {name}")
        db.execute(f"create database {name} encoding 'SQL_ASCII' template template0 locale 'C'")
    environ["DATABASE_URL"] = environ["DATABASE_URL"].rpartition("/")[0] + f"/{name}"
    findings = wrong(environ, "database")
    with psycopg.connect(server.url, autocommit=True) as db:
        db.execute(f"drop database {name} with (force)")
    assert findings["database: encoding"].fact == "The encoding is SQL_ASCII."
    assert findings["database: schema"].fact == "The schema sms_retry is missing."


def test_a_missing_migration_and_a_missing_right_are_found(
    environ: dict[str, str], db: psycopg.Connection, migrated: str
) -> None:
    db.execute("create role reader login")
    try:
        db.execute("delete from sms_retry.schema_migrations where name = '0008_hours'")
        assert "0008_hours" in wrong(environ, "database")["database: migrations"].fact
        environ["DATABASE_URL"] += "?user=reader"
        db.execute("grant usage on schema sms_retry to reader")
        db.execute("grant select on all tables in schema sms_retry to reader")
        findings = found(environ)
        assert "update on sms_messages" in findings["database: rights"].fact
        assert findings["database: owner"].level == "warning"
    finally:
        db.execute("insert into sms_retry.schema_migrations (name) values ('0008_hours') on conflict do nothing")
        db.execute("drop owned by reader")
        db.execute("drop role reader")


@pytest.mark.skipif(PROGRAM is None, reason="pgbouncer is not installed (Debian's package `pgbouncer`)")
@pytest.mark.parametrize(
    ("mode", "size", "level"),
    [("transaction", "2", "ok"), ("session", "10", "warning"), ("session", "2", "wrong"), ("session", "1", "wrong")],
)
def test_a_pooler_in_session_mode_is_found_and_wrong_where_it_is_too_small(
    environ: dict[str, str], database_url: str, mode: str, size: str, level: str
) -> None:
    with pgbouncer(database_url, pool_mode=mode, default_pool_size=size) as bouncer:
        finding = found({**environ, "DATABASE_URL": bouncer.url, "MAX_WORKERS": "2"})["database: pooler"]
    assert (finding.level, mode in finding.fact) == (level, True)


def test_a_clock_that_differs_is_found(database_url: str) -> None:
    facts = look_at_database.look(database_url, 1)
    assert abs(facts.skew) < database.LARGEST_SKEW
    late = {each.check: each for each in database.judge(replace(facts, skew=-90.0))}
    assert late["database: clock"].level == "wrong"


def test_a_database_that_is_away_stops_no_other_check(environ: dict[str, str]) -> None:
    environ["DATABASE_URL"] = "postgresql://anna:secret@127.0.0.1:1/app"
    findings = found(environ)
    assert findings["database: connection"].level == "wrong"
    assert findings["twilio: auth token"].level == "ok"


def test_a_wrong_number_of_workers_is_found(environ: dict[str, str]) -> None:
    finding = found({**environ, "MAX_WORKERS": "many"})["database: connection"]
    assert finding.level == "wrong"
    assert "MAX_WORKERS must be a whole number from 1 to 50" in finding.fact


@pytest.fixture
def output(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)

    def run(*words: str) -> tuple[int, str]:
        code = command(["doctor", *words])
        return code, capsys.readouterr().out

    return run


def test_the_exit_code_is_1_where_a_check_is_wrong(output: Any) -> None:
    # The server of the tests loses commits in a crash.
    code, text = output()
    assert code == 1
    assert "wrong    database: synchronous_commit" in text
    code, text = output("--json")
    facts = json.loads(text)
    assert (code, facts["wrong"]) == (1, 1)
    assert {"check", "level", "fact", "to_do"} == set(facts["checks"][0])


def test_the_output_holds_no_secret(output: Any, stand_in: TwilioStandIn) -> None:
    stand_in.senders.numbers[ABROAD] = OwnNumber("https://user:hunter2@crm.example.com/sms?key=hunter2")
    _, text = output("--json")
    assert "hunter2" not in text
    assert AUTH_TOKEN not in text


def test_a_later_release_is_no_fault(environ: dict[str, str], db: psycopg.Connection) -> None:
    db.execute("insert into sms_retry.schema_migrations (name) values ('9999_later')")
    try:
        assert found(environ)["database: migrations"].level == "warning"
    finally:
        db.execute("delete from sms_retry.schema_migrations where name = '9999_later'")
    migrate(environ["DATABASE_URL"])
