"""Callbacks: only a form with a valid signature of Twilio becomes a receipt or a reply."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict
from twilio.request_validator import RequestValidator

from sms_retry import callback
from sms_retry.callback import Forged, NotACallback, Unsigned, is_signed
from sms_retry.values import Receipt, Reply, Ticket

URL = "https://sms.example.com"
TOKEN = "12345"
SID = "SM" + "0" * 32


def event(
    form: dict[str, str] | list[tuple[str, str]],
    path: str = "/twilio/status",
    query: str = "t=17-2",
    token: str = TOKEN,
    signed_url: str | None = None,
    is_base64: bool = True,
) -> dict[str, Any]:
    """An HTTP API event with a form that Twilio has signed with `token`."""
    url = signed_url or f"{URL}{path}{'?' if query else ''}{query}"
    body = urlencode(form)
    return {
        "version": "2.0",
        "rawPath": path,
        "rawQueryString": query,
        "headers": {
            "content-type": "application/x-www-form-urlencoded; charset=UTF-8",
            "host": "abc123.execute-api.eu-west-1.amazonaws.com",
            "x-twilio-signature": RequestValidator(token).compute_signature(url, dict(form)),
        },
        "body": base64.b64encode(body.encode()).decode() if is_base64 else body,
        "isBase64Encoded": is_base64,
    }


Read = Receipt | Reply | Unsigned | Forged | NotACallback


def read(event: dict[str, Any], *tokens: str) -> Read:
    return callback.read(event, (URL,), tokens or (TOKEN,))


STATUS = {"MessageSid": SID, "MessageStatus": "undelivered", "ErrorCode": "30003", "To": "+14155550123"}


def test_a_signed_form_is_a_receipt_with_its_ticket() -> None:
    expected = Receipt(SID, "undelivered", 30003, Ticket(17, 2), "+14155550123")
    assert expected == read(event(STATUS))
    assert expected == read(event(STATUS, is_base64=False))


def test_a_callback_of_another_account_is_forged() -> None:
    ours, another = "AC" + "a" * 32, "AC" + "b" * 32
    found = callback.read(event({**STATUS, "AccountSid": ours}), (URL,), (TOKEN,), ours)
    assert found == Receipt(SID, "undelivered", 30003, Ticket(17, 2), "+14155550123")
    assert callback.read(event({**STATUS, "AccountSid": another}), (URL,), (TOKEN,), ours) == Forged()


def test_a_field_that_was_moved_into_the_query_changes_nothing() -> None:
    given = event(STATUS)
    # Twilio signs the URL and the fields without separators: this text is the same.
    moved = {**given, "rawQueryString": "t=17-2ErrorCode30003"}
    form = {name: value for name, value in STATUS.items() if name != "ErrorCode"}
    moved["body"] = base64.b64encode(urlencode(form).encode()).decode()
    assert read(moved) == NotACallback("its query is not a ticket")


@pytest.mark.parametrize(
    "query",
    [
        "t=17-2&x=1",
        "t=017-2",
        "x=1",
        "t=",
        "t=x",
        "t=1",
        "t=1-",
        "t=-1-2",
        "t=1-2-3",
        "t=٣-1",
        f"t={'9' * 30}-1",
        "t=1-9999999999",
    ],
)
def test_the_query_of_a_receipt_is_a_ticket_or_empty(query: str) -> None:
    assert read(event(STATUS, query=query)) == NotACallback("its query is not a ticket")
    without = read(event(STATUS, query=""))
    assert isinstance(without, Receipt)
    assert without.ticket is None


def test_a_reply_has_no_query() -> None:
    reply = {"MessageSid": SID, "From": "+14155550123", "Body": "STOP"}
    assert read(event(reply, "/twilio/inbound", query="t=17-2")) == NotACallback("its query is not a ticket")


@pytest.mark.parametrize("form", [{f"f{n}": "" for n in range(101)}, {"Body": "x" * 16 * 1024}])
def test_a_form_that_is_larger_than_every_callback_is_refused_unread(
    form: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = event(form)
    monkeypatch.setattr(callback, "is_signed", lambda *_: pytest.fail("the signature was computed"))
    assert isinstance(read(given), NotACallback)


@pytest.mark.parametrize("address", [URL, f"{URL}:443", f"{URL}:8443", "http://sms.example.com"])
@pytest.mark.parametrize("body", ["plain", "a+b%26c%3Dd", "%E0%A4%B9\\x41%5Cn", "%F0%9F%98%80 \\"])
def test_a_form_is_read_and_its_signature_computed_as_the_sdk_does(address: str, body: str) -> None:
    form = {"Body": parse_qsl(f"Body={body}")[0][1], "MessageSid": SID, "MessageStatus": "sent"}
    given = event(form)
    given |= {"body": f"Body={body}&MessageSid={SID}&MessageStatus=sent", "isBase64Encoded": False}
    signature = RequestValidator(TOKEN).compute_signature(f"{address}/twilio/status?t=17-2", form)
    given["headers"]["x-twilio-signature"] = signature

    assert isinstance(callback.read(given, (address,), (TOKEN,)), Receipt)
    assert RequestValidator(TOKEN).validate(f"{address}/twilio/status?t=17-2", form, signature)


@pytest.mark.parametrize("body", ["MessageSid=%", "MessageSid=%4", "MessageSid=%zz", "MessageSid=%ff"])
def test_a_form_with_a_broken_escape_is_not_a_callback(body: str) -> None:
    assert isinstance(read({**event(STATUS), "body": body, "isBase64Encoded": False}), NotACallback)


def test_header_names_are_case_insensitive() -> None:
    lower = event(STATUS)
    upper = {**lower, "headers": {name.title(): value for name, value in lower["headers"].items()}}
    assert isinstance(read(upper), Receipt)


@pytest.mark.parametrize(
    "form",
    [
        {**STATUS, "ErrorCode": ""},
        {**STATUS, "SomethingNew": "Twilio adds fields without notice"},
        {**STATUS, "ChannelStatusMessage": "ünïcödé & = + %"},
    ],
)
def test_blank_and_unknown_fields_are_part_of_the_signed_form(form: dict[str, str]) -> None:
    assert isinstance(read(event(form)), Receipt)


def test_a_repeated_field_is_signed_with_all_its_values() -> None:
    given = event(STATUS)
    fields = CIMultiDict([*STATUS.items(), ("Media", "b"), ("Media", "a")])
    signature = RequestValidator(TOKEN).compute_signature(f"{URL}/twilio/status?t=17-2", fields)
    given["headers"]["x-twilio-signature"] = signature
    body = urlencode(list(fields.items()))
    assert isinstance(read({**given, "body": body, "isBase64Encoded": False}), Receipt)


def test_twilios_published_vector_is_accepted() -> None:
    form = {
        "CallSid": "CA1234567890ABCDE",
        "Caller": "+14158675310",
        "Digits": "1234",
        "From": "+14158675310",
        "To": "+18005551212",
    }
    url = (["https://example.com"], "/myapp.php?foo=1&bar=2")
    assert is_signed(*url, [*form.items()], "L/OH5YylLD5NRKLltdqwSvS0BnU=", ["12345"])
    assert not is_signed(*url, [*form.items()], "L/OH5YylLD5NRKLltdqwSvS0BnU=", ["12346"])
    assert not is_signed(*url, [*form.items(), ("Digits", "12345")], "L/OH5YylLD5NRKLltdqwSvS0BnU=", ["12345"])


@pytest.mark.parametrize(
    "tampered",
    [
        {"rawQueryString": "t=18-2"},
        {"rawQueryString": ""},
        {"rawPath": "/twilio/inbound"},
        {"body": base64.b64encode(urlencode({**STATUS, "MessageStatus": "delivered"}).encode()).decode()},
        {"headers": {"content-type": "application/x-www-form-urlencoded", "x-twilio-signature": "nonsense"}},
        {"headers": {"content-type": "application/x-www-form-urlencoded", "x-twilio-signature": "ÿ"}},
        {},
    ],
)
def test_a_request_that_differs_from_its_signature_is_forged(tampered: dict[str, Any]) -> None:
    given = {**event(STATUS), **tampered}
    assert isinstance(read(given, TOKEN if tampered else "another"), Forged)


@pytest.mark.parametrize("headers", [None, {}, {"content-type": "application/x-www-form-urlencoded"}])
def test_a_request_without_a_signature_is_unsigned(headers: dict[str, str] | None) -> None:
    assert isinstance(read({**event(STATUS), "headers": headers}), Unsigned)


def test_a_callback_is_signed_for_any_of_the_addresses() -> None:
    addresses = (URL, "https://old.example.com")
    for address, found in ((URL, Receipt), (addresses[1], Receipt), ("https://other.example.com", Forged)):
        signed = event(STATUS, signed_url=f"{address}/twilio/status?t=17-2")
        assert isinstance(callback.read(signed, addresses, (TOKEN,)), found)


def test_the_host_in_the_event_is_ignored() -> None:
    signed_for_the_host = event(
        STATUS, signed_url="https://abc123.execute-api.eu-west-1.amazonaws.com/twilio/status?t=17-2"
    )
    assert isinstance(read(signed_for_the_host), Forged)


def test_the_old_and_the_next_token_are_both_valid() -> None:
    for token in ("old", "next"):
        assert isinstance(read(event(STATUS, token=token), "old", "next"), Receipt)
    assert isinstance(read(event(STATUS, token="third"), "old", "next"), Forged)


@pytest.mark.parametrize(
    "changed",
    [
        {"body": "%%%"},
        {"body": base64.b64encode(b"x=" + b"y" * 64 * 1024).decode()},
        {"body": base64.b64encode(b"\xff\xfe").decode()},
        {"headers": {"content-type": "application/json", "x-twilio-signature": "x"}},
        {"rawPath": "/somewhere"},
    ],
)
def test_a_request_without_a_form_is_not_a_callback(changed: dict[str, Any]) -> None:
    assert isinstance(read({**event(STATUS), **changed}), NotACallback)


@pytest.mark.parametrize("form", [{"MessageStatus": "sent"}, {"MessageSid": SID}, {"To": "+14155550123"}])
def test_a_form_without_a_sid_or_a_status_is_not_a_callback(form: dict[str, str]) -> None:
    assert isinstance(read(event(form)), NotACallback)


def reply(**form: str) -> Read:
    """The reading of a signed inbound message from +14155550123, unless the form says otherwise."""
    return read(event({"MessageSid": SID, "From": "+14155550123", **form}, "/twilio/inbound", ""))


@pytest.mark.parametrize("body", ["STOP", " stop ", "Stop.", "“opt out”", "ARRÊT", "please stop"])
def test_a_reply_that_asks_to_stop_is_a_stop(body: str) -> None:
    assert reply(Body=body) == Reply(SID, "+14155550123", "stop", body=body)


def test_a_reply_names_the_number_and_the_service_that_it_went_to() -> None:
    found = reply(Body="STOP", To="rcs:+15005550001", MessagingServiceSid="MG1")
    assert found == Reply(SID, "+14155550123", "stop", ("MG1", "+15005550001"), "+15005550001", "STOP")


@pytest.mark.parametrize(
    ("form", "wish"),
    [
        ({"OptOutType": "STOP", "Body": "Basta ya"}, "stop"),
        ({"OptOutType": "START", "Body": "oui"}, "start"),
        ({"OptOutType": "HELP", "Body": "stop"}, None),
        ({"Body": "start"}, "start"),
        ({"Body": "Yes!"}, "start"),
        ({"Body": "help"}, None),
        ({"Body": "please stop by at nine"}, None),
        ({"Body": ""}, None),
    ],
)
def test_start_asks_to_start_and_any_other_text_asks_for_nothing(form: dict[str, str], wish: str | None) -> None:
    assert reply(**form) == Reply(SID, "+14155550123", wish, body=form["Body"])


@pytest.mark.parametrize(
    "sender", ["rcs:+14155550123", "RCS:+14155550123", "whatsapp:+14155550123", "+1 415 555 0123", " +14155550123"]
)
def test_a_person_has_one_number_on_every_channel(sender: str) -> None:
    assert reply(From=sender, Body="STOP") == Reply(SID, "+14155550123", "stop", body="STOP")


@pytest.mark.parametrize("sender", ["68849", "SUPPORT", "+12", "rcs:brand_agent"])
def test_a_sender_that_is_no_phone_number_has_no_number(sender: str) -> None:
    assert reply(From=sender, Body="STOP") == Reply(SID, None, "stop", body="STOP")


@pytest.mark.parametrize("form", [{"From": ""}, {"From": "x" * 300}, {"MessageSid": "x" * 300}, {"MessageSid": "\0"}])
def test_a_reply_that_cannot_be_stored_is_not_a_callback(form: dict[str, str]) -> None:
    assert isinstance(reply(Body="STOP", **form), NotACallback)


@pytest.mark.parametrize("channel", ["rcs:", "whatsapp:"])
def test_a_receipt_has_numbers_without_their_channel(channel: str) -> None:
    numbers = {"To": f"{channel}+14155550123", "From": f"{channel}+18005550100"}
    expected = Receipt(SID, "undelivered", 30003, Ticket(17, 2), "+14155550123", "+18005550100")
    assert read(event({**STATUS, **numbers})) == expected


def test_the_signature_covers_the_channel() -> None:
    given = event({**STATUS, "To": "rcs:+14155550123"})
    without = base64.b64encode(urlencode(STATUS).encode()).decode()
    assert isinstance(read({**given, "body": without}), Forged)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.dictionaries(
        st.sampled_from(["version", "rawPath", "rawQueryString", "headers", "body", "isBase64Encoded", "routeKey"]),
        anything
        | st.sampled_from(["/twilio/status", "/twilio/inbound"])
        | st.dictionaries(st.sampled_from(["content-type", "x-twilio-signature", "X-Twilio-Signature"]), anything),
    )
)
def test_an_event_without_a_signature_is_never_a_receipt_or_a_reply(given_event: dict[str, Any]) -> None:
    assert isinstance(read(given_event), Unsigned | Forged | NotACallback)


def test_a_subaccount_signs_with_its_own_token() -> None:
    form = {"MessageSid": SID, "MessageStatus": "sent", "AccountSid": "ACshop"}
    accounts = {"ACshop": ("shop", ("token of the shop",))}

    def found(token: str) -> Receipt | Reply | Unsigned | Forged | NotACallback:
        return callback.read(event(form, token=token), (URL,), (TOKEN,), "ACmain", accounts)

    receipt = found("token of the shop")
    assert isinstance(receipt, Receipt)
    assert (receipt.account, receipt.ticket) == ("shop", Ticket(17, 2))
    assert isinstance(found(TOKEN), Forged)


def test_a_reply_has_the_number_that_it_went_to_and_a_text_without_nul() -> None:
    found = reply(To="rcs:+15005550006", Body="Thanks\0!")
    assert found == Reply(SID, "+14155550123", None, ("+15005550006",), "+15005550006", "Thanks!")
