"""A billion messages a day over several shards, and the failure of a whole shard. Seeded, without a database.

Shards share nothing, so that each is simulated alone: the busiest of them, and the one that fails.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from tests.scale.day import (
    MARKETING,
    MINUTES,
    OTP,
    RANKS,
    TRANSACTIONAL,
    Business,
    businesses,
    by_hash,
    by_table,
    minutes,
)
from tests.scale.shard import Ended, Failure, Messages, Shard

BILLION = 1_000_000_000
# Messages a second that a shard carries: less than docs/scale.md measures for sixteen half-used cores.
RATE = 3_000
DAYS = 2
# A failure begins with the first campaigns of the day.
BEGINS = 9 * 60
FAILURES = (10, 60, 240)
SHARDS = (6, 7, 8, 10, 16)


@dataclass(frozen=True)
class Quiet:
    """The busiest of several shards on days without a failure. `busy` is the share of its rate in the fullest minute,
    without marketing; `waits` the minutes after which the last message of each rank left."""

    shards: int
    share: float
    busy: float
    waits: tuple[int, ...]


@dataclass(frozen=True)
class Failed:
    """A failure of the busiest shard. `drained` is the minutes from its end until the backlog is that of a day without
    a failure; `delayed` the share of a day's messages of all shards that left more than a minute later than without it;
    `expired` the otps that came too late, of a day's otps of all shards."""

    minutes: int
    drained: int
    delayed: float
    expired: float
    backlog: int


@cache
def run(of: tuple[Business, ...], rate: int, failure: Failure | None = None, days: int = DAYS, first: int = 0) -> Shard:
    """A shard for some days, not to be changed. `rate` is messages a second. The ids begin at `first`."""
    shard, day = Shard(rate * 60, failure), minutes(of)
    for now in range(days * MINUTES):
        new = []
        for rank, count in enumerate(day[now % MINUTES]):
            if count:
                new.append(Messages(first, count, now, rank))
                first += count
        shard.minute(now, new)
    return shard


@cache
def busiest(shards: int, messages: int = BILLION, table: bool = True) -> tuple[Business, ...]:
    placed = (by_table if table else by_hash)(businesses(messages), shards)
    return tuple(max(placed, key=lambda of: sum(each.messages for each in of)))


def quiet(shards: int, rate: int = RATE, messages: int = BILLION, table: bool = True) -> Quiet:
    of = busiest(shards, messages, table)
    shard, day = run(of, rate), minutes(of)
    usual = max(each[OTP] + each[TRANSACTIONAL] for each in day)
    share = sum(each.messages for each in of) / messages
    return Quiet(shards, share, usual / rate / 60, tuple(_longest(shard.ended, rank) for rank in range(len(RANKS))))


def failed(shards: int, length: int, rate: int = RATE, messages: int = BILLION) -> Failed:
    of, failure = busiest(shards, messages), Failure(BEGINS, BEGINS + length)
    without, shard = run(of, rate), run(of, rate, failure)
    expected = _ends(without.ended)
    delayed = sum(count for count, late in _against(shard.ended, expected) if late > 1)
    expired = sum(each.messages.count for each in shard.ended if not each.is_sent)
    otps = messages * sum(each[OTP] for each in minutes(of)) / sum(map(sum, minutes(of)))
    after = range(failure.end, DAYS * MINUTES)
    drained = next((now for now in after if shard.backlog[now] <= without.backlog[now]), DAYS * MINUTES)
    return Failed(length, drained - failure.end, delayed / messages, expired / otps, shard.backlog[failure.end - 1])


def fewest(need: str, rate: int = RATE, most: int = 32, messages: int = BILLION) -> int | None:
    """The fewest shards for which, and for every greater number, the need is met; None if `most` are too few."""
    found = None
    for shards in range(most, 0, -1):
        if not NEEDS[need](shards, rate, messages):
            break
        found = shards
    return found


def _day_is_done(shards: int, rate: int, messages: int) -> bool:
    return run(busiest(shards, messages), rate).backlog[-1] == 0


NEEDS = {
    "each day's messages leave on that day": _day_is_done,
    "the same, and the entry places businesses by hash": lambda shards, rate, messages: (
        run(busiest(shards, messages, table=False), rate).backlog[-1] == 0
    ),
    "no otp waits for a minute": lambda *of: quiet(*of).waits[OTP] == 0,
    "no transactional message waits for a minute": lambda *of: quiet(*of).waits[TRANSACTIONAL] == 0,
    "each campaign has left within an hour": lambda *of: quiet(*of).waits[MARKETING] <= 60,
    "a failure of ten minutes is over ten minutes later": lambda shards, *of: failed(shards, 10, *of).drained <= 10,
    "a failure of an hour is over an hour later": lambda shards, *of: failed(shards, 60, *of).drained <= 60,
    "a failure of four hours is over on the same day": lambda shards, *of: (
        failed(shards, 240, *of).drained <= MINUTES - BEGINS - 240
    ),
}


def _longest(ended: Sequence[Ended], rank: int) -> int:
    return max((each.late for each in ended if each.messages.rank == rank), default=0)


def _ends(ended: Sequence[Ended]) -> list[tuple[int, int, int]]:
    """First id, the id after the last, and the minute of the end; in the order of ids."""
    return sorted((each.messages.first, each.messages.first + each.messages.count, each.minute) for each in ended)


def _against(ended: Sequence[Ended], expected: list[tuple[int, int, int]]) -> Iterator[tuple[int, int]]:
    """Pieces of messages, with the minutes by which they ended later than expected."""
    place = 0
    for first, end, minute in _ends(ended):
        while first < end and place < len(expected):
            _, known_end, known = expected[place]
            upto = min(end, known_end)
            yield upto - first, minute - known
            first = upto
            place += known_end == upto
