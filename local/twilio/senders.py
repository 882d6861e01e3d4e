"""The settings of the stand-in's account: its state, its numbers and short codes, and its Messaging Services.

The answers have the fields of Twilio's API, as its SDK reads them: https://www.twilio.com/docs/phone-numbers/api,
https://www.twilio.com/docs/messaging/api/service-resource and the pages beside it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from local.twilio.messages import error

API = "/2010-04-01/Accounts/{account}"
SERVICES = "/v1/Services"
CREATED = "2026-01-31T09:00:00Z"
CREATED_V2010 = "Sat, 31 Jan 2026 09:00:00 +0000"
Denial = Callable[[web.Request], web.Response | None]


@dataclass
class OwnNumber:
    """A number or a short code of the account; `verification` is the state of a toll-free number."""

    sms_url: str = ""
    sms_method: str = "POST"
    can_text: bool = True
    application_sid: str = ""
    verification: str | None = None


@dataclass
class OwnService:
    """A Messaging Service of the account, with the numbers of its pool and the states of its campaigns."""

    inbound_request_url: str | None = None
    inbound_method: str = "POST"
    per_number: bool = False
    smart_encoding: bool = True
    numbers: tuple[str, ...] = ()
    campaigns: tuple[str, ...] = ()


@dataclass
class Senders:
    """The account's state, its numbers and short codes, and its Messaging Services by their SIDs."""

    status: str = "active"
    type: str = "Full"
    numbers: dict[str, OwnNumber] = field(default_factory=dict)
    services: dict[str, OwnService] = field(default_factory=dict)


def routes(senders: Senders, account_sid: str, denial: Denial, denial_of_keys: Denial) -> list[web.RouteDef]:
    """`denial_of_keys` refuses API keys too: those of the kind Standard may not read accounts."""

    def get(path: str, answer: Callable[[web.Request], Any], denied: Denial = denial) -> web.RouteDef:
        async def handle(request: web.Request) -> web.Response:
            if refused := denied(request):
                return refused
            found = answer(request)
            if found is None:
                return web.json_response(error(404, 20404), status=404)
            return web.json_response(found)

        return web.get(path, handle)

    def service(request: web.Request) -> OwnService | None:
        return senders.services.get(request.match_info["service"])

    def listed(request: web.Request, codes: bool) -> dict[str, Any]:
        kind, filtered = ("short_codes", "ShortCode") if codes else ("incoming_phone_numbers", "PhoneNumber")
        wanted = request.query.get(filtered, "")
        found = [n for n in senders.numbers if wanted in n and codes != n.startswith("+")]
        resource = short_code if codes else phone_number
        records = [resource(account_sid, number, senders.numbers[number]) for number in found]
        page = {"page": 0, "page_size": 50, "start": 0, "end": 0, "uri": request.path, "next_page_uri": None}
        return {kind: records, **page, "first_page_uri": request.path, "previous_page_uri": None}

    def pool(request: web.Request) -> dict[str, Any] | None:
        found = service(request)
        sid = request.match_info["service"]
        return found and meta(request, "phone_numbers", [pooled(account_sid, sid, n) for n in found.numbers])

    def pooled_number(request: web.Request) -> dict[str, Any] | None:
        found, sid = service(request), request.match_info["service"]
        members = {sid_of("PN", number): number for number in (found.numbers if found else ())}
        number = members.get(request.match_info["number"])
        return pooled(account_sid, sid, number) if number else None

    def campaigns(request: web.Request) -> dict[str, Any] | None:
        found, sid = service(request), request.match_info["service"]
        return found and meta(request, "compliance", [campaign(account_sid, sid, each) for each in found.campaigns])

    def one_service(request: web.Request) -> dict[str, Any] | None:
        found = service(request)
        return found and service_resource(account_sid, request.match_info["service"], found)

    def services(request: web.Request) -> dict[str, Any]:
        records = [service_resource(account_sid, sid, each) for sid, each in senders.services.items()]
        return meta(request, "services", records)

    def verifications(request: web.Request) -> dict[str, Any]:
        wanted = request.query.get("TollfreePhoneNumberSid", "")
        found = {sid_of("PN", number): own for number, own in senders.numbers.items() if own.verification}
        records = [verification(account_sid, sid, own) for sid, own in found.items() if wanted in ("", sid)]
        return meta(request, "verifications", records)

    return [
        get("/2010-04-01/Accounts/{account}.json", lambda _: account(account_sid, senders), denial_of_keys),
        get(f"{API}/IncomingPhoneNumbers.json", lambda request: listed(request, codes=False)),
        get(f"{API}/SMS/ShortCodes.json", lambda request: listed(request, codes=True)),
        get(SERVICES, services),
        get(f"{SERVICES}/{{service}}", one_service),
        get(f"{SERVICES}/{{service}}/PhoneNumbers", pool),
        get(f"{SERVICES}/{{service}}/PhoneNumbers/{{number}}", pooled_number),
        get(f"{SERVICES}/{{service}}/Compliance/Usa2p", campaigns),
        get("/v1/Tollfree/Verifications", verifications),
    ]


def sid_of(prefix: str, name: str) -> str:
    return prefix + hashlib.sha256(name.encode()).hexdigest()[:32]


