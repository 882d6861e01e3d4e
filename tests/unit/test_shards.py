"""The simulation of shards in tests/scale: what holds in each run, whatever fails, and the table of docs/scale.md."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest

from tests.scale import show
from tests.scale.day import MINUTES, OTP, SHARES, Business, businesses, by_hash, by_table, minutes
from tests.scale.fleet import DAYS, FAILURES, failed, quiet, run
from tests.scale.shard import CLAIMED, OTP_EXPIRES, UNKNOWN_WAITS, Failure, Shard

MESSAGES, SHARDS = 3_000_000, 3
# Messages a second: a shard is never far from its limit.
RATE = 20
FAILED = (None, Failure(9 * 60, 9 * 60 + 90), Failure(11 * 60, 11 * 60 + 10))
PLACES = {"table": by_table, "hash": by_hash}


def fleet() -> list[Shard]:
    placed = by_table(businesses(MESSAGES, 200), SHARDS)
    found = []
    for n, (of, failure) in enumerate(zip(placed, FAILED, strict=True)):
        found.append(run(tuple(of), RATE, failure, first=n * 10 * MESSAGES))
    return found


SIMULATED = fleet()
EACH = pytest.mark.parametrize("shard", SIMULATED, ids=["no failure", "90 minutes", "10 minutes"])


def test_the_fleet_ends_each_message_once_and_loses_none() -> None:
    pieces = sorted((each.messages.first, each.messages.count) for shard in SIMULATED for each in shard.ended)
    assert all(first + count <= following for (first, count), (following, _) in pairwise(pieces))
    waiting = sum(shard.backlog[-1] for shard in SIMULATED)
    assert sum(count for _, count in pieces) + waiting == MESSAGES * DAYS
    assert waiting < MESSAGES / 10


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_each_business_has_one_shard(place: Callable[[Sequence[Business], int], list[list[Business]]]) -> None:
    given = businesses(MESSAGES, 200)
    placed = Counter(id(business) for of in place(given, SHARDS) for business in of)
    assert placed == Counter(map(id, given))


@EACH
def test_a_shard_drains_no_faster_than_its_rate(shard: Shard) -> None:
    ended = Counter[int]()
    for each in shard.ended:
        ended[each.minute] += each.messages.count
    assert max(ended.values()) == shard.rate
    if shard.failure:
        # Only messages that Twilio had accepted when the database failed.
        assert ended[shard.failure.start] <= shard.rate * CLAIMED / 60
        assert not any(ended[minute] for minute in range(shard.failure.start + 1, shard.failure.end))
        # After the failure no minute is left idle while messages wait.
        assert ended[shard.failure.end] == shard.rate


@EACH
def test_only_an_old_otp_expires(shard: Shard) -> None:
    expired = [each for each in shard.ended if not each.is_sent]
    assert bool(expired) == bool(shard.failure)
    assert all(each.messages.rank == OTP and each.late >= OTP_EXPIRES for each in expired)
    assert all(each.late < OTP_EXPIRES for each in shard.ended if each.is_sent and each.messages.rank == OTP)


@EACH
def test_the_backlog_is_the_messages_that_were_given_and_have_not_ended(shard: Shard) -> None:
    now = shard.failure.end - 1 if shard.failure else 12 * 60
    [of] = [
        of for of, each in zip(by_table(businesses(MESSAGES, 200), SHARDS), SIMULATED, strict=True) if each is shard
    ]
    given = sum(sum(ranks) for ranks in minutes(of)[: now + 1])
    assert shard.backlog[now] == given - sum(each.messages.count for each in shard.ended if each.minute <= now)


def test_a_claimed_message_without_an_answer_is_not_sent_again_before_thirty_minutes() -> None:
    of, start = (Business(MESSAGES, 9 * 60),), 10 * 60
    # The shard is behind, so that all that it has claimed is of one piece: the first half was accepted.
    shard = run(of, RATE * 100, Failure(start, start + 5))
    accepted = [each.messages for each in shard.ended if each.minute == start]
    after = {each.first + each.count for each in accepted}
    again = [each for each in shard.ended if each.messages.first in after and each.minute > start]
    assert accepted
    assert again
    assert min(each.minute for each in again) >= start + UNKNOWN_WAITS


def test_a_day_has_all_messages_of_its_businesses_in_the_shares_of_the_ranks() -> None:
    given = businesses(MESSAGES, 200)
    day = minutes(given)
    assert sum(business.messages for business in given) == MESSAGES
    assert len(day) == MINUTES
    assert [sum(rank) / MESSAGES for rank in zip(*day, strict=True)] == pytest.approx(SHARES, abs=0.001)


def test_the_table_of_the_page_is_that_of_the_simulation() -> None:
    table = show.shards([(quiet(16), [failed(16, length) for length in FAILURES])])
    assert set(table.splitlines()) <= set(show.PAGE.read_text().splitlines()), "run `make scale` with --publish"
