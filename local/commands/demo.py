"""`make demo`: 200 messages through a Twilio stand-in that fails as Twilio does. Hours pass in seconds."""

from __future__ import annotations

import contextlib
import io
import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from local.aws.container import ROOT
from local.commands.show import Show
from local.postgres.server import postgres
from local.proof import UNSETTLED, Check, checks, gather
from local.stack import ENVIRONMENT, Stack, stack
from local.twilio.callbacks import post_callback
from local.twilio.stand_in import Accept, BadAnswer, Behaviour, Callbacks, Refuse, Reset, always, mix

MESSAGES, MESSAGES_PER_MINUTE, PEOPLE = 200, 20, 180
LONGEST_MINUTES, LONGEST_SECONDS = 480, 45.0

# Every message is in Twilio's list within these seconds, long before an unknown message is sent again.
LIST_LAG = 600
LOST = Accept(callbacks=Callbacks(lost=1), list_lag=LIST_LAG)
STEPS = mix(
    2026,
    (70, Accept()),
    (6, Refuse(503, 20503)),
    (6, Refuse(429, 20429, retry_after=2)),
    (4, Refuse(400, 30001)),
    (5, Accept(("sent", ("undelivered", 30003)))),
    (3, Accept(("sent", ("undelivered", 30008)))),
    (2, Accept(("sent", ("undelivered", 30005)))),
    (2, Refuse(400, 21211)),
    (2, Refuse(400, 21610)),
    (2, Reset(LOST)),
    (2, Reset(accepted=None)),
    (2, BadAnswer(500, accepted=LOST)),
    (2, BadAnswer(502, accepted=None)),
    (1, BadAnswer(503, accepted=LOST)),
    (1, BadAnswer(201, body="", accepted=Accept())),
)
CALLBACKS = Callbacks(delay=20, late=0.1, late_by=1200, lost=0.06, repeated=0.15, out_of_order=0.1)
BEHAVIOUR = Behaviour(STEPS, CALLBACKS, list_lag=LIST_LAG, seed=2026)
OUTAGE, BAD_CREDENTIALS, OPT_OUTS = range(4, 7), range(8, 10), 3


@dataclass
class Run:
    """The record of a run, minute by minute.

    `opt_outs` has the number of POSTs to each person before the opt-out, `forged` the webhook's answers to forged
    receipts.
    """

    news: list[tuple[int, str]] = field(default_factory=list)
    queue: list[Counter[str]] = field(default_factory=list)
    messages: list[Counter[str]] = field(default_factory=list)
    opt_outs: dict[str, int] = field(default_factory=dict)
    forged: list[int | str] = field(default_factory=list)
    over: bool = False


def demo() -> int:
    """Returns the exit code: 0, or 1 if a guarantee was broken."""
    started = time.monotonic()
    build = ROOT / "build"
    build.mkdir(exist_ok=True)
    show, log = Show(MESSAGES), io.StringIO()
    try:
        with contextlib.redirect_stdout(log), contextlib.redirect_stderr(log), postgres(durable=False) as server:
            url = server.create_database(f"sms_retry_demo_{os.getpid()}")
            with stack(url, BEHAVIOUR) as parts:
                run = _run(parts, show, started + LONGEST_SECONDS)
                # The messages that were accepted last are not in Twilio's list yet.
                parts.twilio.let_time_pass(LIST_LAG)
                evidence = gather(parts)
    finally:
        (build / "demo.log").write_text(log.getvalue())
    found = [*checks(evidence, MESSAGES, run.opt_outs), _forged_receipts_are_refused(run)]
    found += [_nothing_private_is_logged(log.getvalue()), _every_message_ended(run)]
    show.table(evidence)
    show.proof(found)
    show.picture(run.queue, run.messages, run.news, build / "demo.png")
    show.say(f"The handlers' log: build/demo.log · {time.monotonic() - started:.0f} s")
    return 1 if any(check.faults for check in found) else 0


def _run(parts: Stack, show: Show, give_up: float) -> Run:
    run = Run()
    with show.live():
        for minute in range(LONGEST_MINUTES):
            if time.monotonic() > give_up:
                break
            run.news += [(minute, event) for event in _events(parts, minute, run)]
            for n in range(minute * MESSAGES_PER_MINUTE, min((minute + 1) * MESSAGES_PER_MINUTE, MESSAGES)):
                _queue(parts, n)
            parts.let_minutes_pass()
            _record(parts, run)
            show.minute(minute + 1, run.queue[-1], run.messages[-1], len(parts.twilio.posts()), run.news)
            if minute * MESSAGES_PER_MINUTE >= MESSAGES and _is_over(parts):
                run.over = True
                break
    return run


