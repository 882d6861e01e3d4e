"""The verdicts on Twilio. They depend on the facts alone, which `look_at_twilio` gathers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from sms_retry.doctor import registration
from sms_retry.doctor.finding import Finding, Unseen, unseen

Login = Literal["right", "wrong", "absent"]


@dataclass(frozen=True, slots=True)
class Account:
    """An account of the secret; None is the main one. Message Redaction hides `hidden` in its messages."""

    name: str | None
    token: Login | Unseen
    key: Login | Unseen
    status: str | Unseen
    is_trial: bool
    hidden: tuple[str, ...] | Unseen


@dataclass(frozen=True, slots=True)
class Service:
    """A Messaging Service. `url` is called for replies, unless `per_number`: then that of each number is."""

    sid: str
    url: str | None
    method: str | None
    per_number: bool
    smart_encoding: bool
    campaigns: tuple[str, ...] | Unseen
    numbers: tuple[Number, ...] | Unseen


@dataclass(frozen=True, slots=True)
class Number:
    """A number or a short code. `service` has it in its pool. `verification` is the state of a toll-free number."""

    number: str
    can_text: bool
    url: str | None
    method: str | None
    application: bool = False
    kind: registration.Kind = "elsewhere"
    verification: str | Unseen | None = None
    service: Service | Unseen | None = None


@dataclass(frozen=True, slots=True)
class Sender:
    """A sender of the deployment. `found` is None if its account does not have it."""

    sender: str
    account: str | None
    found: Number | Service | Unseen | None


def judge(accounts: Sequence[Account], senders: Sequence[Sender], addresses: Sequence[str]) -> Iterator[Finding]:
    """The findings; replies must be posted to one of `addresses` and /twilio/inbound."""
    for account in accounts:
        yield from _account(account)
    for sender in senders:
        yield from _sender(sender, [f"{address}/twilio/inbound" for address in addresses])


def _account(account: Account) -> Iterator[Finding]:
    named = f" of {account.name}" if account.name else ""
    yield _login(f"twilio: auth token{named}", account.token, "its callbacks are refused with 403")
    if account.key != "absent":
        yield _login(f"twilio: API key{named}", account.key, "nothing is sent")
    if account.token == "wrong":  # noqa: S105  a state, not a token
        return
    yield _status(f"twilio: account{named}", account)
    yield _redaction(f"twilio: redaction{named}", account.hidden)


def _login(check: str, login: Login | Unseen, effect: str) -> Finding:
    match login:
        case "right":
            return Finding(check, "ok", "Twilio accepts it.")
        case "wrong":
            do = "Put the one of Twilio's console into the secret, or into the environment."
            return Finding(check, "wrong", f"Twilio refuses it, so {effect}.", do)
        case "absent":
            do = "With TwilioWebhookSecretArn it is in that secret alone. Look at it by hand."
            return Finding(check, "warning", "Not looked at. The secret has none.", do)
        case Unseen():
            return unseen(check, login)


def _status(check: str, account: Account) -> Finding:
    match account.status:
        case Unseen() as why:
            return unseen(check, why)
        case "active" if account.is_trial:
            fact = "The account is a trial: Twilio sends to verified numbers only, and adds a sentence to each text."
            return Finding(check, "warning", fact, "Upgrade the account before production.")
        case "active":
            return Finding(check, "ok", "The account is active.")
        case status:
            return Finding(check, "wrong", f"The account is {status}.", "Pay its balance, or ask Twilio's support.")


def _redaction(check: str, hidden: tuple[str, ...] | Unseen) -> Finding:
    match hidden:
        case Unseen():
            return unseen(check, hidden)
        case ():
            return Finding(check, "ok", "The latest messages have their texts and numbers.")
        case _:
            fact = f"Message Redaction hides {' and '.join(hidden)}: reconcile recognizes no message by it."
            do = "Turn it off for this account. Else unknown messages are not sent again, and wait for a person."
            return Finding(check, "wrong", fact, do)


def _sender(sender: Sender, inbound: Sequence[str]) -> Iterator[Finding]:
    check = f"twilio: sender {sender.sender}"
    match sender.found:
        case Unseen() as why:
            yield unseen(check, why)
        case None:
            account = f"the account {sender.account}" if sender.account else "this account"
            do = "Correct TwilioSender, the sender's account, or the credentials."
            yield Finding(check, "wrong", f"It does not belong to {account}.", do)
        case Service() as service:
            yield Finding(check, "ok", "The account has this Messaging Service.")
            yield from _service(check, service, inbound)
        case Number(can_text=False):
            yield Finding(check, "wrong", "This number cannot send texts.", "Buy a number with the capability SMS.")
        case Number() as number:
            yield Finding(check, "ok", "The account has this number.")
            yield from _number(check, number, inbound)


def _service(check: str, service: Service, inbound: Sequence[str]) -> Iterator[Finding]:
    yield _smart_encoding(check, service)
    if not service.per_number:
        yield _webhook(f"{check}: replies", service.url, service.method, inbound)
    if isinstance(service.numbers, Unseen):
        yield unseen(f"{check}: numbers", service.numbers)
        return
    if not service.numbers:
        do = "Add a number, a short code or a name to its sender pool."
        yield Finding(f"{check}: numbers", "warning", "Its sender pool has no number.", do)
    for number in service.numbers:
        own = f"{check}: {number.number}"
        if service.per_number:
            yield _webhook(f"{own}: replies", number.url, number.method, inbound)
        yield from registration.judge(own, number.kind, number.verification, service.campaigns)


def _smart_encoding(check: str, service: Service) -> Finding:
    if not service.smart_encoding:
        return Finding(f"{check}: Smart Encoding", "ok", "It is off: texts go out as they are.")
    fact = "It is on: Twilio replaces typographic characters. reconcile recognizes the texts all the same, by letters"
    return Finding(f"{check}: Smart Encoding", "ok", f"{fact} and digits; budgets may count more segments than Twilio.")


def _number(check: str, number: Number, inbound: Sequence[str]) -> Iterator[Finding]:
    service = number.service
    if isinstance(service, Unseen):
        yield unseen(f"{check}: Messaging Service", service)
    if isinstance(service, Service) and not service.per_number:
        yield _webhook(f"{check}: replies", service.url, service.method, inbound)
    elif number.application:
        do = f"Remove the application from the number, and set its URL by POST to {inbound[0]}."
        yield Finding(f"{check}: replies", "warning", "A TwiML application decides about replies.", do)
    else:
        yield _webhook(f"{check}: replies", number.url, number.method, inbound)
    campaigns = service.campaigns if isinstance(service, Service) else ()
    yield from registration.judge(check, number.kind, number.verification, campaigns)


def _webhook(check: str, url: str | None, method: str | None, inbound: Sequence[str]) -> Finding:
    do = f"Set the URL for incoming messages to {inbound[0]}, by POST. Else no STOP arrives."
    if not url:
        return Finding(check, "wrong", "Replies have no URL, so Twilio drops them.", do)
    if url not in inbound:
        return Finding(check, "wrong", f"Replies go to {_without_secrets(url)}.", do)
    if method != "POST":
        return Finding(check, "wrong", f"Replies are sent by {method}, which the API does not have.", do)
    return Finding(check, "ok", f"Replies go to {url}.")


def _without_secrets(url: str) -> str:
    """A URL without its user, its password and its query, which may hold a secret."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
