"""The commands of the command line: each returns facts for programs, and a text or tables for people."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sms_retry import health, numbers, operate, prices, runtime, terminal
from sms_retry.readings import MessageDetails, StoryStep
from sms_retry.store import Refused, Store

# An action on more messages than this asks for confirmation, and a list shows no more.
LARGE = 100
# Stands for failures without a code.
NO_CODE = "none"
# Ids are bigint.
LARGEST_ID = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a command: `facts` are printed as JSON, `shown` by `terminal`."""

    facts: dict[str, Any]
    shown: terminal.Shown
    # The exit code of the program.
    code: int = 0


Act = Callable[[Namespace], Result]


class CannotBeDone(Exception):
    """The command is valid and cannot be carried out; the message gives the operator the reason."""


def status(_given: Namespace) -> Result:
    store = _store()
    figures, parked = health.check(store), store.parked()[:LARGE]
    holds = [hold._replace(reason=operate.without_numbers(hold.reason)) for hold in store.current_holds()]
    listed = [hold._asdict() for hold in holds]
    for hold in listed:
        hold["key"] = hold.pop("masked_key")
    spent = [budget._asdict() for budget in store.budgets() if budget.spent >= budget.segments]
    facts = {**figures, "open_holds": listed, "held_messages": parked, "spent_budgets": spent}
    shown: terminal.Shown = terminal.status(figures, holds, parked, store.senders_of(parked))
    return Result(facts, terminal.together(shown, terminal.budgets(spent)) if spent else shown)


def show(given: Namespace) -> Result:
    store = _store()
    details, body = _details(store, given.message_id), None
    if given.numbers:
        # Before the actions are read, so that this one is among them.
        shown = store.show(given.message_id, _actor(given, store))
        if shown is None:
            raise _no_such(given.message_id)
        details, body = details._replace(number=shown.phone_number), shown.body
    steps = _story(store, given.message_id)
    if not given.numbers:
        # Twilio's error messages often contain the number.
        error_message, key = map(_without_numbers, (details.error_message, details.message_key))
        details = details._replace(error_message=error_message, message_key=key)
        steps = [step._replace(detail=_without_numbers(step.detail)) for step in steps]
    origin = store.message_origin(given.message_id)
    facts = {**details._asdict(), **(origin._asdict() if origin else {}), **({"body": body} if given.numbers else {})}
    printed = terminal.story(details, origin, body, steps)
    return Result({**facts, "story": [step._asdict() for step in steps]}, printed)


def retry(given: Namespace) -> Result:
    store = _store()
    if operate.retry(store, _actor(given, store), given.message_id, given.force):
        return Result({"due": True}, f"Message {given.message_id} is due now: the next tick sends it.")
    details = _details(store, given.message_id)
    if details.body_length is None:
        why = "its text is erased"
    elif details.status == "unknown":
        why = "it may have been sent; --force sends it all the same"
    else:
        why = f"it is {details.status if details.queue_status != 'processing' else 'being sent'}"
    raise CannotBeDone(f"message {given.message_id} was not changed: {why}")


def cancel(given: Namespace) -> Result:
    store = _store()
    became = operate.cancel(store, _actor(given, store), given.message_id)
    match became:
        case "cancelled":
            return Result({"status": became}, f"Message {given.message_id} is cancelled.")
        case "queued" | "sent" | "unknown":
            # A message that waits would be cancelled: a queued one is being sent.
            may = {"queued": "is being sent", "sent": "was sent", "unknown": "may have been sent already"}[became]
            return Result({"status": became}, f"Message {given.message_id} {may}. It is not sent again.")
        case None:
            raise _no_such(given.message_id)
        case _:
            raise CannotBeDone(f"message {given.message_id} cannot be cancelled: it is {became}")


