"""What the command line can be result to do: each gives facts for programs and something for people to look at."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sms_retry import health, operate, runtime, terminal
from sms_retry.store import Store

# More than this at once is asked about first.
LARGE = 100
BATCH = 1000
# Ids are bigint.
LARGEST_ID = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a command: `facts` as JSON has them, and as `terminal` shows them."""

    facts: dict[str, Any]
    shown: terminal.Shown


Act = Callable[[Namespace], Result]


class CannotBeDone(Exception):
    """What was asked for is understood, and cannot be; the message says why to whoever asked."""


def status(_given: Namespace) -> Result:
    store = _store()
    figures = health.check(store)
    holds = [hold._asdict() for hold in store.read("sms_open_holds")]
    for hold in holds:
        hold["key"] = hold.pop("masked_key")
    held = [row[0] for row in store.read("held_sms")][:LARGE]
    return Result({**figures, "open_holds": holds, "held_messages": held}, terminal.status(figures, holds, held))


def show(given: Namespace) -> Result:
    store = _store()
    details = _details(store, given.message_id)
    if given.numbers:
        [asked_for] = store.read("show_sms", given.message_id, given.actor)
        details |= {"number": asked_for.phone_number, "body": asked_for.body}
    story = [event._asdict() for event in store.read("sms_message_story", given.message_id)]
    for action in store.read("sms_actions_done", f"message {given.message_id}", LARGEST_ID, LARGE):
        story.append({"at": action.at, "what": f"{action.action}, by {action.actor}", "detail": action.result})
    if not given.numbers:
        # What Twilio says of an error often has the number in it.
        for result, field in [(details, "error_message"), *((event, "detail") for event in story)]:
            result[field] = result[field] and operate.without_numbers(result[field])
    story.sort(key=lambda event: event["at"])
    return Result({**details, "story": story}, terminal.story(details, story))


def retry(given: Namespace) -> Result:
    store = _store()
    if operate.retry(store, given.actor, given.message_id, given.force):
        return Result({"due": True}, f"Message {given.message_id} is due now: the next tick sends it.")
    details = _details(store, given.message_id)
    if details["body_length"] is None:
        why = "its text is erased"
    elif details["status"] == "unknown":
        why = "it may have been sent; --force sends it all the same"
    else:
        why = f"it is {details['status'] if details['queue_status'] != 'processing' else 'being sent'}"
    raise CannotBeDone(f"message {given.message_id} stays as it is: {why}")


def cancel(given: Namespace) -> Result:
    became = operate.cancel(_store(), given.actor, given.message_id)
    match became:
        case "cancelled":
            return Result({"status": became}, f"Message {given.message_id} is called off.")
        case "unknown":
            return Result({"status": became}, f"Message {given.message_id} may have been sent; it is not sent again.")
        case None:
            raise _no_such(given.message_id)
        case _:
            raise CannotBeDone(f"message {given.message_id} cannot be called off any more: it is {became}")


def requeue(given: Namespace) -> Result:
    store, requeued = _store(), 0
    failed, until = store.failed_since(given.code, given.since)
    if failed > LARGE:
        _ask(given, f"Give {_messages(failed)} that failed with {given.code} one more try?")
    with terminal.progress("requeued") as went:
        while batch := operate.requeue(store, given.actor, given.code, given.since, BATCH, until):
            requeued += batch
            went(requeued, failed)
    late = f"; {failed - requeued:,} came too late and stay as they ended" if requeued < failed else ""
    return Result({"requeued": requeued, "failed": failed}, f"Due now: {_messages(requeued)}{late}.")


def hold(given: Namespace) -> Result:
    operate.hold(_store(), given.actor, given.scope, given.key, given.wait, given.reason)
    until = datetime.now(UTC) + given.wait
    shown = f"Nothing goes there before {terminal.instant(until)} (UTC); then one message finds out."
    return Result({"held_until": until}, shown)


def release(given: Namespace) -> Result:
    if not operate.release(_store(), given.actor, given.scope, given.key):
        raise CannotBeDone("there is no such hold")
    return Result({"released": True}, "The hold is closed.")


def set_consent(given: Namespace) -> Result:
    ended = operate.set_consent(_store(), given.actor, given.business, given.number, given.consent)
    facts = {"consent": given.consent, "ended": ended}
    return Result(facts, f"Written down. Ended, of what waited for them: {_messages(ended)}.")


def erase(given: Namespace) -> Result:
    store, person = _store(), operate.masked(given.number)
    _ask(given, f"Erase {person} and everything that was sent to them? Nothing brings it back.")
    messages = 0
    with terminal.progress("erased") as went:
        while True:
            erased = operate.erase(store, given.actor, given.number)
            messages += erased.messages
            went(messages, messages + erased.left)
            if erased.left <= erased.on_their_way or not erased.messages:
                break
    left = f" Being sent right now: {erased.left:,}; erase once more in a minute." if erased.left else ""
    return Result({"messages": messages, "left": erased.left}, f"Erased: {person}, {_messages(messages)}.{left}")


def _store() -> Store:
    # Whoever waits for an answer would rather hear at once that there is none.
    return runtime.store(timedelta(0))


def _details(store: Store, message_id: int) -> dict[str, Any]:
    found = store.read("sms_message_details", message_id)
    if not found:
        raise _no_such(message_id)
    details: dict[str, Any] = found[0]._asdict()
    return details


def _messages(number: int) -> str:
    return f"{number:,} message{'' if number == 1 else 's'}"


def _no_such(message_id: int) -> CannotBeDone:
    return CannotBeDone(f"there is no message {message_id}")


def _ask(given: Namespace, question: str) -> None:
    if given.yes:
        return
    if not sys.stdin.isatty():
        raise CannotBeDone(f"{question} Nobody is there to answer: say --yes, or ask from a terminal")
    if input(f"{question} [y/N] ").strip().lower() not in ("y", "yes"):
        raise CannotBeDone("nothing was changed")
