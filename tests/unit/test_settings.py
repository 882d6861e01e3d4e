"""The environment: each Lambda asks for what it uses, and everything missing or wrong is named at once."""

from __future__ import annotations

import pytest

from sms_retry import settings
from sms_retry.settings import Account, Database, Sender, SettingsError

TOKEN = "a-token-that-is-secret"
URL = "postgresql://app:a-password@127.0.0.1/app"
DATABASE = {"DATABASE_URL": URL}
ACCOUNT = {"TWILIO_ACCOUNT_SID": "AC1", "TWILIO_AUTH_TOKEN": TOKEN}
SENDER = {"TWILIO_SENDER": "+15005550006", "PUBLIC_WEBHOOK_URL": "https://sms.example.com"}
ALL = {**DATABASE, **ACCOUNT, **SENDER}
READERS = (settings.database, settings.asking, settings.listening, settings.sending)


def test_what_a_sending_lambda_needs() -> None:
    assert settings.sending(ALL) == (
        Database(URL, None),
        Account("AC1", TOKEN, None, "https://api.twilio.com"),
        Sender("+15005550006", "https://sms.example.com", 20),
    )


def test_each_lambda_asks_only_for_what_it_uses() -> None:
    assert settings.database(DATABASE) == Database(URL, None)
    assert settings.asking({**DATABASE, **ACCOUNT})[1].account_sid == "AC1"
    assert settings.listening({**DATABASE, **ACCOUNT, **SENDER})[2] == "https://sms.example.com"


@pytest.mark.parametrize(
    ("given", "days"), [({}, None), ({"ERASE_BODY_AFTER_DAYS": ""}, None), ({"ERASE_BODY_AFTER_DAYS": "3"}, 3)]
)
def test_texts_are_erased_only_where_it_is_asked_for(given: dict[str, str], days: int | None) -> None:
    assert settings.cleaning({**DATABASE, **given}) == (Database(URL, None), days)


@pytest.mark.parametrize("wrong", ["0", "8", "-1", "1.5", "a week"])
def test_texts_are_erased_after_one_to_seven_days(wrong: str) -> None:
    with pytest.raises(SettingsError, match="ERASE_BODY_AFTER_DAYS must be a whole number from 1 to 7") as refused:
        settings.cleaning({"ERASE_BODY_AFTER_DAYS": wrong})
    assert "DATABASE_URL" in str(refused.value)


def test_a_secret_stands_for_what_it_holds() -> None:
    database, account = settings.asking({"DATABASE_SECRET_ARN": "arn:1", "TWILIO_SECRET_ARN": "arn:2"})
    assert database == Database(None, "arn:1")
    assert account == Account(None, None, "arn:2", "https://api.twilio.com")


@pytest.mark.parametrize("absent", ["", "  ", None])
def test_everything_that_is_missing_is_named_at_once(absent: str | None) -> None:
    environ = {} if absent is None else dict.fromkeys(ALL, absent)
    with pytest.raises(SettingsError) as refused:
        settings.sending(environ)
    for name in [*ALL, "DATABASE_SECRET_ARN", "TWILIO_SECRET_ARN"]:
        assert name in str(refused.value)


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.__name__)
@pytest.mark.parametrize("name", ["DATABASE_URL", "TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN"])
def test_one_that_is_missing_is_the_only_one_named(reader: object, name: str) -> None:
    if reader is settings.database and name != "DATABASE_URL":
        return
    assert callable(reader)
    with pytest.raises(SettingsError, match=name) as refused:
        reader({key: value for key, value in ALL.items() if key != name})
    assert ";" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("TWILIO_SENDER", "15005550006"),
        ("TWILIO_SENDER", "Parcels"),
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
    ],
)
def test_a_wrong_value_is_named_and_no_secret_is_told(name: str, wrong: str) -> None:
    with pytest.raises(SettingsError, match=f": {name} must be") as refused:
        settings.sending({**ALL, name: wrong})
    assert TOKEN not in str(refused.value)
    assert "a-password" not in str(refused.value)


def test_what_is_wrong_is_named_beside_what_is_missing() -> None:
    with pytest.raises(
        SettingsError, match=r"TWILIO_SENDER must be .*; PUBLIC_WEBHOOK_URL is not set; SEND_CONCURRENCY"
    ):
        settings.sending({**DATABASE, **ACCOUNT, "TWILIO_SENDER": "me", "SEND_CONCURRENCY": "x"})


def test_a_slash_at_the_end_of_a_url_does_not_count() -> None:
    environ = {**ALL, "PUBLIC_WEBHOOK_URL": "https://sms.example.com/", "TWILIO_API_URL": "http://127.0.0.1:8080/"}
    _, account, sender = settings.sending(environ)
    assert (account.api_url, sender.webhook_url) == ("http://127.0.0.1:8080", "https://sms.example.com")


@pytest.mark.parametrize("sender", ["+15005550006", "MG" + "0" * 32])
def test_a_number_or_a_messaging_service_can_send(sender: str) -> None:
    assert settings.sending({**ALL, "TWILIO_SENDER": sender})[2].sender == sender
