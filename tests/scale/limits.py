"""The messages a day at which each part of one deployment has no more to give, by arithmetic from measured costs.

The rates of workers and of the health check are those that docs/performance.md publishes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from deploy.callbacks import CALLBACK, CALLBACKS
from deploy.section import read_template
from tests.scale.day import CURVE
from tests.scale.life import AT_ONCE, REMOVED, USAGE, Life
from tests.scale.load import WORKERS, Load
from tests.scale.reading import Spent

ROOT = Path(__file__).parents[2]
DAY = 24 * 3600
# The fullest hour, in average hours.
PEAK = max(CURVE) / (sum(CURVE) / len(CURVE))
# The cores of a large server, and the share of them that is in use in the fullest hour.
CORES, USED = 16, 0.5
# https://www.twilio.com/docs/api/errors/63017: an account, together with its subaccounts.
TWILIO = 2_000
# https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
LAMBDAS = 1_000
# https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/CHAP_Limits.html: connections of RDS, by its default at most.
CONNECTIONS = 5_000
# https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/CHAP_Storage.html
DISK = 64 * 2**40
# https://www.postgresql.org/docs/current/runtime-config-vacuum.html: autovacuum_freeze_max_age, by default.
FREEZE = 200_000_000
# The statement_timeout that docs/databases/rds.md advises (seconds).
STATEMENT = 30
# Days for which queue rows are kept, and for which messages are (KEEP_MESSAGES_DAYS).
QUEUE_DAYS, MESSAGE_DAYS = 7, 365


class Limit(NamedTuple):
    """`messages` a day. `then` is the way to more."""

    part: str
    arithmetic: str
    messages: float
    then: str


def limits(life: Life, load: Load) -> list[Limit]:
    """The nearest first."""
    found = [*_sending(), *_lambdas(), *_upkeep(life.steps), *_server(life, load)]
    return sorted(found, key=lambda each: each.messages)


def whole(steps: Mapping[str, Spent]) -> Spent:
    """All steps of a life together."""
    taken = [each for name, each in steps.items() if name != AT_ONCE]
    return Spent(*(math.fsum(each) for each in zip(*map(Spent.values, taken), strict=True)))


def carried(steps: Mapping[str, Spent]) -> float:
    """Messages a second for which half of the cores of a large server are enough."""
    return CORES * USED / whole(steps).cpu


def volumes(with_images: Life, without: Life, messages: int) -> dict[str, str]:
    """The volumes of a day with so many messages."""
    every, rate = whole(with_images.steps), messages / DAY
    fullest = rate * PEAK
    wal = [whole(each.steps).wal for each in (without, with_images)]
    return {
        "messages a second: average, fullest hour": f"{rate:,.0f}, {fullest:,.0f}",
        "WAL a second in the fullest hour, with images of pages": " to ".join(_size(fullest * each) for each in wal),
        "WAL a day, with images of pages": " to ".join(_size(messages * each) for each in wal),
        "tables and indexes": _size(messages * kept(without)),
        "dead rows a day": f"{messages * every.dead / 1e6:,.0f} million",
        "cores in use in the fullest hour": f"{fullest * every.cpu:,.2f}",
        "callbacks in progress in the fullest hour": f"{fullest * CALLBACKS * CALLBACK:,.0f}",
        "a vacuum against wraparound comes every": f"{FREEZE / every.writing / messages * 24:,.1f} h",
        "accounts of Twilio for the fullest hour": f"{math.ceil(fullest / TWILIO)}",
    }


def kept(life: Life) -> float:
    """Bytes for each message of a day: queue rows for a week, messages for a year."""
    message = life.bytes["sms_messages"]
    return QUEUE_DAYS * (math.fsum(life.bytes.values()) - message) + MESSAGE_DAYS * message


def _size(size: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:,.0f} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"


def _sending() -> Iterator[Limit]:
    rate = published("drain", "drain, 20 in flight", "ours")
    template = read_template(ROOT / "template.yaml")
    few = template["Parameters"]["MaxWorkers"]["Default"]
    assert template["Parameters"]["MaxWorkers"]["MaxValue"] == WORKERS
    for workers, then in ((few, "`MaxWorkers`"), (WORKERS, "`SendConcurrency`, or another deployment")):
        arithmetic = f"{workers} workers × {rate:g}/s"
        yield Limit(f"workers, `MaxWorkers={workers}`", arithmetic, _a_day(workers * rate), then)
    yield Limit(
        "one account of Twilio with its subaccounts",
        f"{TWILIO:,}/s",
        _a_day(TWILIO),
        "an agreement, or a second account",
    )


def _lambdas() -> Iterator[Limit]:
    busy = CALLBACKS * CALLBACK
    for part, most, then in (
        ("Lambda's concurrency, by default", LAMBDAS, "a quota of AWS"),
        ("connections, without RDS Proxy", CONNECTIONS, "RDS Proxy"),
    ):
        arithmetic = f"({most:,} - {WORKERS} workers) ÷ ({CALLBACKS} callbacks × {CALLBACK:g} s)"
        yield Limit(part, arithmetic, _a_day((most - WORKERS) / busy), then)


def _upkeep(steps: Mapping[str, Spent]) -> Iterator[Limit]:
    """Lambdas that have a fixed time for the endings of a day."""
    taken = published("growth", "the health check, 5,000,000 messages", "ours") / 1000
    yield Limit(
        "the health check's statement",
        f"{STATEMENT} s ÷ {taken:g} s × 2.5 million endings of a day",
        STATEMENT / taken * 2_500_000,
        "a table that keeps the counts",
    )
    removing = math.fsum(steps[name].cpu for name in REMOVED)
    yield Limit(
        "the hourly clean-up",
        f"24 × 290 s ÷ {removing * 1000:.3f} ms",
        24 * 290 / removing,
        "partitions that are dropped",
    )
    folding = steps[USAGE].cpu
    yield Limit(
        "the adding of counts in the health check",
        f"96 × {50 - STATEMENT} s ÷ {folding * 1000:.3f} ms",
        96 * (50 - STATEMENT) / folding,
        "a Lambda of its own",
    )


def _server(life: Life, load: Load) -> Iterator[Limit]:
    every = whole(life.steps)
    yield Limit(
        f"CPU of {CORES} cores, {USED:.0%} in use in the fullest hour",
        f"{CORES} × {USED:g} ÷ {every.cpu * 1000:.2f} ms",
        _a_day(carried(life.steps)),
        "more cores, then shards",
    )
    message = life.bytes["sms_messages"]
    others = math.fsum(life.bytes.values()) - message
    yield Limit(
        "the disk of RDS, 64 TiB",
        f"64 TiB ÷ ({QUEUE_DAYS} days × {others:,.0f} + {MESSAGE_DAYS} days × {message:,.0f} bytes)",
        DISK / kept(life),
        "a smaller `KEEP_MESSAGES_DAYS`, then shards",
    )
    of_a_million = load.vacuum
    queue = math.fsum(
        of_a_million[table] * rows
        for table, rows in (("sms_retry_queue", 1), ("sms_attempts", 1), ("sms_delivery_events", CALLBACKS))
    )
    seconds = (QUEUE_DAYS * queue + MESSAGE_DAYS * of_a_million["sms_messages"]) / 1_000_000
    yield Limit(
        "a vacuum of all tables before the next one against wraparound",
        f"{FREEZE / 1e6:.0f} million transactions, {every.writing:.2f} a message; {seconds * 1e6:.0f} s for a million",
        math.sqrt(FREEZE * DAY / every.writing / seconds),
        "`autovacuum_freeze_max_age`, then partitions",
    )


def _a_day(rate: float) -> float:
    """The messages of a day whose fullest hour has this rate a second."""
    return rate * DAY / PEAK


def published(subject: str, name: str, column: str) -> float:
    """The first number of this name in a table of docs/performance.md."""
    page = (ROOT / "docs" / "performance.md").read_text()
    table = page.split(f"<!-- {subject} -->")[1].split(f"<!-- /{subject} -->")[0]
    row = next(line for line in table.splitlines() if line.startswith(f"| {name} |"))
    cell = row.split("|")[{"ours": 2, "theirs": 4}[column]]
    found = re.search(r"[\d.,]+", cell)
    assert found, row
    return float(found[0].replace(",", ""))