def meta(request: web.Request, key: str, records: list[dict[str, Any]]) -> dict[str, Any]:
    """A page of the APIs with /v1."""
    url = str(request.url)
    places = {"url": url, "first_page_url": url, "next_page_url": None, "previous_page_url": None}
    return {key: records, "meta": {"key": key, "page": 0, "page_size": 50, **places}}


def account(account_sid: str, own: Senders) -> dict[str, Any]:
    dates = {"date_created": CREATED_V2010, "date_updated": CREATED_V2010}
    named = {"sid": account_sid, "friendly_name": "stand-in", "owner_account_sid": account_sid}
    uri = f"/2010-04-01/Accounts/{account_sid}.json"
    # Twilio shows the token to its owner. The stand-in has no reason to.
    return (
        named | dates | {"status": own.status, "type": own.type, "auth_token": "", "uri": uri, "subresource_uris": {}}
    )


def phone_number(account_sid: str, number: str, own: OwnNumber) -> dict[str, Any]:
    sid = sid_of("PN", number)
    voice = dict.fromkeys(("voice_application_sid", "voice_fallback_url", "voice_url", "voice_caller_id_lookup"))
    absent = dict.fromkeys(
        ("address_sid", "identity_sid", "trunk_sid", "bundle_sid", "emergency_address_sid", "type", "status_callback")
    )
    return {
        "sid": sid,
        "account_sid": account_sid,
        "phone_number": number,
        "friendly_name": number,
        "capabilities": {"sms": own.can_text, "mms": own.can_text, "voice": True, "fax": False},
        "sms_url": own.sms_url,
        "sms_method": own.sms_method,
        "sms_application_sid": own.application_sid,
        "sms_fallback_url": "",
        "sms_fallback_method": "POST",
        **voice,
        **absent,
        "voice_method": "POST",
        "voice_fallback_method": "POST",
        "voice_receive_mode": "voice",
        "status_callback_method": "POST",
        "address_requirements": "none",
        "emergency_status": "Active",
        "emergency_address_status": "unregistered",
        "api_version": "2010-04-01",
        "beta": False,
        "origin": "twilio",
        "status": "in-use",
        "date_created": CREATED_V2010,
        "date_updated": CREATED_V2010,
        "uri": f"/2010-04-01/Accounts/{account_sid}/IncomingPhoneNumbers/{sid}.json",
        "subresource_uris": {},
    }


def short_code(account_sid: str, code: str, own: OwnNumber) -> dict[str, Any]:
    sid = sid_of("SC", code)
    return {
        "sid": sid,
        "account_sid": account_sid,
        "short_code": code,
        "friendly_name": code,
        "sms_url": own.sms_url,
        "sms_method": own.sms_method,
        "sms_fallback_url": None,
        "sms_fallback_method": "POST",
        "api_version": "2010-04-01",
        "date_created": CREATED_V2010,
        "date_updated": CREATED_V2010,
        "uri": f"/2010-04-01/Accounts/{account_sid}/SMS/ShortCodes/{sid}.json",
    }


def pooled(account_sid: str, service: str, number: str) -> dict[str, Any]:
    sid = sid_of("PN", number)
    return {
        "sid": sid,
        "account_sid": account_sid,
        "service_sid": service,
        "phone_number": number,
        "country_code": "US",
        "capabilities": ["SMS"],
        "date_created": CREATED,
        "date_updated": CREATED,
        "url": f"https://messaging.twilio.com/v1/Services/{service}/PhoneNumbers/{sid}",
    }


def service_resource(account_sid: str, sid: str, own: OwnService) -> dict[str, Any]:
    return {
        "sid": sid,
        "account_sid": account_sid,
        "friendly_name": "stand-in",
        "date_created": CREATED,
        "date_updated": CREATED,
        "inbound_request_url": own.inbound_request_url,
        "inbound_method": own.inbound_method,
        "fallback_url": None,
        "fallback_method": "POST",
        "status_callback": None,
        "sticky_sender": True,
        "mms_converter": True,
        "smart_encoding": own.smart_encoding,
        "scan_message_content": "inherit",
        "fallback_to_long_code": True,
        "area_code_geomatch": True,
        "synchronous_validation": False,
        "validity_period": 36000,
        "url": f"https://messaging.twilio.com/v1/Services/{sid}",
        "links": {},
        "usecase": "undeclared",
        "us_app_to_person_registered": "VERIFIED" in own.campaigns,
        "use_inbound_webhook_on_number": own.per_number,
    }


def campaign(account_sid: str, service: str, status: str) -> dict[str, Any]:
    fields = ("brand_registration_sid", "description", "us_app_to_person_usecase", "campaign_id", "message_flow")
    sid = sid_of("QE", service + status)
    of_it = {"sid": sid, "account_sid": account_sid, "messaging_service_sid": service, "campaign_status": status}
    return of_it | dict.fromkeys(fields) | {"date_created": CREATED, "date_updated": CREATED, "errors": []}


def verification(account_sid: str, number_sid: str, own: OwnNumber) -> dict[str, Any]:
    of_it = {"sid": sid_of("HH", number_sid), "account_sid": account_sid, "tollfree_phone_number_sid": number_sid}
    return of_it | {"status": own.verification, "date_created": CREATED, "date_updated": CREATED}
