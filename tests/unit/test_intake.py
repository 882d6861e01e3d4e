"""The events of applications: their fields, and the error that names every wrong one."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from sms_retry.intake import Failed, InvalidEvent, Sent, read, read_message_id
from sms_retry.values import Message

EVENT: dict[str, Any] = {"to": "+491761234567", "body": "Hello."}
SID = "SM" + "0" * 32


def test_only_the_number_and_the_text_are_required() -> None:
    assert read(EVENT) == (Message("+491761234567", "Hello."), None)


def test_every_field_is_read() -> None:
    message, first_send = read(
        {
            **EVENT,
            "message_key": "parcel-17",
            "business_id": "acme",
            "kind": "marketing",
            "on_unknown": "hold",
            "time_zone": "Europe/Berlin",
            "scheduled_for": "2026-01-31T09:00:00+00:00",
            "expires_at": "2026-02-01T09:00:00Z",
        }
    )
    first, last = datetime(2026, 1, 31, 9, tzinfo=UTC), datetime(2026, 2, 1, 9, tzinfo=UTC)
    assert message == Message(
        "+491761234567", "Hello.", "parcel-17", "acme", "marketing", "hold", "Europe/Berlin", first, last
    )
    assert first_send is None


def test_white_space_at_the_ends_of_the_text_is_removed() -> None:
    assert read({**EVENT, "body": "\u00a0 Your code\u2003 is 1234\n"})[0].body == "Your code\u2003 is 1234"
    assert read({**EVENT, "body": f"{'x' * 1600}\n"})[0].body == "x" * 1600


def test_null_counts_as_absent() -> None:
    optional = ("message_key", "business_id", "kind", "on_unknown", "time_zone", "scheduled_for", "expires_at")
    assert read({**EVENT, **dict.fromkeys([*optional, "failed", "sent"])}) == read(EVENT)


def test_an_event_can_report_the_applications_own_first_send() -> None:
    assert read({**EVENT, "failed": {"error_code": 30003, "error_message": "off"}})[1] == Failed(30003, "off")
    assert read({**EVENT, "failed": {"error_code": 30003}})[1] == Failed(30003, None)
    assert read({**EVENT, "sent": {"provider_sid": SID}})[1] == Sent(SID)


@pytest.mark.parametrize("to", ["+491761234567", "+12125550123", "+4915112345678901"[:16], "+2348031234567"])
def test_a_possible_number_is_accepted(to: str) -> None:
    assert read({**EVENT, "to": to})[0].to_number == to


WRONG = [
    (
        "to",
        ["", None, 491761234567, "01761234567", "+49 176 1234567", "tel:+491761234567", "+49", "+1415555", "+٤٩١٧٦"],
    ),
    ("to", ["+4911111111111111", "+491761234567\n", "+491761234567;ext=5", ["+491761234567"], "+999123456789"]),
    ("body", ["", " ", " \t\r\n\u00a0\u2003\u3000", None, 5, "x" * 1601, "nul \0", "half a pair \ud83d", ["Hello."]]),
    ("message_key", ["", 17, "x" * 256, "\0", "\udc00"]),
    ("business_id", ["", 17, "x" * 256]),
    ("kind", ["urgent", "", 1, ["otp"]]),
    ("on_unknown", ["shrug", True]),
    ("time_zone", ["Eastern Time", "", "../../etc/passwd", "America", 5, ["UTC"], {}, "europe\0"]),
    ("scheduled_for", ["tomorrow", "2026-01-31T09:00:00", "2026-01-31", 1769850000, True, "9999-12-31T23:59:59-12:00"]),
    ("expires_at", ["soon", "2026-01-31T09:00:00", {}, "0001-01-01T00:00:00+14:00"]),
    ("failed.error_code", [{"failed": wrong} for wrong in ({}, {"error_code": "30003"}, {"error_code": True}, 30003)]),
    (
        "failed.error_message",
        [{"failed": {"error_code": 30003, "error_message": wrong}} for wrong in (5, "nul \0", "\ud83d")],
    ),
    (
        "sent.provider_sid",
        [
            {"sent": wrong}
            for wrong in ({}, "SM", {"provider_sid": "SM1"}, {"provider_sid": 5}, {"provider_sid": "SM" + "\0" * 32})
        ],
    ),
    ("sender", ["12", "1234567890", "   ", "Twelve chars", "*+", 5, "Caf\u00e9"]),
    (
        "body must be text of 0 to 1600",
        [{"body": wrong, "content_sid": f"HX{'0' * 32}"} for wrong in (5, [], "x" * 1601)],
    ),
    ("expires_at must be an ISO 8601 time of the years 2000 to 9998", [{"expires_at": "1999-12-31T23:59:59+00:00"}]),
    ("media_urls", [{"media_urls": [f"https://example.com/{wrong}"]} for wrong in ("\0", "\ud83d", "two words")]),
    (
        "content_variables",
        [{"content_sid": f"HX{'0' * 32}", "content_variables": {"1": wrong}} for wrong in (1e999, "\0", "\ud83d")],
    ),
    (
        "expires_at must be later",
        [{"scheduled_for": "2026-02-01T09:00:00+00:00", "expires_at": "2026-01-31T09:00:00+00:00"}],
    ),
    ("sent must not", [{"sent": {"provider_sid": SID}, "failed": {"error_code": 30003}}]),
    ("colour is not a field", [{"colour": "red"}]),
    ("failed.code is not a field", [{"failed": {"error_code": 30001, "code": 1}}]),
    ("sent.sid is not a field", [{"sent": {"provider_sid": "SM" + "0" * 32, "sid": "SM1"}}]),
    ("to_number is not a field", [{"to_number": "+491761234567"}]),
    ("one name is not a field", [{"+491761234567": "x"}, {"to_491761234567": "x"}, {"Hello, Anna": "x"}, {"": "x"}]),
]


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name, values in WRONG for value in values],
    ids=lambda value: ascii(value)[:40],
)
def test_the_error_names_a_wrong_field_and_does_not_repeat_its_value(name: str, value: Any) -> None:
    event = {**EVENT, **(value if isinstance(value, dict) and value else {name: value})}
    with pytest.raises(InvalidEvent, match=f"^nothing was stored: {name}[^;]*$") as refused:
        read(event)
    assert "1761234567" not in str(refused.value)


def test_one_error_names_every_wrong_field() -> None:
    event = {"to": "5", "kind": "?", "on_unknown": "?", "time_zone": "?", "expires_at": "?", "failed": {}, "colour": 1}
    with pytest.raises(InvalidEvent) as refused:
        read(event)
    for name in ("to", "body", "kind", "on_unknown", "time_zone", "expires_at", "failed.error_code", "colour"):
        assert f" {name} " in str(refused.value)


@pytest.mark.parametrize("event", [None, [], "to", 5])
def test_an_event_must_be_an_object(event: Any) -> None:
    with pytest.raises(InvalidEvent, match="JSON object"):
        read(event)
    with pytest.raises(InvalidEvent, match="JSON object"):
        read_message_id(event)


def test_a_message_id_and_force_are_read() -> None:
    assert read_message_id({"message_id": 17}) == (17, False)
    assert read_message_id({"message_id": 17, "force": True}) == (17, True)


@pytest.mark.parametrize("message_id", [None, "17", 0, -1, 1.0, True, 2**63])
def test_an_impossible_message_id_is_refused(message_id: Any) -> None:
    with pytest.raises(InvalidEvent, match=r"message_id must be"):
        read_message_id({"message_id": message_id})


def test_one_error_names_every_wrong_field_of_a_retry() -> None:
    with pytest.raises(InvalidEvent, match=r"message_id must .*; force must .*; colour is not"):
        read_message_id({"force": "yes", "colour": 1})
