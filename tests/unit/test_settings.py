"""The environment: each Lambda reads only the variables that it uses, and reports every fault at once."""

from __future__ import annotations

import pytest

from sms_retry import runtime, settings
from sms_retry.settings import (
    Account,
    Asking,
    CleaningUp,
    Credentials,
    Database,
    Listening,
    Migrating,
    Publishing,
    Sender,
    Sending,
    SettingsError,
    Working,
)

TOKEN = "a-token-that-is-secret"
URL = "postgresql://app:a-password@127.0.0.1/app"
DATABASE = {"DATABASE_URL": URL}
ACCOUNT = {"TWILIO_ACCOUNT_SID": "AC1", "TWILIO_AUTH_TOKEN": TOKEN}
SENDER = {"TWILIO_SENDER": "+15005550006", "PUBLIC_WEBHOOK_URL": "https://sms.example.com"}
ALL = {**DATABASE, **ACCOUNT, **SENDER}
READERS = (settings.database, settings.asking, settings.listening, settings.sending, settings.working)

READ_DATABASE = Database(URL, None)
READ_ACCOUNT = Account("AC1", TOKEN, None, "https://api.twilio.com")
READ_SENDER = Sender("+15005550006", "https://sms.example.com", 20)


def test_a_sending_lambda_reads_database_account_and_sender() -> None:
    assert settings.sending(ALL) == Sending(READ_DATABASE, READ_ACCOUNT, READ_SENDER)


@pytest.mark.parametrize(("given", "most"), [({}, 1), ({"MAX_WORKERS": "50"}, 50)])
def test_a_worker_also_reads_the_number_of_workers(given: dict[str, str], most: int) -> None:
    assert settings.working({**ALL, **given}) == Working(READ_DATABASE, READ_ACCOUNT, READ_SENDER, most)


def test_each_lambda_needs_only_the_variables_that_it_uses() -> None:
    address = {"PUBLIC_WEBHOOK_URL": "https://sms.example.com"}
    assert settings.database(DATABASE) == READ_DATABASE
    assert settings.asking({**DATABASE, **ACCOUNT}) == Asking(READ_DATABASE, READ_ACCOUNT)
    for environ, stage in ((address, {}), ({}, address)):
        assert settings.listening({**DATABASE, **ACCOUNT, **environ}, stage) == Listening(
            READ_DATABASE, READ_ACCOUNT, ("https://sms.example.com",)
        )


@pytest.mark.parametrize(
    ("given", "days"),
    [
        ({}, None),
        ({"ERASE_BODY_AFTER_DAYS": ""}, None),
        ({"ERASE_BODY_AFTER_DAYS": "3"}, 3),
        ({"ERASE_BODY_AFTER_DAYS": "0"}, 0),
    ],
)
def test_texts_are_erased_only_if_the_environment_has_a_number_of_days(given: dict[str, str], days: int | None) -> None:
    assert settings.cleaning_up({**DATABASE, **given}) == CleaningUp(READ_DATABASE, days)


@pytest.mark.parametrize("wrong", ["8", "-1", "1.5", "a week"])
def test_texts_are_erased_after_at_most_seven_days(wrong: str) -> None:
    with pytest.raises(SettingsError, match="ERASE_BODY_AFTER_DAYS must be a whole number from 0 to 7") as raised:
        settings.cleaning_up({"ERASE_BODY_AFTER_DAYS": wrong})
    assert "DATABASE_URL" in str(raised.value)


@pytest.mark.parametrize(("given", "days"), [("", None), ("7", 7), ("3650", 3650)])
def test_messages_are_removed_only_if_the_environment_has_a_number_of_days(given: str, days: int | None) -> None:
    assert settings.cleaning_up({**DATABASE, "KEEP_MESSAGES_DAYS": given}).keep_messages == days


@pytest.mark.parametrize(("given", "seconds"), [({}, 0), ({"LINGER_SECONDS": "50"}, 50)])
def test_a_worker_lingers_only_if_the_environment_says_so(given: dict[str, str], seconds: int) -> None:
    assert settings.working({**ALL, **given}).linger_seconds == seconds


@pytest.mark.parametrize(
    ("given", "numbers"), [("", ()), ("+1", ("+1",)), ("+1, +447700900123", ("+1", "+447700900123"))]
)
def test_only_to_names_the_numbers_that_may_get_a_message(given: str, numbers: tuple[str, ...]) -> None:
    for reader in (settings.sending, settings.working):
        assert reader({**ALL, "ONLY_TO": given}).sender.only_to == numbers


