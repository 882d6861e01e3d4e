"""Gathers the facts of Twilio, through its API. Nothing is changed, and nothing is sent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import phonenumbers
from twilio.base.exceptions import TwilioRestException

from sms_retry.doctor.finding import Unseen, seen
from sms_retry.doctor.registration import Kind
from sms_retry.doctor.twilio import Account, Login, Number, Sender, Service
from sms_retry.settings import TWILIO_API_URL, Credentials
from sms_retry.twilio import open_clients

MESSAGING_URL = "https://messaging.twilio.com"
# Seconds for one answer.
TIMEOUT = 10.0
# So many of the latest messages show whether texts or numbers are redacted, and so many services are read.
LATEST = 20
MOST = 50
US_AND_CANADA = 1


def accounts(credentials: Credentials, api_url: str) -> list[Account]:
    """The main account of the credentials and its subaccounts."""
    named = [(None, credentials), *credentials.accounts.items()]
    return [_account(name, own, api_url) for name, own in named]


def senders(credentials: Credentials, api_url: str, given: Sequence[tuple[str, str | None]]) -> list[Sender]:
    """The senders, each given with the name of its account."""
    found = []
    for sender, account in given:
        own = credentials.named(account)
        fact = _found(sender, own, api_url) if own else Unseen(f"The Twilio secret has no account {account}")
        found.append(Sender(sender, account, fact))
    return found


def _account(name: str | None, own: Credentials, api_url: str) -> Account:
    # An API key of the kind Standard may not read accounts: https://www.twilio.com/docs/iam/api-keys
    signing = replace(own, api_key_sid=None, api_key_secret=None)
    token: Login | Unseen = "absent"  # noqa: S105
    record: Any = Unseen("The secret has no auth token")
    if own.auth_token:
        record, status = _ask(signing, api_url, lambda client: client.api.v2010.accounts(own.account_sid).fetch())
        token = _login(record, status)
    latest, status = _ask(own, api_url, lambda client: client.messages.list(limit=LATEST, page_size=LATEST))
    is_seen = not isinstance(record, Unseen)
    return Account(
        name=name,
        token=token,
        key=_login(latest, status) if own.api_key_sid else "absent",
        status=record.status if is_seen else record,
        is_trial=is_seen and record.type == "Trial",
        hidden=latest if isinstance(latest, Unseen) else _hidden(latest),
    )


def _ask(own: Credentials, url: str, question: Callable[[Any], Any]) -> tuple[Any, int]:
    """Twilio's answer, or Unseen, and its HTTP status."""
    with open_clients(url, TIMEOUT) as client:
        signed_in, wire = client(own)
        return seen(lambda: question(signed_in)), wire.answer[0]


def _login(answer: Any, status: int) -> Login | Unseen:
    if isinstance(answer, Unseen):
        return "wrong" if status == 401 else answer
    return "right"


def _hidden(latest: Sequence[Any]) -> tuple[str, ...]:
    """Redaction blanks the text and masks the number: https://www.twilio.com/docs/messaging/guides/privacy-message-redaction"""
    ours = [record for record in latest if record.direction.startswith("outbound")]
    texts = any(not record.body and not int(record.num_media or 0) for record in ours)
    numbers = any("X" in record.to for record in ours)
    return ("texts",) * texts + ("numbers",) * numbers


def _found(sender: str, own: Credentials, api_url: str) -> Number | Service | Unseen | None:
    if any(character.isalpha() for character in sender) and not sender.startswith("MG"):
        return Unseen("Twilio's API has no list of names. A name gets no reply, and so no STOP")
    messaging = MESSAGING_URL if api_url == TWILIO_API_URL else api_url
    found: Number | Service | Unseen | None
    if sender.startswith("MG"):
        found, status = _ask(own, messaging, lambda client: _service(client, own, sender, api_url, messaging))
    elif sender.startswith("+"):
        found, status = _ask(own, api_url, lambda client: _number(client, own, sender, messaging))
    else:
        found, status = _ask(own, api_url, lambda client: _short_code(client, sender))
    return None if isinstance(found, Unseen) and status == 404 else found


def _short_code(client: Any, code: str) -> Number | None:
    for record in client.short_codes.list(short_code=code, limit=1):
        return Number(code, True, record.sms_url, record.sms_method)
    return None


def _number(client: Any, own: Credentials, number: str, messaging: str, is_pooled: bool = False) -> Number | None:
    """A number, and the Messaging Service that has it, if any: its setting for replies is the one that counts."""
    records = client.incoming_phone_numbers.list(phone_number=number, limit=1)
    if not records:
        return None
    [record], kind = records, _kind(number)
    verification: Any = None
    if kind == "toll-free":
        verification, _ = _ask(own, messaging, lambda asked: _verification(asked, record.sid))
    service: Any = None
    if not is_pooled:
        service, _ = _ask(own, messaging, lambda asked: _service_of(asked, record.sid))
    return Number(
        number=number,
        can_text=bool((record.capabilities or {}).get("sms")),
        url=record.sms_url,
        method=record.sms_method,
        application=bool(record.sms_application_sid),
        kind=kind,
        verification=verification,
        service=service,
    )


def _kind(number: str) -> Kind:
    """Registration is demanded of numbers of the United States, and of toll-free numbers of the same plan."""
    parsed = phonenumbers.parse(number)
    kind = phonenumbers.number_type(parsed)
    if parsed.country_code == US_AND_CANADA and kind == phonenumbers.PhoneNumberType.TOLL_FREE:
        return "toll-free"
    return "local" if phonenumbers.region_code_for_number(parsed) == "US" else "elsewhere"


def _verification(client: Any, sid: str) -> str | None:
    records = client.messaging.v1.tollfree_verifications.list(tollfree_phone_number_sid=sid, limit=1)
    return next((record.status for record in records), None)


def _service_of(client: Any, phone_number_sid: str) -> Service | None:
    for record in client.messaging.v1.services.list(limit=MOST):
        try:
            client.messaging.v1.services(record.sid).phone_numbers(phone_number_sid).fetch()
        except TwilioRestException as error:
            if error.status != 404:
                raise
        else:
            return _settings(client, record, ())
    return None


def _service(client: Any, own: Credentials, sid: str, api_url: str, messaging: str) -> Service:
    record = client.messaging.v1.services(sid).fetch()
    listed = client.messaging.v1.services(sid).phone_numbers
    pool = seen(lambda: [each.phone_number for each in listed.list(limit=MOST)])
    if isinstance(pool, Unseen):
        return _settings(client, record, pool)
    numbers = [
        _ask(own, api_url, partial(_number, own=own, number=n, messaging=messaging, is_pooled=True))[0] for n in pool
    ]
    refused = next((number for number in numbers if isinstance(number, Unseen)), None)
    return _settings(client, record, refused or tuple(number for number in numbers if number))


def _settings(client: Any, record: Any, numbers: tuple[Number, ...] | Unseen) -> Service:
    campaigns = seen(
        lambda: tuple(each.campaign_status for each in client.messaging.v1.services(record.sid).us_app_to_person.list())
    )
    return Service(
        sid=record.sid,
        url=record.inbound_request_url,
        method=record.inbound_method,
        per_number=bool(record.use_inbound_webhook_on_number),
        smart_encoding=bool(record.smart_encoding),
        campaigns=campaigns,
        numbers=numbers,
    )
