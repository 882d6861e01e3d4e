"""Twilio's answers to a POST: accepted, refused or unknown, and the error code and wait that they name."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from sms_retry.intake import KINDS
from sms_retry.twilio import INTENTS, read_answer
from sms_retry.values import Accepted, Refused, Unknown


def refused(status: int, text: str, **headers: str) -> Refused:
    answer = read_answer(status, headers, text)
    assert isinstance(answer, Refused)
    return answer


@pytest.mark.parametrize(
    ("code", "read"),
    [
        (20429, 20429),
        ("20429", 20429),
        ("", None),
        ("twenty", None),
        ("\u0664\u0662", None),
        ("-1", None),
        (0, None),
        (-20429, None),
        (True, None),
        (1.5, None),
        (None, None),
        ([20429], None),
        (2**31, None),
        ("9" * 10, None),
    ],
)
def test_a_code_is_a_whole_number_or_its_digits(code: Any, read: int | None) -> None:
    assert refused(400, json.dumps({"code": code, "message": "No."})).code == read


def test_a_503_with_the_code_as_a_string_is_twilios() -> None:
    assert refused(503, '{"code": "20503"}').code == 20503
    assert isinstance(read_answer(503, {}, '{"code": "1"}'), Unknown)


@pytest.mark.parametrize(
    "text", ["", "Request Time-out", "<html>blocked</html>", "[]", "null", '{"error": "no"}', "\x00"]
)
@pytest.mark.parametrize("status", [400, 408, 410, 421, 425, 451])
def test_a_4xx_that_is_not_twilios_json_is_refused_without_a_code(status: int, text: str) -> None:
    assert refused(status, text) == Refused(status, None, f"HTTP {status}")


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0),
        ("7", 7),
        (" 7 ", 7),
        ("3600", 3600),
        ("3601", 3600),
        ("99999", 3600),
        ("9" * 5000, 3600),
        ("", None),
        ("-7", None),
        ("1.5", None),
        ("\u00b2", None),
        ("Wed, 21 Oct 2026 07:28:00 GMT", None),
    ],
)
def test_retry_after_is_at_most_an_hour(header: str, seconds: int | None) -> None:
    wait = refused(429, "", **{"Retry-After": header}).retry_after
    assert wait == (None if seconds is None else timedelta(seconds=seconds))


def test_an_acceptance_has_a_sid() -> None:
    assert read_answer(201, {}, '{"sid": "SM1"}') == Accepted("SM1", 201)


def test_every_kind_of_message_has_an_intent() -> None:
    assert set(INTENTS) == set(KINDS)
