"""What the console's forms do: each reads its fields, acts through `operate`, and says where to go and what to tell."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

from sms_retry import operate
from sms_retry.store import Store

Fields = Mapping[str, str]

E164 = re.compile(r"\+[1-9][0-9]{1,14}")
PREFIX = re.compile(r"\+[1-9][0-9]{0,6}")
ID = re.compile(r"[0-9]{1,18}")
A_TIME = "A time is written as 2026-01-31T09:00."
LONGEST_HOLD = timedelta(days=400_000)
# A form is answered within the time that an HTTP API waits; what is left then waits for the same form once more.
BATCH, MOST_BATCHES = 1000, 20

NOTICES = {
    "due": "It is due now, and goes within a minute.",
    "not_due": "It stays as it is: only what waits, has failed or is unknown can be sent again.",
    "cancelled": "It is called off.",
    "never_again": "It may have been sent already. It will not be sent again.",
    "too_late": "It stays as it is: only what waits can be called off.",
    "requeued": "Due now: {n}.",
    "requeued_some": "Due now: {n}. There are more: send again once more.",
    "held": "The hold is open.",
    "released": "The hold is closed.",
    "no_hold": "That hold was closed already.",
    "opted_out": "They are sent nothing more. Messages that waited for them and have ended: {n}.",
    "opted_in": "They are sent messages again.",
    "erased": "Messages erased: {n}.",
    "erasing": "Messages erased: {n}. What is on its way to Twilio stays until it is there: erase once more then.",
}


class InvalidForm(ValueError):
    """A field is not what it must be; the message says so to whoever filled it in, without repeating it."""


class NoSuchMessage(LookupError):
    """Nobody has taken in a message with this id, or it is erased."""


@dataclass(frozen=True, slots=True)
class Done:
    """The page to go to, and what to tell there: a key of NOTICES, and its number."""

    page: str
    notice: str
    n: int = 0


def retry(store: Store, actor: str, fields: Fields) -> Done:
    id = message_id(store, fields.get("message_id", ""))
    force = fields.get("force") == "yes"
    if force:
        _be_sure(fields)
    due = operate.retry(store, actor, id, force)
    return Done(f"/messages/{id}", "due" if due else "not_due")


def cancel(store: Store, actor: str, fields: Fields) -> Done:
    id = message_id(store, fields.get("message_id", ""))
    said = {"cancelled": "cancelled", "unknown": "never_again"}
    return Done(f"/messages/{id}", said.get(operate.cancel(store, actor, id) or "", "too_late"))


def requeue(store: Store, actor: str, fields: Fields) -> Done:
    error_code, since = code(fields.get("code")), instant(fields.get("since"))
    if error_code is None or since is None:
        raise InvalidForm("Say which code, and since when.")
    _be_sure(fields)
    # What fails again meanwhile has had its turn.
    due, until = 0, store.failed_since(error_code, since)[1]
    for _ in range(MOST_BATCHES):
        batch = operate.requeue(store, actor, error_code, since, BATCH, until)
        due += batch
        if not batch:
            return Done("/waiting", "requeued", due)
    return Done("/waiting", "requeued_some", due)


def hold(store: Store, actor: str, fields: Fields) -> Done:
    scope, why = fields.get("scope"), fields.get("reason", "")
    match scope:
        case "account" | "sender":
            key = "*"
        case "country" if PREFIX.fullmatch(fields.get("key", "")):
            key = fields["key"]
        case "country":
            raise InvalidForm("A country is the beginning of its numbers, such as +44 or +1876.")
        case "recipient":
            key = number(fields.get("key", ""))
        case _:
            raise InvalidForm("A hold is on the account, a country or a person.")
    minutes = fields.get("minutes", "")
    wait = timedelta(minutes=int(minutes)) if re.fullmatch("[0-9]{1,9}", minutes) else timedelta(0)
    if not timedelta(minutes=1) <= wait <= LONGEST_HOLD:
        raise InvalidForm("A hold lasts for a minute at least.")
    if not 1 <= len(why) <= 100:
        raise InvalidForm("Say why, in at most 100 characters.")
    operate.hold(store, actor, scope, key, wait, why)
    return Done("/holds", "held")


def release(store: Store, actor: str, fields: Fields) -> Done:
    for each in store.read("sms_open_holds"):
        if handle(each) == fields.get("hold"):
            return Done("/holds", "released" if operate.clear_hold(store, actor, each.scope, each.key) else "no_hold")
    return Done("/holds", "no_hold")


def consent(store: Store, actor: str, fields: Fields) -> Done:
    phone_number, page = _person(store, fields)
    business_id, wanted = fields.get("business_id", ""), fields.get("consent", "")
    if wanted not in ("opted_out", "opted_in"):
        raise InvalidForm("A person opts out or in.")
    if not 1 <= len(business_id) <= 255:
        raise InvalidForm("Say from which business, or * for every one.")
    return Done(page, wanted, operate.set_consent(store, actor, business_id, phone_number, wanted))


def erase(store: Store, actor: str, fields: Fields) -> Done:
    phone_number, _ = _person(store, fields)
    _be_sure(fields)
    messages = 0
    for _ in range(MOST_BATCHES):
        erased = operate.erase(store, actor, phone_number)
        messages += erased.messages
        if erased.left <= erased.on_their_way:
            break
    return Done("/people", "erasing" if erased.left else "erased", messages)


FORMS: dict[str, Callable[[Store, str, Fields], Done]] = {
    form.__name__: form for form in (retry, cancel, requeue, hold, release, consent, erase)
}


def message_id(store: Store, given: str) -> int:
    """The message that somebody names. NoSuchMessage: there is none, or that is no id."""
    if not ID.fullmatch(given) or not store.read("sms_number_of", int(given)):
        raise NoSuchMessage
    return int(given)


def possible(message: Any) -> frozenset[str]:
    """What can be done to a message as it stands: `retry`, `force`, `cancel`."""
    waits, doubt, has_text = message.queue_status == "pending", message.status == "unknown", message.body_length
    found = {
        "retry": waits or (message.queue_status == "failed" and has_text),
        "force": doubt and has_text,
        "cancel": waits or (doubt and message.on_unknown == "resend"),
    }
    return frozenset(what for what, can in found.items() if can)


def notice(query: Mapping[str, str]) -> str:
    """What the page is to tell that a form has sent somebody to."""
    n = query.get("n", "")
    return NOTICES.get(query.get("done", ""), "").format(n=n if n.isascii() and n.isdigit() else 0)


def number(text: str) -> str:
    """A number as people write it, in E.164."""
    found = number_in(text)
    if found is None:
        raise InvalidForm("A number begins with + and its country, such as +14155550123.")
    return found


def number_in(text: str) -> str | None:
    """The number that somebody may have meant, in E.164; None where they meant none."""
    bare = re.sub(r"[\s().\-/]", "", text)
    if bare.startswith("00"):
        bare = f"+{bare[2:]}"
    return bare if E164.fullmatch(bare) else None


def code(text: str | None) -> int | None:
    if not text:
        return None
    if not re.fullmatch("[1-9][0-9]{0,8}", text):
        raise InvalidForm("A code is a number, such as 30003.")
    return int(text)


def instant(text: str | None) -> datetime | None:
    """What a browser's field for a time gives, which is read as UTC."""
    if not text:
        return None
    if not re.fullmatch(r"[2-9][0-9]{3}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(:[0-9]{2})?", text):
        raise InvalidForm(A_TIME)
    try:
        return datetime.fromisoformat(f"{text}+00:00")
    except ValueError:
        raise InvalidForm(A_TIME) from None


def handle(hold: Any) -> str:
    """What stands for a hold in a form: its key may be a number."""
    return sha256(f"{hold.scope} {hold.key}".encode()).hexdigest()[:32]


def _person(store: Store, fields: Fields) -> tuple[str, str]:
    """Whose number a form means, given or by way of a message of theirs, and the page that it came from."""
    if "message_id" in fields:
        id = message_id(store, fields["message_id"])
        return store.read("sms_number_of", id)[0].phone_number, f"/messages/{id}/person"
    return number(fields.get("number", "")), "/people"


def _be_sure(fields: Fields) -> None:
    if fields.get("sure") != "yes":
        raise InvalidForm("Tick the box first: this cannot be taken back.")
