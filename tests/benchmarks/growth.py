"""The time of each call with five thousand, half a million and five million messages in the tables."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from itertools import count

import psycopg

from sms_retry.store import Store
from sms_retry.values import Claim, Receipt, Report, Ticket
from tests.benchmarks.measure import RUNS, Row, median_ms
from tests.benchmarks.stage import Stage, fill, sid

SIZES = (5_000, 500_000, 5_000_000)
# Half of the messages have ended within the last day.
ENDED = """with ended as (
    update sms_retry.sms_retry_queue set status = 'completed', attempt = 1,
        finished_at = now() - random() * interval '1 day'
    where id <= %(n)s returning id, message_id)
, story as (
    insert into sms_retry.sms_attempts (queue_id, attempt, outcome, message_sid)
    select id, 1, 'accepted', 'SM' || lpad(to_hex(id), 32, '0') from ended)
update sms_retry.sms_messages m set status = 'sent', provider_sid = 'SM' || lpad(to_hex(e.id), 32, '0'),
    sent_at = now(), ask_at = now() + interval '1 hour'
from ended e where m.id = e.message_id"""
OLD = "update sms_retry.sms_retry_queue set finished_at = now() - interval '8 days' where id between %s and %s"


def rows(stage: Stage) -> Iterator[Row]:
    found = {size: _times(stage.url, size) for size in SIZES}
    smallest = found[SIZES[0]]
    for size in SIZES[1:]:
        for call, times in found[size].items():
            goal = ("at most", 1.5) if call == "claim of 100" else None
            yield Row(
                "growth", f"{call}, {size:,} messages", "ms", times, f"{SIZES[0]:,} messages", smallest[call], goal
            )


def _times(url: str, size: int) -> dict[str, list[float]]:
    """Milliseconds of each call, RUNS times."""
    fill(url, size)
    with psycopg.connect(url, autocommit=True) as db:
        db.execute(ENDED, {"n": size // 2})
        db.execute("vacuum analyze")
    with closing(Store(lambda: url)) as store:
        claims: list[Claim] = []
        claimed = [median_ms(lambda: claims.extend(store.claim_due(100)), 4) for _ in range(RUNS)]
        reports = [Report(claim.ticket, "accepted", sid(claim.id)) for claim in claims]
        batches = iter([reports[n : n + 100] for n in range(0, len(reports), 100)])
        finished = [median_ms(lambda: store.finish(next(batches)), 4) for _ in range(RUNS)]
        numbers = count(1)

        def deliver() -> None:
            n = next(numbers)
            store.record_delivery(Receipt(sid(n), "delivered", None, Ticket(n, 1), "+4917600000001"))

        return {
            "claim of 100": claimed,
            "finish of 100": finished,
            "a delivery": [median_ms(deliver, 100) for _ in range(RUNS)],
            "the health check": [median_ms(store.health, 3) for _ in range(RUNS)],
            "a clean-up that removes 500": [_cleaned(url, store, turn) for turn in range(RUNS)],
        }


def _cleaned(url: str, store: Store, turn: int) -> float:
    with psycopg.connect(url, autocommit=True) as db:
        db.execute(OLD, [500 * turn + 1, 500 * turn + 500])
    return median_ms(store.cleanup, 1)