def requeue(given: Namespace) -> Result:
    store = _store()
    cause = given.reason or (None if given.code == NO_CODE else given.code)
    counted = store.failed_since(cause, given.since)
    if counted.failed > LARGE:
        _confirm(given, f"Give {_messages(counted.failed)} that failed with {operate.named(cause)} one more try?")
    with terminal.progress("requeued") as progress:
        requeued = operate.requeue_all(store, _actor(given, store), cause, given.since, counted, progress=progress)
    facts = {"requeued": requeued.messages, "failed": counted.failed}
    stayed = counted.failed - requeued.messages
    late = f" Too late to send: {_messages(stayed)}." if stayed > 0 else ""
    return Result(facts, f"Due now: {_messages(requeued.messages)}.{late}")


def hold(given: Namespace) -> Result:
    store, wait = _store(), min(given.wait, operate.LONGEST_HOLD)
    operate.hold(store, _actor(given, store), given.scope, given.key, wait, given.reason)
    until = datetime.now(UTC) + wait
    shown = (
        f"The hold on {_place(given)} is set. Nothing is sent there before {terminal.instant(until)} (UTC); then one"
        " message probes it."
    )
    return Result({"held_until": until}, shown)


def clear_hold(given: Namespace) -> Result:
    store = _store()
    if not operate.clear_hold(store, _actor(given, store), given.scope, given.key):
        raise CannotBeDone("this hold is not set")
    return Result({"released": True}, "The hold is cleared.")


def senders(_given: Namespace) -> Result:
    known = _store().senders()
    return Result({"senders": [sender._asdict() for sender in known]}, terminal.senders(known))


def set_sender(given: Namespace) -> Result:
    store = _store()
    try:
        operate.set_sender(store, _actor(given, store), given.sender, given.business, given.pace, given.account)
    except Refused as refused:
        raise CannotBeDone(str(refused)) from None
    facts = {"sender": given.sender, "business_id": given.business, "segments_per_second": given.pace}
    return Result({**facts, "account": given.account}, f"Recorded: the sender {given.sender}.")


def budgets(_given: Namespace) -> Result:
    found = [budget._asdict() for budget in _store().budgets()]
    return Result({"budgets": found}, terminal.budgets(found))


def set_budget(given: Namespace) -> Result:
    store = _store()
    wanted = (given.of, given.key, given.per)
    if given.segments is None and wanted not in [(each.scope, each.key, each.per) for each in store.budgets()]:
        raise CannotBeDone("this budget is not set; `budgets` lists each with its interval")
    try:
        operate.set_budget(store, _actor(given, store), given.of, given.key, given.segments, given.per)
    except Refused as refused:
        raise CannotBeDone(str(refused)) from None
    facts = {"scope": given.of, "key": given.key, "segments": given.segments}
    return Result(facts, "The budget is removed." if given.segments is None else "The budget is set.")


def usage(given: Namespace) -> Result:
    table = None
    if given.prices:
        try:
            table = prices.read(given.prices)
        except prices.InvalidPrices as fault:
            raise CannotBeDone(str(fault)) from None
    store = _store()
    found = store.usage(given.by, given.since)
    estimated, unpriced = (
        prices.estimates(store.segments_by_country(given.by, given.since), table) if table else ({}, set[str]())
    )
    facts = [row._asdict() | {"delivery_rate": row.delivery_rate} for row in found]
    if table:
        facts = [row | {"estimated_price": estimated.get(row["name"])} for row in facts]
    shown = terminal.usage(given.by, found, estimated if table else None, sorted(unpriced))
    return Result({"usage": facts, "countries_without_price": sorted(unpriced)}, shown)


def set_consent(given: Namespace) -> Result:
    store, number = _store(), _number(given)
    ended = operate.set_consent(store, _actor(given, store), given.business, number, given.consent)
    facts = {"consent": given.consent, "ended": ended}
    return Result(facts, f"Recorded. Waiting messages that ended: {ended:,}.")


def erase(given: Namespace) -> Result:
    number = _number(given)
    store, person = _store(), operate.masked(number)
    _confirm(given, f"Erase {person} and every message to this person? This cannot be undone.")
    with terminal.progress("erased") as progress:
        erased = operate.erase_all(store, _actor(given, store), number, progress=progress)
    left = f" Being sent now: {erased.left:,}. Erase again in a minute." if erased.left else ""
    return Result(erased._asdict(), f"Erased: {person}, {_messages(erased.messages)}.{left}")


