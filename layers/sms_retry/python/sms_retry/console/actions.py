"""The console's forms: each reads its fields, acts through `operate`, and names the next page and a notice."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from sms_retry import operate
from sms_retry.console.fields import InvalidField, NoSuchMessage, batch_of, code, instant, message_id, number
from sms_retry.intake import SENDER
from sms_retry.readings import CurrentHold, MessageDetails
from sms_retry.store import Refused, Store

Fields = Mapping[str, str]

PREFIX = re.compile(r"\+[1-9][0-9]{0,6}")
# An HTTP API waits 30 seconds, so a form stops after this many batches; the same form continues.
MOST_BATCHES = 20
# The reasons of SQL's sms_resend_forbidden.
RESEND_FORBIDDEN = ("called_off", "opted_out")

NOTICES = {
    "due": "The message is due now. It is sent within a minute.",
    "not_due": "Nothing was changed: only a waiting, failed or unknown message can be sent again.",
    "cancelled": "The message is cancelled.",
    "never_again": "The message is being sent, or was sent already. It is not sent again.",
    "too_late": "Nothing was changed: the message has ended.",
    "batch_cancelled": "Messages cancelled: {n}. No message of the batch is sent again.",
    "batch_not_yet": "Messages cancelled: {n}. Some are left, such as one that is being sent now: cancel again.",
    "requeued": "Due now: {n}.",
    "requeued_some": "Due now: {n}. More messages are left: send the form again.",
    "hold_set": "The hold is set.",
    "hold_cleared": "The hold is cleared.",
    "no_hold": "This hold was already cleared.",
    "budget_set": "The budget is set.",
    "budget_removed": "The budget is removed. Messages that waited for it are due now.",
    "sender_set": "The sender is recorded.",
    "opted_out": "The person has opted out. Waiting messages that ended: {n}.",
    "opted_in": "The person has opted in.",
    "erased": "Messages erased: {n}.",
    "erasing": "Messages erased: {n}. Some are left, such as one that is being sent now: erase again in a minute.",
}


@dataclass(frozen=True, slots=True)
class Done:
    """The next page, and its notice: a key of NOTICES and the number in it."""

    page: str
    notice: str
    n: int = 0

    @property
    def text(self) -> str:
        return NOTICES[self.notice].format(n=self.n)


@dataclass(frozen=True, slots=True)
class Question:
    """A second question before an action: its consequence, the word of its button, and the page to go back to."""

    question: str
    sentence: str
    word: str
    back: str


def retry(store: Store, actor: str, fields: Fields) -> Done:
    id = message_id(store, fields.get("message_id", ""))
    force = fields.get("force") == "yes"
    if force:
        _require_confirmation(fields)
    due = operate.retry(store, actor, id, force)
    return Done(f"/messages/{id}", "due" if due else "not_due")


def cancel(store: Store, actor: str, fields: Fields) -> Done:
    id = message_id(store, fields.get("message_id", ""))
    match operate.cancel(store, actor, id):
        case "cancelled":
            return Done(f"/messages/{id}", "cancelled")
        case "queued" | "sent" | "unknown":
            return Done(f"/messages/{id}", "never_again")
        case _:
            return Done(f"/messages/{id}", "too_late")


def cancel_batch(store: Store, actor: str, fields: Fields) -> Done:
    id, batch = fields.get("message_id", ""), batch_of(store, fields.get("message_id", ""))
    _require_confirmation(fields)
    cancelled = operate.cancel_batch(store, actor, batch, MOST_BATCHES)
    notice = "batch_not_yet" if store.batch(batch).get("queued") else "batch_cancelled"
    return Done(f"/messages/{id}/batch", notice, cancelled)


def requeue(store: Store, actor: str, fields: Fields) -> Done:
    error_code, since = code(fields.get("code")), instant(fields.get("since"))
    if error_code is None or since is None:
        raise InvalidField("Enter a code and a start time.")
    _require_confirmation(fields)
    counted = store.failed_since(error_code, since)
    requeued = operate.requeue_all(store, actor, error_code, since, counted, MOST_BATCHES)
    return Done("/waiting", "requeued" if requeued.is_complete else "requeued_some", requeued.messages)


def hold(store: Store, actor: str, fields: Fields) -> Done | Question:
    scope, why = fields.get("scope"), fields.get("reason", "")
    match scope:
        case "account":
            # A hold on the main account lets the subaccounts go on.
            keys = ["*", *sorted({each.account for each in store.senders() if each.account})]
        case "country" if PREFIX.fullmatch(fields.get("key", "")):
            keys = [fields["key"]]
        case "country":
            raise InvalidField("Enter a country as the prefix of its numbers, such as +44 or +1876.")
        case "recipient":
            keys = [number(fields.get("key", ""))]
        case "batch" if "message_id" in fields:
            keys = [batch_of(store, fields["message_id"])]
        case "business" | "batch" if fields.get("key", "") not in ("", "*"):
            keys = [fields["key"]]
        case _:
            raise InvalidField("Choose the account, a country, a person, or a business or batch by its name.")
    minutes = fields.get("minutes", "")
    wait = timedelta(minutes=int(minutes)) if re.fullmatch("[0-9]{1,9}", minutes) else timedelta(0)
    if not timedelta(minutes=1) <= wait <= operate.LONGEST_HOLD:
        raise InvalidField("A hold lasts at least one minute and at most a hundred years.")
    if not 1 <= len(why) <= 100:
        raise InvalidField("Enter a reason of at most 100 characters.")
    if scope == "account":
        _require_confirmation(fields)
        if not _is_asked_again(fields):
            return Question("Stop every message?", "Nothing is sent until the hold is over.", "Set the hold", "/holds")
    for key in keys:
        operate.hold(store, actor, scope, key, wait, why)
    return Done("/holds", "hold_set")


def clear(store: Store, actor: str, fields: Fields) -> Done:
    for each in store.current_holds():
        if handle(each) == fields.get("hold") and operate.clear_hold(store, actor, each.scope, each.key):
            return Done("/holds", "hold_cleared")
    return Done("/holds", "no_hold")


def sender(store: Store, actor: str, fields: Fields) -> Done:
    name, given = fields.get("sender", ""), {field: fields.get(field) or None for field in ("business_id", "account")}
    if not SENDER.fullmatch(name):
        raise InvalidField(
            "Enter a number, a short code, a name of up to 11 letters and digits, MG and 32 digits, or *."
        )
    pace = fields.get("pace", "")
    if pace and not (re.fullmatch(r"[0-9]{1,6}([.][0-9]{1,4})?", pace) and Decimal(pace)):
        raise InvalidField("Enter the segments a second as a number above 0, such as 10 or 0.5.")
    if given["account"] and not re.fullmatch("[A-Za-z0-9_-]{1,64}", given["account"]):
        raise InvalidField("Enter the name of a subaccount in the Twilio secret.")
    try:
        operate.set_sender(store, actor, name, given["business_id"], Decimal(pace) if pace else None, given["account"])
    except Refused as refused:
        raise InvalidField(str(refused)) from None
    return Done("/senders", "sender_set")


def budget(store: Store, actor: str, fields: Fields) -> Done:
    """Sets a budget, or removes it: the button of a listed one has no field `segments`."""
    scope, key, segments, seconds = (fields.get(name, "") for name in ("scope", "key", "segments", "seconds"))
    if not re.fullmatch("[0-9]{1,9}", seconds):
        raise InvalidField("Choose an interval.")
    if "segments" in fields and not re.fullmatch("[0-9]{1,9}", segments):
        raise InvalidField("Enter the segments as a whole number.")
    amount = int(segments) if "segments" in fields else None
    try:
        operate.set_budget(store, actor, scope, key, amount, timedelta(seconds=int(seconds)))
    except Refused as refused:
        raise InvalidField(str(refused)) from None
    return Done("/budgets", "budget_removed" if amount is None else "budget_set")


def consent(store: Store, actor: str, fields: Fields) -> Done:
    phone_number, page = _person(store, fields)
    business_id, wanted = fields.get("business_id", ""), fields.get("consent", "")
    if wanted not in ("opted_out", "opted_in"):
        raise InvalidField("Choose to opt out or to opt in.")
    if not 1 <= len(business_id) <= 255:
        raise InvalidField("Enter a business, or * for every business.")
    return Done(page, wanted, operate.set_consent(store, actor, business_id, phone_number, wanted))


def erase(store: Store, actor: str, fields: Fields) -> Done | Question:
    phone_number, page = _person(store, fields)
    _require_confirmation(fields)
    if not _is_asked_again(fields):
        return Question("Erase this person?", "The messages cannot be restored.", "Erase", page)
    erased = operate.erase_all(store, actor, phone_number, MOST_BATCHES)
    return Done("/people", "erasing" if erased.left else "erased", erased.messages)


FORMS: dict[str, Callable[[Store, str, Fields], Done | Question]] = {
    form.__name__: form for form in (retry, cancel, cancel_batch, requeue, hold, clear, sender, budget, consent, erase)
}


def possible(message: MessageDetails) -> frozenset[str]:
    """The actions that this message allows: `retry`, `force`, `cancel`."""
    waits, is_unknown, has_text = (
        message.queue_status == "pending",
        message.status == "unknown",
        message.body_length is not None,
    )
    found = {
        "retry": waits or (message.queue_status == "failed" and has_text),
        "force": is_unknown and has_text,
        "cancel": waits or (is_unknown and message.reason not in RESEND_FORBIDDEN),
    }
    return frozenset(action for action, can in found.items() if can)


def handle(hold: CurrentHold) -> str:
    """A hold's name in a form: its key may be a number, and a hash of a number can be reversed."""
    return f"{hold.scope} {hold.masked_key} {hold.opened_at.timestamp():.6f}"


def _person(store: Store, fields: Fields) -> tuple[str, str]:
    """The number that a form names, directly or by a message, and the page that the form is on."""
    if "message_id" in fields:
        id = message_id(store, fields["message_id"])
        phone_number = store.number_of(id)
        if phone_number is None:
            raise NoSuchMessage
        return phone_number, f"/messages/{id}/person"
    return number(fields.get("number", "")), "/people"


def _require_confirmation(fields: Fields) -> None:
    if fields.get("sure") != "yes":
        raise InvalidField("Select the checkbox first.")


def _is_asked_again(fields: Fields) -> bool:
    return fields.get("again") == "yes"