def test_the_webhook_believes_its_current_address_the_apis_own_and_each_former_one() -> None:
    former = {"FORMER_WEBHOOK_URLS": "https://old.example.com/, https://older.example.com, https://own.example.com"}
    read = settings.listening({**ALL, **former}, {"PUBLIC_WEBHOOK_URL": "https://own.example.com"})
    assert read.addresses == (
        "https://sms.example.com",
        "https://own.example.com",
        "https://old.example.com",
        "https://older.example.com",
    )


def test_the_webhook_needs_an_address() -> None:
    with pytest.raises(SettingsError, match="PUBLIC_WEBHOOK_URL is not set"):
        settings.listening({**DATABASE, **ACCOUNT, "FORMER_WEBHOOK_URLS": "https://old.example.com"})


def test_a_publisher_reads_the_event_bus() -> None:
    environ = {**DATABASE, "EVENT_BUS_NAME": "texts", "LINGER_SECONDS": "50"}
    assert settings.publishing(environ) == Publishing(READ_DATABASE, "texts", 50)
    with pytest.raises(SettingsError, match="EVENT_BUS_NAME is not set"):
        settings.publishing(DATABASE)


def test_a_migration_reads_event_types_and_the_roles_of_applications() -> None:
    assert settings.migrating(DATABASE) == Migrating(READ_DATABASE, (), ())
    environ = {**DATABASE, "EVENT_TYPES": "delivered,reply", "APPLICATION_ROLES": "shop, crm"}
    assert settings.migrating(environ) == Migrating(READ_DATABASE, ("delivered", "reply"), ("shop", "crm"))


@pytest.mark.parametrize(
    ("name", "owner"),
    [("MIGRATION_URL", Database("of the owner", None)), ("MIGRATION_SECRET_ARN", Database(None, "of the owner"))],
)
def test_a_migration_may_sign_in_as_another_role_than_the_other_functions(name: str, owner: Database) -> None:
    assert settings.migrating({**DATABASE, name: "of the owner"}) == Migrating(READ_DATABASE, (), (), owner)


@pytest.mark.parametrize(
    ("reader", "name", "wrong"),
    [
        (settings.working, "LINGER_SECONDS", "61"),
        (settings.cleaning_up, "KEEP_MESSAGES_DAYS", "6"),
        # An entry that is lost to a slip must not open a list to everybody.
        (settings.sending, "ONLY_TO", ","),
        (settings.sending, "ONLY_TO", "FILL-IN"),
        (settings.sending, "ONLY_TO", "+1,"),
        (settings.sending, "ONLY_TO", "+"),
        (settings.listening, "FORMER_WEBHOOK_URLS", "old.example.com"),
        (settings.listening, "FORMER_WEBHOOK_URLS", "https://old.example.com/twilio"),
        (settings.migrating, "EVENT_TYPES", "sent"),
        (settings.migrating, "APPLICATION_ROLES", "PUBLIC"),
        (settings.migrating, "APPLICATION_ROLES", 'shop"; drop'),
    ],
)
def test_an_invalid_entry_of_a_list_is_reported(reader: object, name: str, wrong: str) -> None:
    assert callable(reader)
    with pytest.raises(SettingsError, match=f": {name} must be"):
        reader({**ALL, name: wrong})


def test_the_arn_of_a_secret_replaces_the_variables_that_the_secret_holds() -> None:
    read = settings.asking({"DATABASE_SECRET_ARN": "arn:1", "TWILIO_SECRET_ARN": "arn:2"})
    assert read.database == Database(None, "arn:1")
    assert read.account == Account(None, None, "arn:2", "https://api.twilio.com")


def test_credentials_ignore_the_other_fields_of_a_secret() -> None:
    secret = {"account_sid": "AC1", "auth_token": "a", "next_auth_token": "b", "owner": "billing"}
    credentials = Credentials.of(secret)
    assert credentials == Credentials("AC1", "a", next_auth_token="b")
    assert credentials.signing_tokens == ("a", "b")