def doubt(given: Namespace) -> Result:
    store = _store()
    _confirm(given, f"Ask Twilio about every message that may have been sent since {given.since:%Y-%m-%d %H:%M:%S%z}?")
    doubted = operate.doubt(store, _actor(given, store), given.since)
    shown = f"In doubt: {_messages(doubted)}. reconcile asks Twilio about each, and decides after 30 minutes."
    return Result({"doubted": doubted}, shown)


def export(given: Namespace) -> Result:
    store, number = _store(), _number(given)
    exported = operate.export(store, _actor(given, store), number)
    return Result(exported, json.dumps(exported, indent=2, ensure_ascii=False))


def batch(given: Namespace) -> Result:
    store, key = _store(), given.batch
    counts = store.batch(key)
    if not counts:
        raise CannotBeDone("no message is in this batch")
    if given.cancel:
        _confirm(given, f"Cancel {_messages(counts.get('queued', 0))} of the batch? This cannot be undone.")
        with terminal.progress("cancelled") as progress:
            cancelled = operate.cancel_batch(store, _actor(given, store), key, progress=progress)
        facts = {"cancelled": cancelled, "messages": store.batch(key)}
        return Result(facts, f"Cancelled: {_messages(cancelled)}. No message of the batch is sent again.")
    if given.wait:
        return hold(Namespace(**vars(given), scope="batch", key=key, reason="by hand"))
    if given.release:
        return clear_hold(Namespace(**vars(given), scope="batch", key=key))
    return Result({"messages": counts}, terminal.counts(counts))


def _store() -> Store:
    # An operator prefers an error at once to a wait for the database.
    return runtime.store(timedelta(0))


def _actor(given: Namespace, store: Store) -> str:
    """The operator: the user of this machine, which a variable can change, and the role of the database."""
    return f"{given.actor} ({store.session_user()})"


def _number(given: Namespace) -> str:
    """The number of the arguments, or else of a prompt or of standard input: there no list of processes shows it."""
    if given.number:
        return str(given.number)
    text = _asked("Number: ") if sys.stdin.isatty() else sys.stdin.readline()
    number = numbers.from_text(text.strip())
    if number is None:
        raise CannotBeDone("NUMBER must be a phone number such as +14155550123")
    return number


def _details(store: Store, message_id: int) -> MessageDetails:
    details = store.message_details(message_id)
    if details is None:
        raise _no_such(message_id)
    return details


def _story(store: Store, message_id: int) -> list[StoryStep]:
    """The steps of one message and the actions on it, in order."""
    steps = store.message_story(message_id)
    for action in store.recorded_actions(f"message {message_id}", LARGEST_ID, LARGE):
        steps.append(StoryStep(action.at, f"{action.action}, by {action.actor}", None, None, None, action.result))
    return sorted(steps, key=lambda step: step.at)


def _without_numbers(text: str | None) -> str | None:
    return text and operate.without_numbers(text)


def _place(given: Namespace) -> str:
    if given.key == "*":
        return {"account": "the main account", "sender": "TWILIO_SENDER"}[given.scope]
    return f"the {given.scope} {operate.masked(given.key) if given.scope == 'recipient' else given.key}"


def _messages(number: int) -> str:
    return f"{number:,} message{'' if number == 1 else 's'}"


def _no_such(message_id: int) -> CannotBeDone:
    return CannotBeDone(f"message {message_id} does not exist")


def _confirm(given: Namespace, question: str) -> None:
    if given.yes:
        return
    if not sys.stdin.isatty():
        raise CannotBeDone(f"{question} The input is not a terminal: confirm with --yes")
    if _asked(f"{question} [y/N] ").strip().lower() not in ("y", "yes"):
        raise CannotBeDone("nothing was changed")


def _asked(question: str) -> str:
    try:
        return input(question)
    except EOFError:
        raise CannotBeDone("nothing was changed") from None
