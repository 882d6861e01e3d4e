"""The stand-in's answers held against Twilio's OpenAPI document, where that lies beside the project."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import pytest
from jsonschema import Draft202012Validator, FormatChecker

from local.twilio.messages import PARAMETERS
from local.twilio.stand_in import ACCOUNT_SID, AUTH_TOKEN, Accept, TwilioStandIn

OPENAPI = Path(__file__).parents[2].parent / "shared/facts/twilio_messages_openapi.json"
MANY = "/2010-04-01/Accounts/{AccountSid}/Messages.json"
ONE = "/2010-04-01/Accounts/{AccountSid}/Messages/{Sid}.json"
ANNA = "+4915112345678"


@pytest.fixture(scope="module")
def openapi() -> dict[str, Any]:
    if not OPENAPI.exists():
        pytest.skip("Twilio's OpenAPI document is not beside the project")
    document: dict[str, Any] = json.loads(OPENAPI.read_text())
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


def keeps_to(openapi: dict[str, Any], path: str, method: str, status: str, answer: dict[str, Any]) -> None:
    response = openapi["paths"][path][method]["responses"][status]["content"]["application/json"]
    schema, components = plain(response["schema"]), plain(openapi["components"])
    formats = FormatChecker(formats=())
    formats.checks("date-time-rfc-2822", raises=ValueError)(
        lambda value: value is None or (value.endswith(" +0000") and parsedate_to_datetime(value))
    )
    Draft202012Validator(schema | {"components": components}, format_checker=formats).validate(answer)
    whole = components["schemas"]["api.v2010.account.message"] if "$ref" in schema else schema
    assert set(answer) == set(whole["properties"])


def plain(schema: Any) -> Any:
    """OpenAPI 3.0's `nullable` as JSON Schema has it."""
    if isinstance(schema, list):
        return [plain(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    converted = {name: plain(value) for name, value in schema.items() if name != "nullable"}
    return {"anyOf": [converted, {"type": "null"}]} if schema.get("nullable") is True else converted


@pytest.mark.parametrize("sender", [{"From": "+15005550006"}, {"MessagingServiceSid": "MG" + "b" * 32}])
def test_answers_keep_to_the_openapi_document(
    twilio: TwilioStandIn, openapi: dict[str, Any], sender: dict[str, str]
) -> None:
    form = {"To": ANNA, "Body": "hello"} | sender
    twilio.plan(ANNA, Accept(receipts=("sent", ("undelivered", 30003))))
    created = ask(twilio, MANY, form)
    keeps_to(openapi, MANY, "post", "201", created)
    twilio.deliver_callbacks()
    fetched = ask(twilio, ONE, sid=created["sid"])
    assert (fetched["status"], fetched["error_code"]) == ("undelivered", 30003)
    keeps_to(openapi, ONE, "get", "200", fetched)
    ask(twilio, MANY, form)
    for page in (0, 1, 2):
        keeps_to(openapi, MANY, "get", "200", ask(twilio, MANY, query=f"?PageSize=1&Page={page}"))
    keeps_to(openapi, ONE, "post", "200", ask(twilio, ONE, {"Body": ""}, sid=created["sid"]))


def test_every_parameter_it_reads_is_one_of_create_message(openapi: dict[str, Any]) -> None:
    (form,) = openapi["paths"][MANY]["post"]["requestBody"]["content"].values()
    assert set(form["schema"]["properties"]) >= PARAMETERS