def _events(parts: Stack, minute: int, run: Run) -> Iterator[str]:
    """Cause the events of this minute and describe each."""
    twilio = parts.twilio
    if minute == OUTAGE.start:
        twilio.close()
        yield "Twilio is down: no connection"
    if minute == OUTAGE.stop:
        twilio.start()
        yield "Twilio is up again"
        for n in range(OPT_OUTS):
            _post(parts, "/twilio/inbound", {"From": _number(n), "Body": "STOP"}, twilio.auth_token)
        yield f"{OPT_OUTS} people reply STOP"
        forged = {"MessageSid": "SM" + "0" * 32, "MessageStatus": "delivered"}
        run.forged = [_post(parts, f"/twilio/status?t={n}-1", forged, "not Twilio's token") for n in range(1, 11)]
        yield f"{len(run.forged)} forged receipts"
    if minute == BAD_CREDENTIALS.start:
        twilio.behave(default=always(Refuse(401, 20003)))
        yield "Twilio refuses our credentials"
    if minute == BAD_CREDENTIALS.stop:
        twilio.behave(default=STEPS)
        yield "Twilio accepts our credentials"


def _queue(parts: Stack, n: int) -> None:
    """Queue message `n`: half by SQL, the others by send_sms, some of these after a failed send of the application."""
    event: dict[str, Any] = {"to": _number(n), "body": f"Your code is {n:06}.", "message_key": f"demo-{n}"}
    # Its first send has failed: send_sms refuses a new message that finds no hours before it expires.
    if n % 50 == 18:
        expires = datetime.now(UTC) + timedelta(hours=2)
        event |= {"time_zone": _zone_with_local_hour(0), "expires_at": expires.isoformat()}
    elif n % 3:
        event |= {"time_zone": _zone_with_local_hour(12)}
    else:
        event |= {"kind": "otp"}
    if n % 10 < 5:
        fields = [event["to"], event["body"], event["message_key"], event.get("kind"), event.get("time_zone")]
        parts.db.execute(
            "select sms_retry.queue_sms_retry(%s, %s, %s, kind => coalesce(%s, 'transactional'), time_zone => %s)",
            fields,
        )
    elif n % 10 < 8:
        parts.invoke("send_sms", event)
    else:
        parts.invoke("send_sms", event | {"failed": {"error_code": 30001, "error_message": "Queue overflow"}})


def _record(parts: Stack, run: Run) -> None:
    rows = parts.db.execute(
        "select q.status, m.status, q.finished_at is null, count(*) from sms_retry.sms_messages m"
        " join sms_retry.sms_retry_queue q on q.message_id = m.id group by 1, 2, 3"
    ).fetchall()
    queue: Counter[str] = Counter()
    messages: Counter[str] = Counter()
    for queue_status, status, waits, number in rows:
        messages[status] += number
        queue[queue_status] += number if waits else 0
    run.queue.append(queue)
    run.messages.append(messages)
    posts = Counter(post.to for post in parts.twilio.posts())
    for (person,) in parts.db.execute("select phone_number from sms_retry.sms_recipients where consent = 'opted_out'"):
        run.opt_outs.setdefault(person, posts[person])


def _is_over(parts: Stack) -> bool:
    """No row waits, no callback is outstanding, and no message that is `sent` here has a later status at Twilio."""
    if parts.twilio.outstanding() or parts.db.execute(UNSETTLED).fetchall():
        return False
    sent = parts.db.execute("select provider_sid from sms_retry.sms_messages where status = 'sent'")
    return all(parts.twilio.status(sid) in ("queued", "sent") for (sid,) in sent)


def _forged_receipts_are_refused(run: Run) -> Check:
    faults = tuple(f"the webhook answered {answer} to one of them" for answer in run.forged if answer != 403)
    return Check("Forgeries are refused", f"{len(run.forged)} receipts that Twilio had not signed", faults)


def _nothing_private_is_logged(text: str) -> Check:
    private = {"a number": "+49176", "a text": "Your code is", "the token": ENVIRONMENT["TWILIO_AUTH_TOKEN"]}
    faults = tuple(f"the log contains {name}" for name, value in private.items() if value in text)
    return Check("Logs are private", f"{text.count(chr(10))} lines without a number, a text or a token", faults)


def _every_message_ended(run: Run) -> Check:
    faults = () if run.over else ("some messages had not ended when the time was up",)
    return Check("Every message ends", f"after {len(run.queue)} minutes of the clock", faults)


def _post(parts: Stack, path: str, fields: dict[str, str], token: str) -> int | str:
    params = {"AccountSid": parts.twilio.account_sid, "To": ENVIRONMENT["TWILIO_SENDER"], **fields}
    return post_callback(ENVIRONMENT["PUBLIC_WEBHOOK_URL"] + path, params, token, parts.twilio.route)[-1]


def _number(n: int) -> str:
    """The number of message `n`; the first twenty people get a second message."""
    return f"+49176{n % PEOPLE:08}"


def _zone_with_local_hour(hour: int) -> str:
    """A zone in which it is `hour` o'clock now, so that the demo is the same at any time of the day."""
    ahead = (hour - datetime.now(UTC).hour + 11) % 24 - 11
    return f"Etc/GMT{-ahead:+d}"
