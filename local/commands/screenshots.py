"""`python -m local screenshots`: pictures of the console over a full day, for docs/images."""

from __future__ import annotations

import contextlib
import io
import math
import os
import sys
from datetime import UTC, datetime
from random import Random
from typing import Any

from PIL import Image

from local.aws.container import ROOT
from local.browser import CHROMIUM, browser
from local.postgres.server import postgres
from local.stack import Stack, stack
from local.twilio.stand_in import Accept, Callbacks, Refuse, Reset
from sms_retry import operate
from sms_retry.store import Store

IMAGES = ROOT / "docs" / "images"
DESK, PHONE = {"width": 1180, "height": 830}, {"width": 390, "height": 820}
MESSAGES = 4000
ERRORS = {30003: 40, 30008: 16, 30005: 9, 30001: 14, 20429: 11, 30007: 4, 30006: 3, 21610: 3}
LOST = Reset(Accept(callbacks=Callbacks(lost=1), list_lag=7200))

HISTORY = """
with given as (
    select row_number() over () as n, now() - ago as at, ending, code, retries
    from unnest(%s::interval[], %s::text[], %s::int[], %s::int[]) as given (ago, ending, code, retries)
),
messages as (
    insert into sms_retry.sms_messages (message_key, business_id, to_number, body, kind, on_unknown, expires_at, status,
        error_code, retry_count, provider_sid, sent_at, delivered_at, created_at, updated_at)
    select 'order-' || n, 'shop', '+49176' || lpad(n::text, 8, '0'), 'Your parcel is here.', 'transactional', 'hold',
        at + interval '3 days', case ending when 'completed' then 'delivered' else ending end,
        case when ending = 'failed' then code end, retries, 'SM' || md5(n::text), at,
        case when ending = 'completed' then at end, at - interval '2 minutes', at
    from given order by at
    returning id, message_key
)
insert into sms_retry.sms_retry_queue
    (message_id, status, scheduled_for, attempt, retry_count, claimed_at, finished_at, last_error_code, reason)
select m.id, ending, at, retries + 1, retries, case ending when 'unknown' then at end, at, code,
    case ending when 'failed' then 'retries_spent' when 'unknown' then 'held' end
from given join messages m on m.message_key = 'order-' || n
"""


def screenshots() -> int:
    """Write the images. Returns the exit code: 0, or 1 if Chromium is missing."""
    if not CHROMIUM.exists():
        print(f"{CHROMIUM} is missing: install Debian's package chromium.", file=sys.stderr)
        return 1
    IMAGES.mkdir(parents=True, exist_ok=True)
    with contextlib.redirect_stdout(io.StringIO()), postgres(durable=False) as server:
        url = server.create_database(f"sms_retry_screenshots_{os.getpid()}")
        with stack(url) as parts, browser() as chromium:
            shown = fill(parts)
            for name, path, screen, scheme in (
                ("console", "/", DESK, "light"),
                ("console-phone", "/", PHONE, "dark"),
                ("console-message", f"/messages/{shown}", DESK, "light"),
            ):
                page = chromium.new_page(viewport=screen, color_scheme=scheme)
                page.goto(parts.console.url + path)
                image = Image.open(io.BytesIO(page.screenshot()))
                # 256 colours are a third of the size; MAXCOVERAGE keeps the rare ones.
                few = image.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
                few.save(IMAGES / f"{name}.png", optimize=True)
                page.close()
    print(f"Written: {IMAGES.relative_to(ROOT)}/console*.png")
    return 0


def fill(parts: Stack) -> int:
    """Insert the messages of one day, and some in every present state. Returns the id of one with a long story."""
    parts.db.execute(HISTORY, list(map(list, zip(*_history(Random(2026)), strict=True))))
    for n in range(180):
        _queue(parts, n, time_zone=_zone_with_local_hour(3))
    for n in range(200, 206):
        parts.twilio.plan(_number(n), LOST)
        _queue(parts, n, kind="otp", on_unknown="hold" if n == 200 else "resend")
    parts.twilio.plan("+447700900123", Refuse(400, 21408))
    for n in range(6):
        _queue(parts, 0, to=f"+44770090012{3 + n}", kind="otp")
    parts.let_minutes_pass(1)
    return _story(parts)


def _story(parts: Stack) -> int:
    """A message that was refused, retried by a person, accepted and not delivered, and is due again; returns its id."""
    did_not_arrive = Accept(("sent", ("undelivered", 30003)), callbacks=Callbacks(delay=100))
    parts.twilio.plan(_number(7), Refuse(400, 30001), did_not_arrive)
    shown = _queue(parts, 7, kind="otp", message_key="booking-7-ready")
    parts.let_minutes_pass(1)
    operate.retry(Store(lambda: parts.database_url), "ana@example.com", shown)
    for n in range(300, 318):
        parts.twilio.plan(_number(n), Refuse(400, 30001))
        _queue(parts, n, kind="otp")
    parts.let_minutes_pass(5)
    return shown


def _history(rng: Random) -> list[tuple[str, str, int | None, int]]:
    """For each message: how long ago it ended, its status, error code and retries. Most ended in the daytime."""
    now = datetime.now(UTC).hour
    hours = [(h, 1.15 - math.cos((now - h - 2) / 24 * 2 * math.pi)) for h in range(24)]
    history = []
    for ago in rng.choices([h for h, _ in hours], [weight for _, weight in hours], k=MESSAGES):
        # For one hour a carrier was down.
        is_lost = rng.random() < (0.34 if ago == 9 else 0.03)
        ending = "failed" if is_lost else rng.choices(("completed", "expired", "cancelled"), (985, 9, 6))[0]
        has_failed = is_lost or rng.random() < 0.12
        code = rng.choices(list(ERRORS), list(ERRORS.values()))[0] if has_failed else None
        history.append((f"{ago * 60 + rng.randrange(60)} minutes", ending, code, 3 if is_lost else int(has_failed)))
    return history


def _queue(parts: Stack, n: int, **fields: Any) -> int:
    event = {"to": _number(n), "body": "Your table is ready.", "business_id": "shop", **fields}
    names = ", ".join(f"{'to_number' if name == 'to' else name} => %s" for name in event)
    row = parts.db.execute(f"select sms_retry.queue_sms_retry({names})", list(event.values())).fetchone()
    assert row
    return int(row[0])


def _number(n: int) -> str:
    return f"+4915{n * 7919 % 10**9:09}"


def _zone_with_local_hour(hour: int) -> str:
    ahead = (hour - datetime.now(UTC).hour + 11) % 24 - 11
    return f"Etc/GMT{-ahead:+d}"
