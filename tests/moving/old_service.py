"""A service before it moves: a thousand persons, whose messages are in every state, and its record at Twilio."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from json import load
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import psycopg

from local.twilio.stand_in import ACCOUNT_SID, AUTH_TOKEN, Accept, TwilioStandIn
from tests.integration.examples import number

ROOT = Path(__file__).parents[2]
PERSONS = 1_000

ARRIVES, IS_LOST = Accept(), Accept(receipts=("sent", ("undelivered", 30003)))


@dataclass(frozen=True)
class State:
    """The state of one message in the old service.

    `queue` is waiting, in flight, timeout (waits after one), failed, delivered, or None without a row. The old tables
    know the POST `first`, and do not know the POST `last`. In the end Twilio has accepted `wanted` POSTs to this
    person, and the message has the status `ends`.
    """

    name: str
    queue: str | None
    wanted: int
    ends: str
    first: Accept | None = None
    last: Accept | None = None
    logs_last: bool = False
    consent: bool | None = None


STATES = (
    State("refused, and waits", "waiting", 1, "delivered"),
    State("undelivered, and waits", "waiting", 2, "delivered", first=IS_LOST, consent=True),
    State("waits after a timeout, and was sent", "timeout", 1, "delivered", last=ARRIVES),
    State("waits after a timeout, and was not sent", "timeout", 1, "delivered"),
    State("in flight, and sent", "in flight", 1, "delivered", last=ARRIVES),
    State("in flight, and not sent", "in flight", 1, "delivered"),
    State("undelivered, in flight, and sent", "in flight", 2, "delivered", first=IS_LOST, last=ARRIVES),
    State("in flight, sent and logged", "in flight", 1, "delivered", last=ARRIVES, logs_last=True),
    State("failed", "failed", 1, "undelivered", first=IS_LOST),
    State("delivered", "delivered", 1, "delivered", first=ARRIVES),
    State("sent, and arrives", None, 1, "delivered", first=ARRIVES),
    State("sent, and does not arrive", None, 2, "delivered", first=IS_LOST),
    State("opted out, and waits", "waiting", 0, "failed", consent=False),
)
# The log of the first send of these has no final status yet.
SILENT = ("sent, and arrives", "sent, and does not arrive")


@dataclass(frozen=True)
class Message:
    """The message of person `n`; `first` and `last` are the SIDs of its POSTs."""

    n: int
    state: State
    first: str | None
    last: str | None

    @property
    def phone(self) -> str:
        """The number as the old tables spell it."""
        return f"+49 176 {self.n:08}" if self.n % 2 else number(self.n)

    @property
    def body(self) -> str:
        return text(self.n)

    @property
    def log_status(self) -> str:
        """The status in the log of the first send."""
        if self.state.name in SILENT:
            return "sent"
        return {ARRIVES: "delivered", IS_LOST: "undelivered", None: "failed"}[self.state.first]


Fill = Callable[[psycopg.Connection, Message], None]


def text(n: int) -> str:
    return f"Parcel {n} is here."


def state_of_person(n: int) -> State:
    return STATES[n % len(STATES)]


def run_old_service(db: psycopg.Connection, twilio: TwilioStandIn, fill: Fill) -> None:
    """Send and store the messages of all persons. The POSTs that the tables do not know are an hour younger."""
    persons = range(1, PERSONS + 1)
    with ThreadPoolExecutor(8) as pool:
        first = list(pool.map(lambda n: post(twilio, n, state_of_person(n).first), persons))
        twilio.deliver_callbacks()
        twilio.let_time_pass(3600)
        last = list(pool.map(lambda n: post(twilio, n, state_of_person(n).last), persons))
    twilio.deliver_callbacks()
    with db.transaction():
        for n, *sids in zip(persons, first, last, strict=True):
            fill(db, Message(n, state_of_person(n), *sids))


def post(twilio: TwilioStandIn, n: int, step: Accept | None) -> str | None:
    """The SID of a POST as the old service makes it; None without a step."""
    if step is None:
        return None
    twilio.plan(number(n), step)
    form = {"To": number(n), "From": "+15005550006", "Body": text(n)}
    login = b64encode(f"{ACCOUNT_SID}:{AUTH_TOKEN}".encode()).decode()
    url = f"{twilio.url}/2010-04-01/Accounts/{ACCOUNT_SID}/Messages.json"
    with urlopen(Request(url, urlencode(form).encode(), {"Authorization": f"Basic {login}"})) as answer:
        return str(load(answer)["sid"])


def move(db: psycopg.Connection, script: str) -> list[tuple[str, str, int]]:
    """Run a script of sql/moving, as docs/moving.md says: the kinds of rows, their results and their counts."""
    with db.transaction():
        for name in (script, "bring_over.sql"):
            found = db.execute((ROOT / "sql" / "moving" / name).read_text())
            while found.nextset():
                pass
        return [(kind, result, count) for kind, result, count, _ in found.fetchall()]


def fill_celery(db: psycopg.Connection, message: Message) -> None:
    state, status = message.state, {"waiting": "pending", "timeout": "pending", "in flight": "retrying"}
    person = insert(db, "users", phone_number=message.phone, sms_enabled=state.consent, timezone="Europe/Berlin")
    facts = {"user_id": person, "phone_number": message.phone, "message": message.body}
    if message.first:
        code = "30003" if message.log_status == "undelivered" else None
        log = insert(
            db, "sms_usage_logs", message_sid=message.first, status=message.log_status, error_code=code, **facts
        )
        age(db, "sms_usage_logs", log, "created_at")
    if state.logs_last:
        insert(db, "sms_usage_logs", message_sid=message.last, status="sent", **facts)
    if state.queue:
        code = "timeout" if state.queue == "timeout" else "30003" if message.first else "30001"
        row = insert(
            db,
            "sms_retry_queue",
            message_sid=message.first,
            status=status.get(state.queue, state.queue),
            error_code=code,
            retry_count=message.n % 3,
            **facts,
        )
        age(db, "sms_retry_queue", row, "created_at")
        age(db, "sms_retry_queue", row, "updated_at", "1 minute")


def fill_cron(db: psycopg.Connection, message: Message) -> None:
    state, status = message.state, {"waiting": "pending", "timeout": "pending", "in flight": "processing"}
    consent = {True: "opted_in", False: "opted_out", None: "pending"}[state.consent]
    person = insert(
        db,
        "customers",
        business_id=7,
        phone=message.phone,
        sms_consent_status=consent,
        timezone="Europe/Berlin",
    )
    facts = {"business_id": 7, "customer_id": person, "body": message.body, "message_type": "reminder"}
    code = None if message.log_status in ("sent", "delivered") else "30003" if message.first else "30001"
    log = insert(db, "send_logs", twilio_sid=message.first, status=message.log_status, error_code=code, **facts)
    age(db, "send_logs", log, "created_at")
    if state.logs_last:
        insert(db, "send_logs", twilio_sid=message.last, status="sent", **facts)
    if state.queue:
        row = insert(
            db,
            "sms_retry_queue",
            send_log_id=log,
            reason="timeout" if state.queue == "timeout" else "provider_error",
            attempt_count=1 + message.n % 3,
            status=status.get(state.queue, "sent" if state.queue == "delivered" else "failed"),
        )
        age(db, "sms_retry_queue", row, "updated_at", "1 minute")


def insert(db: psycopg.Connection, table: str, **fields: object) -> int:
    """Insert a row into a table of the old service; its id."""
    places = ", ".join(["%s"] * len(fields))
    statement = f"insert into public.{table} ({', '.join(fields)}) values ({places}) returning id"
    row = db.execute(statement, list(fields.values())).fetchone()
    assert row
    return int(row[0])


def age(db: psycopg.Connection, table: str, row: int, column: str, by: str = "1 hour") -> None:
    db.execute(f"update public.{table} set {column} = {column} - %s::interval where id = %s", [by, row])


def accepted(twilio: TwilioStandIn) -> Sequence[int]:
    """How many POSTs to each person Twilio accepted, from the first person."""
    counts = dict.fromkeys(map(number, range(1, PERSONS + 1)), 0)
    for posted in twilio.accepted():
        counts[posted.to] += 1
    return list(counts.values())
