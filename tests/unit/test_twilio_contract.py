"""The stand-in's answers, checked against Twilio's OpenAPI document."""

from __future__ import annotations

import base64
import inspect
import json
import re
from collections.abc import Iterator
from contextlib import closing
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import pytest
from jsonschema import Draft202012Validator, FormatChecker
from twilio.rest import Client

from local.twilio.messages import PARAMETERS
from local.twilio.openapi import EXCERPT, MESSAGE, MESSAGES, excerpt
from local.twilio.senders import OwnNumber, OwnService
from local.twilio.stand_in import ACCOUNT_SID, AUTH_TOKEN, Accept, TwilioStandIn
from sms_retry.twilio import Wire

ANNA = "+4915112345678"


@pytest.fixture(scope="module")
def openapi() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(EXCERPT.read_text())
    return document


@pytest.fixture
def twilio() -> Iterator[TwilioStandIn]:
    with TwilioStandIn(callbacks="manual") as stand_in:
        yield stand_in


def ask(twilio: TwilioStandIn, path: str, form: dict[str, str] | None = None, sid: str = "", query: str = "") -> Any:
    login = base64.b64encode(f"{ACCOUNT_SID}:{AUTH_TOKEN}".encode()).decode()
    url = twilio.url + path.replace("{AccountSid}", ACCOUNT_SID).replace("{Sid}", sid) + query
    body = None if form is None else urlencode(form).encode()
    with urlopen(Request(url, body, {"Authorization": f"Basic {login}"}), timeout=5) as answer:
        return json.load(answer)


def assert_conforms(openapi: dict[str, Any], path: str, method: str, status: str, answer: dict[str, Any]) -> None:
    response = openapi["paths"][path][method]["responses"][status]["content"]["application/json"]
    schema, components = as_json_schema(response["schema"]), as_json_schema(openapi["components"])
    formats = FormatChecker(formats=())
    formats.checks("date-time-rfc-2822", raises=ValueError)(
        lambda value: value is None or (value.endswith(" +0000") and parsedate_to_datetime(value))
    )
    Draft202012Validator(schema | {"components": components}, format_checker=formats).validate(answer)
    whole = components["schemas"]["api.v2010.account.message"] if "$ref" in schema else schema
    assert set(answer) == set(whole["properties"])


def as_json_schema(schema: Any) -> Any:
    """OpenAPI 3.0's `nullable`, which JSON Schema does not have, becomes `anyOf` with `null`."""
    if isinstance(schema, list):
        return [as_json_schema(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    converted = {name: as_json_schema(value) for name, value in schema.items() if name != "nullable"}
    return {"anyOf": [converted, {"type": "null"}]} if schema.get("nullable") is True else converted


@pytest.mark.parametrize("sender", [{"From": "+15005550006"}, {"MessagingServiceSid": "MG" + "b" * 32}])
def test_every_answer_conforms_to_the_openapi_document(
    twilio: TwilioStandIn, openapi: dict[str, Any], sender: dict[str, str]
) -> None:
    form = {"To": ANNA, "Body": "hello"} | sender
    twilio.plan(ANNA, Accept(receipts=("sent", ("undelivered", 30003))))
    created = ask(twilio, MESSAGES, form)
    assert_conforms(openapi, MESSAGES, "post", "201", created)
    twilio.deliver_callbacks()
    fetched = ask(twilio, MESSAGE, sid=created["sid"])
    assert (fetched["status"], fetched["error_code"]) == ("undelivered", 30003)
    assert_conforms(openapi, MESSAGE, "get", "200", fetched)
    ask(twilio, MESSAGES, form)
    for page in (0, 1, 2):
        assert_conforms(openapi, MESSAGES, "get", "200", ask(twilio, MESSAGES, query=f"?PageSize=1&Page={page}"))
    assert_conforms(openapi, MESSAGE, "post", "200", ask(twilio, MESSAGE, {"Body": ""}, sid=created["sid"]))


def test_the_stand_in_reads_only_parameters_of_create_message(openapi: dict[str, Any]) -> None:
    (form,) = openapi["paths"][MESSAGES]["post"]["requestBody"]["content"].values()
    assert set(form["schema"]["properties"]) >= PARAMETERS


def test_the_excerpt_keeps_facts_and_drops_prose(openapi: dict[str, Any]) -> None:
    published = json.loads(json.dumps(openapi))
    field = published["components"]["schemas"]["api.v2010.account.message"]["properties"]["sid"]
    field |= {"description": "prose", "x-twilio": {"pii": {}}}
    published["components"]["schemas"]["api.v2010.account.call"] = {"type": "object"}
    published["paths"]["/2010-04-01/Accounts/{AccountSid}/Calls.json"] = {"get": {}}
    published["paths"][MESSAGE]["delete"] = {"responses": {"204": {"description": "prose"}}}
    assert published != openapi
    assert excerpt(published) == openapi


def test_the_settings_of_the_account_have_the_fields_that_twilios_sdk_reads(twilio: TwilioStandIn) -> None:
    # The SDK is generated from Twilio's OpenAPI documents. Registrations have many more fields than the stand-in.
    service, number, code = "MG" + "0" * 32, "+18005550123", "12345"
    twilio.senders.numbers |= {number: OwnNumber(verification="IN_REVIEW"), code: OwnNumber()}
    twilio.senders.services[service] = OwnService(numbers=(number,), campaigns=("VERIFIED",))
    with closing(Wire(twilio.url)) as wire:
        client = Client(ACCOUNT_SID, AUTH_TOKEN, http_client=wire)
        messaging = client.messaging.v1
        for record, key in [
            (lambda: client.api.v2010.accounts(ACCOUNT_SID).fetch(), None),
            (lambda: client.incoming_phone_numbers.list(phone_number=number)[0], "incoming_phone_numbers"),
            (lambda: client.short_codes.list(short_code=code)[0], "short_codes"),
            (lambda: messaging.services.list()[0], "services"),
            (lambda: messaging.services(service).fetch(), None),
            (lambda: messaging.services(service).phone_numbers.list()[0], "phone_numbers"),
        ]:
            source = inspect.getsource(type(record()).__init__)
            read = set(re.findall(r'payload\.get\(\s*"(\w+)"', source))
            answer = json.loads(wire.answer[2])
            assert len(read) > 5
            assert read <= set(answer[key][0] if key else answer), source[:80]
        assert [each.campaign_status for each in messaging.services(service).us_app_to_person.list()] == ["VERIFIED"]
        sid = client.incoming_phone_numbers.list(phone_number=number)[0].sid
        [verification] = messaging.tollfree_verifications.list(tollfree_phone_number_sid=sid)
        assert verification.status in vars(type(verification).Status).values()


@pytest.mark.parametrize(("login", "status"), [("key", 401), ("token", 200)])
def test_an_api_key_of_the_kind_standard_may_not_read_accounts(login: str, status: int) -> None:
    with TwilioStandIn(callbacks="manual", api_key=("SK1", "secret")) as twilio:
        user, password = ("SK1", "secret") if login == "key" else (ACCOUNT_SID, AUTH_TOKEN)
        wire = Wire(twilio.url)
        wire.request("GET", f"/2010-04-01/Accounts/{ACCOUNT_SID}.json", auth=(user, password))
        assert wire.answer[0] == status
        wire.request("GET", "/v1/Services", auth=(user, password))
        assert wire.answer[0] == 200
        wire.close()
