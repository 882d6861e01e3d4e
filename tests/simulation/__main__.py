"""`make simulate`: simulates four weeks in which clocks change, in minutes, and checks every guarantee."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time

WIDTH = 100


def main() -> int:
    """Returns the exit code: 0, or 1 if a guarantee was broken."""
    from rich.console import Console

    from local.aws.container import ROOT
    from local.commands.show import Show
    from local.postgres.server import postgres
    from tests.simulation.guarantees import guarantees
    from tests.simulation.plan import WEEKS
    from tests.simulation.show import days, picture
    from tests.simulation.week import simulate

    arguments, started, build = _arguments(), time.monotonic(), ROOT / "build"
    build.mkdir(exist_ok=True)
    console, show, weeks, broken = Console(file=sys.stdout, highlight=False), Show(arguments.messages), [], False
    console.width = max(console.width, WIDTH)
    with (build / "week.log").open("w") as log, contextlib.redirect_stdout(log), postgres(durable=False) as server:
        for n, name in enumerate(WEEKS):
            url = server.create_database(f"sms_retry_week_{os.getpid()}_{n}")
            set_time_zone(url, arguments.timezone)
            weeks.append(simulate(url, name, arguments.messages, arguments.seed))
            found = guarantees(weeks[-1])
            console.print(days(weeks[-1]))
            show.proof(found)
            broken = broken or any(check.faults for check in found)
    picture(weeks, build / "week.png")
    total, seconds = sum(len(week.messages) for week in weeks), time.monotonic() - started
    of = f"{total} messages · seed {arguments.seed} · database in {arguments.timezone} · {seconds:.0f} s"
    console.print(f"{of} · build/week.png · build/week.log")
    return 1 if broken else 0


def set_time_zone(database_url: str, zone: str) -> None:
    """Set the zone of every later session, as an application does in a database that it shares with sms-retry."""
    import psycopg
    from psycopg import sql

    with psycopg.connect(database_url, autocommit=True) as db:
        database = sql.Identifier(db.info.dbname)
        db.execute(sql.SQL("alter database {} set timezone = {}").format(database, sql.Literal(zone)))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--messages", type=int, default=1000, help="approximate number of messages in each week")
    parser.add_argument("--seed", type=int, default=2026, help="the same seed makes the same plans")
    parser.add_argument("--timezone", default="UTC", help="the database's time zone, such as America/New_York")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
