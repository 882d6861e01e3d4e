"""Statuses, reasons and times in words, and the templates."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from sms_retry import codes, operate
from sms_retry.console.plots import ENDINGS
from sms_retry.readings import ListedMessage, MessageDetails

TEMPLATES = Path(__file__).parent / "templates"
STYLE = (TEMPLATES / "style.css").read_text()
STYLE_VERSION = sha256(STYLE.encode()).hexdigest()[:12]


class Status(NamedTuple):
    """A status on a page: a word and an icon, because colour alone is not accessible."""

    tone: str
    icon: str
    word: str


STATUSES = {
    "pending": Status("wait", "clock", "waiting"),
    "processing": Status("busy", "arrow", "being sent"),
    "queued": Status("wait", "clock", "waiting"),
    "sent": Status("good", "check", "sent"),
    "completed": Status("good", "check", "sent"),
    "accepted": Status("good", "check", "accepted"),
    "delivered": Status("good", "checks", "delivered"),
    "undelivered": Status("bad", "cross", "undelivered"),
    "failed": Status("bad", "cross", "failed"),
    "refused": Status("bad", "cross", "refused"),
    "unknown": Status("doubt", "question", "unknown"),
    "cancelled": Status("off", "minus", "cancelled"),
    "canceled": Status("off", "minus", "cancelled"),
    "expired": Status("off", "hourglass", "expired"),
}
REASONS = {
    "quiet_hours": "outside the recipient's hours",
    "no_sending_hours": "the recipient's hours open only after it expires",
    "daily_limit": "the recipient's limit of messages is reached",
    "hold": "a hold is set",
    "given_back": "its worker ran out of time before the send",
    "first_send_failed": "the first send failed",
    "not_connected": "Twilio could not be reached",
    "retries_spent": "all retries are spent",
    "opted_out": "the person opted out",
    "called_off": "cancelled by hand",
    "by_hand": "retried by hand",
    "unknown": "Twilio did not list it for 30 minutes",
    "restored": "the database was restored; Twilio is asked first",
    "held": "parked: it may have been sent, and a person decides",
    "unlisted": "its code is not in the table of codes",
    "no_code": "Twilio gave no code",
    "invalid_number": "no phone number can be like this one",
    "budget": "its budget is spent",
    "not_allowed": "OnlyTo does not list this number",
    "error": "an error of the service; it is tried again every 15 minutes",
    "body_erased": "its text is erased",
    "twilio_down": "Twilio does not answer",
}


def status_of(row: ListedMessage | MessageDetails) -> Status:
    """The status of its queue row while that waits or is claimed, and otherwise of the message."""
    moves = row.queue_status in ("pending", "processing")
    return STATUSES[str(row.queue_status) if moves else row.status]


def because(row: ListedMessage) -> str:
    """The reason for a message's status; empty if none is known."""
    went = row.status in ("sent", "delivered")
    return reason(row.reason) or (meaning(row.error_code) if row.error_code and not went else "")


def reason(word: str | None) -> str:
    """A queue row's reason in words; an error's words come from the table of codes."""
    error = re.fullmatch("error_([0-9]{1,9})", word or "")
    return f"error {error[1]}: {meaning(int(error[1]))}" if error else REASONS.get(word or "", word or "")


def meaning(code: int) -> str:
    """A code's words in the table of codes."""
    rule = codes.code_rules().get(code)
    return rule.reason if rule else "not in the table of codes"


def why(row: ListedMessage, now: datetime, on_hold: bool) -> str:
    """The reason why a message is stuck, and its next step; `on_hold`: a hold on the account or the sender is set."""
    match row.queue_status, row.ended:
        case "unknown", True:
            return "It may have been sent. A person decides whether to send it again."
        case "unknown", False:
            return "It may have been sent. Twilio is being asked."
        case "processing", _:
            return f"Its worker has not reported for {duration(now - row.at)}. After ten minutes it becomes unknown."
        case _ if on_hold:
            return "A hold on the account or the sender may keep it back."
        case _:
            return f"Due for {duration(now - row.at)}, and no worker has claimed it: check that process_retries runs."


def result(text: str | None) -> str:
    """The recorded result of an action, in words."""
    try:
        erased = json.loads(text or "")
    except ValueError:
        erased = None
    if isinstance(erased, dict) and isinstance(erased.get("messages"), int):
        return f"messages erased: {erased['messages']:,}"
    return {None: "done", "": "done", "true": "done", "false": "nothing was changed"}.get(text, text or "")


def duration(wait: timedelta | float) -> str:
    """A duration in its two largest units: `3 h 20 min`."""
    seconds = int(wait.total_seconds() if isinstance(wait, timedelta) else wait)
    for size, unit, part, smaller in ((86400, "d", 3600, "h"), (3600, "h", 60, "min")):
        if seconds >= size:
            rest = seconds % size // part
            return f"{seconds // size} {unit} {rest} {smaller}" if rest else f"{seconds // size} {unit}"
    return f"{seconds // 60} min" if seconds >= 60 else f"{seconds} s"


def relative(at: datetime, now: datetime) -> str:
    """The distance of an instant from now: `3 min ago`, `in 2 h`."""
    far = duration(abs(at - now))
    return "now" if far == "0 s" else f"in {far}" if at > now else f"{far} ago"


def first_upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def render(template: str, **values: Any) -> str:
    return _environment().get_template(template).render(values)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    filters = {"duration": duration, "meaning": meaning, "reason": reason, "status_of": status_of}
    filters |= {"because": because, "result": result, "without_numbers": operate.without_numbers}
    environment.filters |= filters | {"thousands": "{:,}".format, "first_upper": first_upper}
    environment.globals |= {"STATUSES": STATUSES, "ENDINGS": ENDINGS, "STYLE_VERSION": STYLE_VERSION}
    environment.globals |= {"relative": relative}
    return environment
