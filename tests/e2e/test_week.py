"""A simulated week in which clocks change: the short version of `make simulate`."""

from __future__ import annotations

from local.postgres.server import Server
from tests.simulation.guarantees import guarantees
from tests.simulation.week import simulate


def test_every_guarantee_holds_over_a_week_in_which_clocks_change(server: Server, worker_id: str) -> None:
    week = simulate(server.create_database(f"sms_retry_week_{worker_id}"), "autumn in the United States", messages=160)

    assert [(check.guarantee, check.faults) for check in guarantees(week) if check.faults] == []
    assert len({zone for text in week.plan.texts for zone in text.person.zones}) > 50
    assert {"quiet_hours", "hold", "not_connected"} <= {reason for _, reason in week.deferred}
