"""`make bench`: what we do beside what others do and beside the limit, in one run; nothing here is a test.

    python -m tests.benchmarks                     all but the long ones, in about twelve minutes
    python -m tests.benchmarks queue drain         these
    python -m tests.benchmarks growth strain       the long ones, with up to five million messages
    python -m tests.benchmarks --publish ...       and write the tables into docs/performance.md, the plots beside it

Peers that are not installed, Celery without a redis-server and pgbench where there is none are left out.
"""

from __future__ import annotations

import argparse
import sys
from importlib import import_module

from tests.benchmarks import report
from tests.benchmarks.measure import Row
from tests.benchmarks.stage import stage

SUBJECTS = {
    "queue": "queue_rate",
    "drain": "drain",
    "webhook": "webhook",
    "start": "start",
    "memory": "memory",
    "workers": "workers",
    "growth": "growth",
    "strain": "strain",
}
LONG = ("growth", "strain")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("subjects", nargs="*", metavar="subject", help=", ".join(SUBJECTS))
    parser.add_argument("--publish", action="store_true", help="write what was found into docs/")
    options = parser.parse_args()
    if unknown := set(options.subjects) - set(SUBJECTS):
        parser.error(f"no such subject: {', '.join(sorted(unknown))}; there are {', '.join(SUBJECTS)}")
    found: list[Row] = []
    try:
        with stage() as on:
            for subject in options.subjects or [name for name in SUBJECTS if name not in LONG]:
                print(f"measuring: {subject}", file=sys.stderr)
                found += import_module(f"tests.benchmarks.{SUBJECTS[subject]}").rows(on)
    finally:
        # Also what was measured before one failed, or before a Ctrl-C.
        report.show(found)
    report.write(found, options.publish)


if __name__ == "__main__":
    main()
