"""Claim and finish without a send: the rate of the queue itself, beside the peers and beside its own SQL."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from tests.benchmarks import limits
from tests.benchmarks.measure import Row, rate, side_by_side
from tests.benchmarks.stage import Stage, claim_and_finish, fill

COUNT = 10_000
# (jobs, in flight) at which each peer is fastest; slow peers get fewer jobs.
PEERS = {"PgQueuer": (COUNT, 200), "pgmq": (COUNT, 100), "procrastinate": (1_000, 1), "a naive cron job": (300, 1)}
GOALS = {"PgQueuer": ("at least", 1.5), "procrastinate": ("at least", 25.0)}


def rows(stage: Stage) -> Iterator[Row]:
    def ours(refused_of_ten: int = 0) -> float:
        fill(stage.url, COUNT)
        return rate(partial(claim_and_finish, stage.url, refused_of_ten=refused_of_ten), COUNT)

    def sql_alone() -> float:
        fill(stage.url, COUNT)
        return rate(partial(limits.our_sql_alone, stage.url, COUNT), COUNT)

    def queue_alone() -> float:
        fill(stage.url, COUNT)
        return rate(partial(limits.queue_alone, stage.url), COUNT)

    measures = {"ours": ours, "refused": partial(ours, 2), "queue alone": queue_alone}
    measures |= {peer: partial(peer_rate, *PEERS[peer], None) for peer, peer_rate in stage.peers.items()}
    if limits.pgbench():
        measures["our SQL in pgbench"] = sql_alone
    found = side_by_side(measures)

    for peer in stage.peers:
        name = "claim and finish, 100 a batch, no send; message, attempt and queue written"
        yield Row("queue", name, "messages/s", found["ours"], peer, found[peer], GOALS.get(peer))
    if "PgQueuer" in stage.peers:
        mixed = "the same, two of ten refused for good"
        yield Row("queue", mixed, "messages/s", found["refused"], "PgQueuer", found["PgQueuer"])
        alone = "the queue's own row alone, by bare statements"
        yield Row("queue", alone, "messages/s", found["queue alone"], "PgQueuer", found["PgQueuer"], ("at least", 2.0))
    if limits.pgbench():
        theirs = found["our SQL in pgbench"]
        yield Row("queue", "claim and finish from Python", "messages/s", found["ours"], "our SQL in pgbench", theirs)
