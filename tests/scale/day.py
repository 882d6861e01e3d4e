"""A day's messages of many businesses, by minute and rank, and the shard of each business. Seeded, without a database.

Assumed, not measured: the sizes of the businesses, the curve of the day, and the shares of the ranks.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

MINUTES = 24 * 60
# The messages of a usual hour, from midnight on, in proportion to each other.
CURVE = (1, 1, 1, 1, 1, 2, 4, 7, 10, 12, 12, 11, 11, 11, 11, 12, 12, 11, 9, 7, 5, 3, 2, 1)
NOISE = 0.1
# The ranks of the claim, and their shares of the messages. All marketing of a business is queued in one minute of the
# day, at a full hour.
OTP, TRANSACTIONAL, MARKETING = range(3)
RANKS = ("otp", "transactional", "marketing")
SHARES = (0.2, 0.6, 0.2)
CAMPAIGNS = range(9, 18)
SEED = 22


@dataclass(frozen=True)
class Business:
    """Its messages a day, and the minute of its campaign."""

    messages: int
    campaign: int


def businesses(messages: int, count: int = 10_000, seed: int = SEED) -> list[Business]:
    """Businesses whose sizes follow Zipf's law: the second has half of the messages of the first, and so on."""
    chance = random.Random(seed)
    whole = sum(1 / n for n in range(1, count + 1))
    sizes = _whole_numbers(messages / whole / n for n in range(1, count + 1))
    return [Business(size, 60 * chance.choice(CAMPAIGNS)) for size in sizes]


def by_table(all_of_them: Sequence[Business], shards: int) -> list[list[Business]]:
    """The largest business first, each to the shard with the fewest messages: the entry looks the business up."""
    found: list[list[Business]] = [[] for _ in range(shards)]
    loads = [0] * shards
    for business in sorted(all_of_them, key=lambda each: -each.messages):
        least = loads.index(min(loads))
        found[least].append(business)
        loads[least] += business.messages
    return found


def by_hash(all_of_them: Sequence[Business], shards: int, seed: int = SEED) -> list[list[Business]]:
    """Each business to a shard that does not depend on its size: the entry keeps no table."""
    chance = random.Random(seed)
    found: list[list[Business]] = [[] for _ in range(shards)]
    for business in all_of_them:
        found[chance.randrange(shards)].append(business)
    return found


def minutes(of: Sequence[Business], seed: int = SEED) -> list[tuple[int, ...]]:
    """The messages of each minute of a day, by rank."""
    chance = random.Random(seed)
    total = sum(business.messages for business in of)
    curve = [_curve(minute) * (1 + NOISE * (2 * chance.random() - 1)) for minute in range(MINUTES)]
    marketing = [0] * MINUTES
    for business in of:
        marketing[business.campaign] += round(business.messages * SHARES[MARKETING])
    otps = round(total * SHARES[OTP])
    usual = (otps, total - otps - sum(marketing))
    ranks = [_whole_numbers(whole * each / sum(curve) for each in curve) for whole in usual]
    return list(zip(*ranks, marketing, strict=True))


def _curve(minute: int) -> float:
    """Between two hours the curve is a line."""
    hour, past = divmod(minute, 60)
    return CURVE[hour] + (CURVE[(hour + 1) % 24] - CURVE[hour]) * past / 60


def _whole_numbers(values: Iterator[float]) -> list[int]:
    """Rounded so that their sum is that of the values, rounded."""
    sums = [round(each) for each in accumulate(values)]
    return [now - before for before, now in zip([0, *sums], sums, strict=False)]
