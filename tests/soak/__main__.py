"""`make soak`: mixed traffic for MINUTES, with kills, crashes, an outage, a migration and a restore.

It ends with 1 if a line rises (tests/soak/lines.py has the rule) or a guarantee is broken, and says which one.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time

WIDTH = 120


def main() -> int:
    """Returns the exit code: 0, or 1 if a line rises or a guarantee was broken."""
    from rich.console import Console

    from local.aws.container import ROOT
    from local.commands.show import Show
    from local.postgres.server import postgres
    from tests.soak.lines import faults
    from tests.soak.report import picture, publish, table
    from tests.soak.samples import lines
    from tests.soak.stage import soak

    arguments, build = _arguments(), ROOT / "build"
    build.mkdir(exist_ok=True)
    console = Console(file=sys.stdout, highlight=False)
    console.width = max(console.width, WIDTH)
    with (
        (build / "soak.log").open("w") as log,
        contextlib.redirect_stdout(log),
        postgres() as server,
        soak(server, arguments.seed) as run,
    ):
        run.run(arguments.minutes)
    found, measured = run.proof.found(), lines(run.days)
    rising = faults(measured)
    console.print(table(run, measured))
    Show(run.done["messages"]).proof(found)
    picture(run, build / "soak.svg")
    if arguments.publish:
        publish(run, measured)
    for sentence in rising:
        console.print(sentence, soft_wrap=True)
    broken = [f"{check.guarantee}: {fault}" for check in found for fault in check.faults]
    counted = ", ".join(f"{number:.0f} {name}" for name, number in run.done.items())
    console.print(f"{len(run.days)} days, {counted} · seed {arguments.seed} · build/soak.svg · build/soak.log")
    console.print(f"{len(rising)} faults of lines, {len(broken)} faults of guarantees")
    return 1 if rising or broken else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("minutes", type=float, nargs="?", default=10.0, metavar="MINUTES", help="the length")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="the same seed makes the same texts")
    parser.add_argument("--publish", action="store_true", help="write the picture and the section of the docs")
    if os.environ.get("LOCAL_DATABASE_URL"):
        parser.error("the soak restarts its own PostgreSQL: unset LOCAL_DATABASE_URL")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