@pytest.mark.parametrize("absent", ["", "  ", None])
def test_every_missing_variable_is_named_at_once(absent: str | None) -> None:
    environ = {} if absent is None else dict.fromkeys(ALL, absent)
    with pytest.raises(SettingsError) as raised:
        settings.sending(environ)
    for name in [*ALL, "DATABASE_SECRET_ARN", "TWILIO_SECRET_ARN"]:
        assert name in str(raised.value)


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.__name__)
@pytest.mark.parametrize("name", ["DATABASE_URL", "TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN"])
def test_a_single_missing_variable_is_the_only_one_named(reader: object, name: str) -> None:
    if reader is settings.database and name != "DATABASE_URL":
        return
    assert callable(reader)
    with pytest.raises(SettingsError, match=name) as raised:
        reader({key: value for key, value in ALL.items() if key != name})
    assert ";" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("TWILIO_SENDER", "15005550006"),
        ("TWILIO_SENDER", "Twelve_signs"),
        ("TWILIO_SENDER", "+1 500"),
        ("PUBLIC_WEBHOOK_URL", "sms.example.com"),
        ("PUBLIC_WEBHOOK_URL", "https://"),
        ("PUBLIC_WEBHOOK_URL", "https://sms.example.com?a=b"),
        ("PUBLIC_WEBHOOK_URL", "https://sms.example.com#rc=3"),
        ("TWILIO_API_URL", "ftp://127.0.0.1"),
        ("SEND_CONCURRENCY", "0"),
        ("SEND_CONCURRENCY", "201"),
        ("SEND_CONCURRENCY", "-5"),
        ("SEND_CONCURRENCY", "many"),
        ("SEND_CONCURRENCY", "2.5"),
        ("MAX_WORKERS", "0"),
        ("MAX_WORKERS", "51"),
    ],
)
def test_an_invalid_value_is_named_and_no_secret_is_quoted(name: str, wrong: str) -> None:
    with pytest.raises(SettingsError, match=f": {name} must be") as raised:
        settings.working({**ALL, name: wrong})
    assert TOKEN not in str(raised.value)
    assert "a-password" not in str(raised.value)


def test_invalid_and_missing_variables_are_named_together() -> None:
    invalid = {"TWILIO_SENDER": "+me", "SEND_CONCURRENCY": "x", "MAX_WORKERS": "y"}
    with pytest.raises(
        SettingsError,
        match=r"MAX_WORKERS must be .*; TWILIO_SENDER must be .*; PUBLIC_WEBHOOK_URL is not set; SEND_CONCURRENCY",
    ):
        settings.working({**DATABASE, **ACCOUNT, **invalid})


def test_a_slash_at_the_end_of_a_url_is_removed() -> None:
    environ = {**ALL, "PUBLIC_WEBHOOK_URL": "https://sms.example.com/", "TWILIO_API_URL": "http://127.0.0.1:8080/"}
    read = settings.sending(environ)
    assert (read.account.api_url, read.sender.webhook_url) == ("http://127.0.0.1:8080", "https://sms.example.com")


@pytest.mark.parametrize("sender", ["+15005550006", "MG" + "0" * 32, "12345", "Parcels"])
def test_a_sender_is_a_number_or_a_messaging_service(sender: str) -> None:
    assert settings.sending({**ALL, "TWILIO_SENDER": sender}).sender.sender == sender


@pytest.mark.parametrize(
    ("event", "address"),
    [
        # A function URL: AWS routes a request by the id in its host.
        (
            {"apiId": "b2c3", "domainName": "b2c3.lambda-url.eu-west-1.on.aws"},
            "https://b2c3.lambda-url.eu-west-1.on.aws",
        ),
        # Another host than its own, and hosts that are no function URL.
        ({"apiId": "b2c3", "domainName": "c3b2.lambda-url.eu-west-1.on.aws"}, None),
        ({"apiId": "b2c3", "domainName": "b2c3.lambda-url.eu-west-1.on.aws.example.com"}, None),
        ({"apiId": "b2c3", "domainName": "b2c3.execute-api.eu-west-1.amazonaws.com"}, None),
        ({"apiId": "b2c3", "domainName": ["b2c3.lambda-url.eu-west-1.on.aws"]}, None),
        ({"apiId": None}, None),
        (None, None),
    ],
)
def test_the_address_of_a_function_url_is_that_of_its_event(event: object, address: str | None) -> None:
    assert runtime.stage_of({"requestContext": event}) == (address and {"PUBLIC_WEBHOOK_URL": address})
    # An API has variables of its stage, and the host of its event is the caller's.
    stage = {"PUBLIC_WEBHOOK_URL": "https://a1b2.execute-api.eu-west-1.amazonaws.com"}
    assert runtime.stage_of({"requestContext": event, "stageVariables": stage}) == stage
