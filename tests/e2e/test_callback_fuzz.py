"""Random requests to the webhook: each gets an answer, and a request that Twilio has not signed changes no table."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from datetime import timedelta
from random import Random
from typing import Any
from urllib.parse import parse_qsl, urlencode

import psycopg
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from twilio.request_validator import RequestValidator

from local.aws.triggers import http_api_event, load
from local.stack import ENVIRONMENT, Stack
from local.twilio.stand_in import Accept
from tests.e2e.messages import message, number, statuses
from tests.e2e.test_callbacks import everything

STATUS, INBOUND = "/twilio/status", "/twilio/inbound"
SID = "SM" + "f" * 32
DELIVERED = {"MessageSid": SID, "MessageStatus": "delivered", "To": number(0)}
FORM = "application/x-www-form-urlencoded"

# The default alphabet of text() leaves out the halves of surrogate pairs.
text = st.text(st.characters())
# Text that Postgres cannot compress, unlike one repeated letter.
huge = st.sampled_from((256, 3_000, 60_000)).map(lambda length: f"{Random(length).getrandbits(4 * length):0{length}x}")
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | text | huge,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=5,
)
tickets = st.sampled_from(
    (
        "",
        "t=1-1",
        "t=2-1",
        "t=0-0",
        "t=-1-1",
        f"t={'9' * 18}-{'9' * 9}",
        "t=9e9-1",
        "t=1-1&t=2-1",
        "t=%00-1",
        "t=%ff-%ff",
    )
)
hostile = text | huge | st.sampled_from(("\0", "a\0b", "\ud800", "%00", "'; drop table sms_messages; --"))
form = st.fixed_dictionaries(
    {},
    optional={
        "MessageSid": st.sampled_from((SID, "SM" + "0" * 32)) | hostile,
        "MessageStatus": st.sampled_from(("sent", "delivered", "undelivered", "failed", "canceled", "ok")) | hostile,
        "ErrorCode": st.sampled_from(("30003", "30005", "21408", "21610", "30610", "9" * 9, "9" * 99, "-1", "1.5", "٣"))
        | hostile,
        "To": st.just(number(0)) | hostile,
        "From": st.just(number(0)) | hostile,
        "Body": st.sampled_from(("STOP", "start", "help")) | hostile,
        "OptOutType": st.just("STOP") | hostile,
        "SomethingNew": hostile,
    },
)


def signature(path_and_query: str, params: Mapping[str, str]) -> str:
    signer = RequestValidator(ENVIRONMENT["TWILIO_AUTH_TOKEN"])
    return str(signer.compute_signature(ENVIRONMENT["PUBLIC_WEBHOOK_URL"] + path_and_query, params))


def signed(path: str, query: str, params: Mapping[str, str]) -> dict[str, Any]:
    """The event of a form, signed over the fields as the webhook decodes them."""
    body = urlencode(params, errors="surrogatepass")
    read = dict(parse_qsl(body, keep_blank_values=True))
    its = signature(f"{path}{'?' if query else ''}{query}", read)
    return http_api_event("POST", path, query, {"Content-Type": FORM, "X-Twilio-Signature": its}, body.encode())


def answer(stack: Stack, event: object) -> int:
    return int(stack.invoke("twilio_webhook", event)["statusCode"])


@pytest.fixture
def before(stack: Stack) -> list[list[tuple[object, ...]]]:
    """The rows of all tables: one message was sent, one waits for a retry, and one person opted out."""
    stack.twilio.plan(number(1), Accept((("undelivered", 30003),)))
    for n in range(2):
        stack.invoke("send_sms", message(n))
    stack.twilio.deliver_callbacks()
    assert answer(stack, signed(INBOUND, "", {"From": number(2), "Body": "STOP"})) == 200
    return everything(stack)


a_signature_of_another = signature(f"{STATUS}?t=1-1", DELIVERED | {"To": "another"})


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "version": anything,
            "routeKey": anything,
            "rawPath": st.sampled_from((STATUS, INBOUND)) | anything,
            "rawQueryString": tickets | anything,
            "queryStringParameters": anything,
            "headers": anything
            | st.fixed_dictionaries(
                {},
                optional={
                    "content-type": st.just(FORM) | anything,
                    "X-Twilio-Signature": st.just(a_signature_of_another) | anything,
                },
            ),
            "cookies": anything,
            "requestContext": anything,
            "body": st.just(urlencode(DELIVERED)) | anything,
            "isBase64Encoded": st.booleans() | anything,
        },
    )
)
def test_an_unsigned_event_changes_nothing(
    stack: Stack, before: list[list[tuple[object, ...]]], event: dict[str, Any]
) -> None:
    assert answer(stack, event) in (400, 403)
    assert everything(stack) == before


@given(
    part=st.sampled_from(("rawPath", "rawQueryString", "headers", "content-type", "x-twilio-signature", "body")),
    instead=st.sampled_from((INBOUND, urlencode(DELIVERED), "\ud800")) | tickets | anything,
)
def test_a_signed_event_with_one_changed_part_changes_nothing(
    stack: Stack, before: list[list[tuple[object, ...]]], part: str, instead: Any
) -> None:
    event = signed(STATUS, "t=1-1", DELIVERED)
    changed = event if part in event else event["headers"]
    assume(instead != changed[part] and instead != FORM)
    changed[part] = instead

    assert answer(stack, event) in (400, 403)
    assert everything(stack) == before


@given(path=st.sampled_from((STATUS, INBOUND)), query=tickets, params=form)
def test_every_signed_form_gets_an_answer(
    stack: Stack, before: list[list[tuple[object, ...]]], path: str, query: str, params: dict[str, str]
) -> None:
    assert answer(stack, signed(path, query, params)) in (204 if path == STATUS else 200, 400)


@pytest.mark.parametrize("code", ["", "30003", "30005", "21610", "20003", "30610", "0", "9" * 9, "9" * 10, "9" * 5_000])
@pytest.mark.parametrize("query", ["", "t=1-1", "t=2-1", f"t={'9' * 18}-{'9' * 9}"])
def test_every_error_code_is_accepted_with_every_ticket(
    stack: Stack, before: list[list[tuple[object, ...]]], code: str, query: str
) -> None:
    params = {"MessageSid": SID, "MessageStatus": "failed", "To": number(0), "ErrorCode": code}
    assert answer(stack, signed(STATUS, query, params)) == 204


@pytest.mark.parametrize("value", ["a\0b", f"{Random(0).getrandbits(12_000):03000x}"], ids=["a NUL", "too long"])
@pytest.mark.parametrize(
    ("path", "field"), [(STATUS, "MessageSid"), (STATUS, "MessageStatus"), (STATUS, "To"), (INBOUND, "From")]
)
def test_a_signed_value_that_postgres_cannot_store_is_rejected(stack: Stack, path: str, field: str, value: str) -> None:
    params = {**DELIVERED, "MessageStatus": "failed", "ErrorCode": "30610", "From": number(0), "Body": "STOP"}
    before = everything(stack)

    assert answer(stack, signed(path, "t=1-1", {**params, field: value})) == 400

    assert everything(stack) == before


def test_a_callback_that_failed_without_a_database_is_applied_when_it_is_repeated(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    sid = stack.invoke("send_sms", message())["provider_sid"]
    event = signed(STATUS, "t=1-1", {**DELIVERED, "MessageSid": sid})
    with closing(load("twilio_webhook")) as webhook:
        with webhook._modules.installed():
            monkeypatch.setattr("app.PATIENCE", timedelta())
        monkeypatch.setenv("DATABASE_URL", "postgresql://postgres@127.0.0.1:1/postgres")
        with pytest.raises(psycopg.OperationalError):
            webhook(event)
        assert statuses(stack) == {"sent": 1}

        monkeypatch.setenv("DATABASE_URL", stack.urls["DATABASE_URL"])
        assert webhook(event)["statusCode"] == 204
    assert statuses(stack) == {"delivered": 1}
