"""`make chaos`: kills workers and publishers at random moments, and lets Twilio rewrite messages and its list lag.

It checks that no message is lost or sent twice, that every ending becomes an event, and that a killed worker costs a
paced sender no segments for longer than a minute.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from collections import defaultdict
from collections.abc import Mapping
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from local.stack import Stack
    from tests.chaos.crash import Found, Plan
    from tests.chaos.events import Published

WIDTH = 120
COLUMNS = ("runs", "messages", "kills", "recovered", "by_callback", "by_list", "resent", "exactly_once")
# Runs for each pair of step and number of workers.
RUNS_A_STEP = 2
# Runs with kills at random moments for each run in which publishers are killed too.
RUNS_A_PUBLISHER = 10
# Segments a second of the runs with a paced sender: fewer than the messages of a run.
PACE = 4


def main() -> int:
    """Returns the exit code: 0, or 1 if a guarantee was broken."""
    from rich.console import Console
    from rich.progress import track

    from local.aws.container import ROOT
    from local.postgres.server import postgres
    from local.stack import stack
    from tests.chaos.crash import Found, crash
    from tests.chaos.rewritten import ALONE, PAIRS

    arguments = _arguments()
    plans, started = _plans(arguments.seed, arguments.runs), time.monotonic()
    console = Console(file=sys.stdout, highlight=False)
    console.width = max(console.width, WIDTH)
    log = ROOT / "build" / "chaos.log"
    log.parent.mkdir(exist_ok=True)
    table: dict[tuple[str, int], Found] = defaultdict(Found)
    with log.open("w") as lines, contextlib.redirect_stdout(lines), contextlib.ExitStack() as parts:
        server = parts.enter_context(postgres())
        url = server.create_database(f"sms_retry_chaos_{os.getpid()}")
        whole = parts.enter_context(stack(url))
        for plan in track(plans, f"seed {arguments.seed}", console=console):
            found = crash(whole, plan, server.restart)
            table[plan.step + " (paced sender)" * bool(plan.pace), plan.workers] += found
            for violation in found.violations:
                console.print(violation, soft_wrap=True)
        published = _published(whole, arguments.seed, arguments.runs // RUNS_A_PUBLISHER, console)
        rewritten = _rewritten(url, console)
    console.print(_rendered(table))
    console.print(f"{len(ALONE) + len(PAIRS)} kinds of lists: {rewritten} violations")
    console.print(
        f"{published.messages} messages with {published.kills} kills of workers and publishers: "
        f"{published.events} events, "
        f"{published.repeated} of them put again, {len(published.violations)} violations"
    )
    violations = rewritten + sum(len(found.violations) for found in (published, *table.values()))
    console.print(f"{violations} violations · {time.monotonic() - started:.0f} s · seed {arguments.seed}")
    return 1 if violations else 0


def _published(whole: Stack, seed: int, runs: int, console: Console) -> Published:
    """Kill publishers too, and compare the events on the bus with the endings in the tables."""
    from rich.progress import track

    from tests.chaos.events import Published, published
    from tests.event_bus import event_bus

    total = Published()
    with event_bus() as bus:
        for run in track(range(runs), "publishers", console=console):
            total += (found := published(whole, bus, seed + run))
            for violation in found.violations:
                console.print(violation, soft_wrap=True)
    return total


def _rewritten(url: str, console: Console) -> int:
    """Run the matrix of rewritings in a migrated database; returns the number of violations."""
    import psycopg
    from rich.progress import track

    from local.stack import ENVIRONMENT
    from local.twilio.stand_in import ACCOUNT_SID, AUTH_TOKEN, TwilioStandIn
    from sms_retry.store import Store
    from sms_retry.twilio import Credentials, open_sender
    from tests.chaos.rewritten import ALONE, PAIRS, Account, violations
    from tests.tables import truncate_all

    sender, webhook = ENVIRONMENT["TWILIO_SENDER"], ENVIRONMENT["PUBLIC_WEBHOOK_URL"]
    count, store = 0, Store(lambda: url)
    with (
        contextlib.closing(store),
        psycopg.connect(url, autocommit=True) as db,
        TwilioStandIn(callbacks="manual") as twilio,
    ):
        for names in track([*ALONE, *PAIRS], "lists that are not as sent", console=console):
            truncate_all(db, restart_ids=False)
            twilio.reset()
            with open_sender(Credentials(ACCOUNT_SID, AUTH_TOKEN), twilio.url, sender, webhook) as send:
                found = violations(Account(db, store, twilio, send), names)
            count += len(found)
            for violation in found:
                console.print(violation, soft_wrap=True)
    return count


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument(
        "--runs", type=int, default=220, help="runs with kills at random moments; every tenth also restarts Postgres"
    )
    parser.add_argument("--seed", type=int, default=int(time.time()), help="the same seed makes the same plans")
    return parser.parse_args()


def _plans(seed: int, runs: int) -> list[Plan]:
    """The plans of the matrix, then the random ones. Without restarts if LOCAL_DATABASE_URL names the Postgres."""
    from tests.chaos.crash import AT_ANY_MOMENT, WITH_A_RESTART, Plan
    from tests.chaos.worker import STEPS

    rng, rare = Random(seed), AT_ANY_MOMENT if os.environ.get("LOCAL_DATABASE_URL") else WITH_A_RESTART
    steps = [(step, workers) for _ in range(RUNS_A_STEP) for step in STEPS for workers in (1, 2, 3, 4)]
    steps += [(AT_ANY_MOMENT if n % 10 else rare, 1 + n // 10 % 4) for n in range(runs)]
    plans = [Plan(step, workers, rng.randrange(2**32), rng.randint(10, 20)) for step, workers in steps]
    paced = [(step, workers) for step in (*STEPS, *(AT_ANY_MOMENT,) * 5) for workers in (1, 2, 4)]
    return plans + [Plan(step, workers, rng.randrange(2**32), rng.randint(10, 20), PACE) for step, workers in paced]


def _rendered(table: Mapping[tuple[str, int], Found]) -> Table:
    from rich import box
    from rich.table import Table

    rendered = Table(title="Messages by plan and result", box=box.SIMPLE, padding=(0, 1, 0, 0), title_justify="left")
    rendered.add_column("workers are killed", no_wrap=True)
    for heading in ("workers", *COLUMNS, "violations"):
        rendered.add_column(heading.replace("_", "\n"), justify="right")
    steps, before = list(dict.fromkeys(step for step, _ in table)), ""
    for (step, workers), found in sorted(table.items(), key=lambda row: (steps.index(row[0][0]), row[0][1])):
        if step != before:
            rendered.add_section()
        counts = [getattr(found, name) for name in COLUMNS]
        rendered.add_row("" if step == before else step, *map(str, (workers, *counts, len(found.violations))))
        before = step
    rendered.add_section()
    totals = [sum(getattr(found, name) for found in table.values()) for name in COLUMNS]
    violations = sum(len(found.violations) for found in table.values())
    rendered.add_row("all", "", *map(str, (*totals, violations)))
    return rendered


if __name__ == "__main__":
    sys.exit(main())
