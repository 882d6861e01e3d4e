"""The texts of a day, the ways in which applications queue them, and Twilio's failures."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from random import Random
from typing import Any

import psycopg

from local.twilio.plan import StepFor
from local.twilio.stand_in import Accept, BadAnswer, Callbacks, Refuse, Reset, Step, mix
from tests.simulation.plan import HOUR, LOST, Person, Text
from tests.simulation.senders import Sender
from tests.soak.containers import Container, Failed

ZONES = ("Europe/Berlin", "America/New_York", "Asia/Tokyo", "Australia/Sydney", "America/Los_Angeles", "Asia/Kolkata")
# A day begins at noon UTC: morning in New York and night in Los Angeles.
NIGHT = "America/Los_Angeles"
PEOPLE = [Person(f"+49176{n:08}", zone, (zone,)) for n in range(600) for zone in [ZONES[n % len(ZONES)]]]
# These reply STOP, and START some days later.
STOPPING = [Person(f"+49177{n:08}", "Europe/Berlin", ("Europe/Berlin",)) for n in range(8)]
PACED = Sender("+15005550101", "campaigns", 20.0)
# A third of the people have no consent to marketing.
OPTED_IN = frozenset((PACED.business_id, person.number) for n, person in enumerate(PEOPLE) if n % 3)
# The texts of one day, by entry. `first` are queued before the workers start.
FIRST, SENT, QUEUED, CAMPAIGN, OTPS = 50, 70, 70, 60, 20

CALLBACKS = Callbacks(delay=0.3, late=0.08, late_by=7200, lost=0.05, repeated=0.1, out_of_order=0.1)
STEPS: tuple[tuple[float, Step], ...] = (
    (78, Accept()),
    (4, Refuse(429, 20429)),
    (3, Refuse(400, 30001)),
    (4, Accept(("sent", ("undelivered", 30003)))),
    (2, Accept(("sent", ("undelivered", 30005)))),
    (2, Refuse(400, 21211)),
    (2, Reset(LOST)),
    (1, Reset(accepted=None)),
    (2, BadAnswer(500, accepted=LOST)),
    (1, BadAnswer(502, accepted=None)),
    (1, BadAnswer(201, body="", accepted=Accept())),
)
QUEUE = """
select sms_retry.queue_sms_retry(to_number => %(to)s, body => %(body)s, message_key => %(message_key)s,
    kind => %(kind)s, business_id => %(business_id)s, on_unknown => %(on_unknown)s, time_zone => %(time_zone)s,
    expires_at => %(expires_at)s)
"""
QUEUE_MANY = "select count(*) from sms_retry.queue_sms_retries(%s, %s)"


def step_for(seed: int) -> StepFor:
    return mix(seed, *STEPS)


def texts_of(day: int, now: datetime, rng: Random) -> dict[str, list[Text]]:
    """The texts of a day by entry: `first`, `send_sms`, `sql`, `campaign` and `otp`."""

    def text(n: int, entry: str, kind: str, business: str, people: Sequence[Person] = PEOPLE) -> Text:
        person, has_hold = rng.choice(people), rng.random() < 0.05
        # `send_sms` refuses a message that finds no hours before it expires.
        expires = now + HOUR if person.stated == NIGHT and kind == "transactional" and entry == "sql" else None
        body, on_unknown = f"Notice {day}-{entry}-{n}.", "hold" if has_hold else "resend"
        return Text(now, person, body, kind, business, entry, on_unknown, expires)

    kinds = ("otp", "transactional", "transactional", "emergency")
    return {
        "first": [text(n, "first", "otp", "bank") for n in range(FIRST)],
        "send_sms": [text(n, "send_sms", kinds[n % 4], "bank") for n in range(SENT)],
        "sql": [
            *(text(n, "sql", kinds[n % 4], "shop") for n in range(QUEUED)),
            *(text(QUEUED + n, "sql", "transactional", "shop", STOPPING) for n in range(len(STOPPING))),
        ],
        "campaign": [text(n, "campaign", "marketing", "campaigns") for n in range(CAMPAIGN)],
        "otp": [text(n, "otp", "otp", "campaigns") for n in range(OTPS)],
    }


def event_of(text: Text) -> dict[str, Any]:
    """The event of `send_sms`. The text is the key of its message."""
    return {
        "to": text.person.number,
        "body": text.body,
        "message_key": text.body,
        "kind": text.kind,
        "business_id": text.business_id,
        "on_unknown": text.on_unknown,
        "time_zone": text.person.stated,
        "expires_at": text.expires_at and text.expires_at.isoformat(),
    }


def send(entry: Container, texts: Sequence[Text]) -> None:
    """First sends through send_sms; each fifth has failed before in the application."""
    for n, text in enumerate(texts):
        failed = {"failed": {"error_code": 30001, "error_message": "Queue overflow"}} if n % 5 == 0 else {}
        until_done(partial(entry.invoke, "send_sms", event_of(text) | failed))


def queue(
    url: str, texts: Sequence[Text], pause: float = 0.0, now: Callable[[], float] = time.time
) -> dict[tuple[str, str], float]:
    """Queue by queue_sms_retry, as an application that repeats a failed call with the same key.

    Returns the time at which each was committed, by (number, body).
    """
    committed = {}
    with _session(url) as execute:
        for text in texts:
            until_done(partial(execute, QUEUE, event_of(text)))
            committed[text.person.number, text.body] = now()
            time.sleep(pause)
    return committed


def queue_campaign(url: str, texts: Sequence[Text], batch: str) -> None:
    """Queue all by one call of queue_sms_retries."""
    events = [{name: value for name, value in event_of(text).items() if value is not None} for text in texts]
    with _session(url) as execute:
        until_done(partial(execute, QUEUE_MANY, [json.dumps(events), batch]))


def until_done(act: Callable[[], object]) -> None:
    """Repeat until it does not fail, as after the restart of the database, for at most a minute."""
    give_up = time.monotonic() + 60
    while True:
        try:
            act()
        except (Failed, psycopg.OperationalError):
            if time.monotonic() > give_up:
                raise
            time.sleep(0.05)
        else:
            return


@contextmanager
def _session(url: str) -> Iterator[Callable[[str, Any], None]]:
    """Executes statements in one session, or in a new one after the server has ended it."""
    db: psycopg.Connection | None = None

    def execute(statement: str, parameters: Any) -> None:
        nonlocal db
        if db is None or db.closed:
            db = psycopg.connect(url, autocommit=True)
        db.execute(statement, parameters)

    yield execute
    if db is not None:
        db.close()
