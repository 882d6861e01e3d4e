"""`make bench`: our rates and times beside those of peers and beside the limit, in one run.

    python -m tests.benchmarks                     all subjects except the long ones, in about fifteen minutes
    python -m tests.benchmarks queue drain         only these subjects
    python -m tests.benchmarks growth strain       the long subjects, with up to five million messages
    python -m tests.benchmarks --publish ...       also write the tables into docs/performance.md, and the plots

Peers and programs that are not installed (Celery needs a redis-server) are left out.
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
    "latency": "latency",
    "senders": "senders",
    "batches": "batches",
    "growth": "growth",
    "strain": "strain",
}
LONG = ("growth", "strain")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("subjects", nargs="*", metavar="subject", help=", ".join(SUBJECTS))
    parser.add_argument("--publish", action="store_true", help="write the results into docs/")
    options = parser.parse_args()
    if unknown := set(options.subjects) - set(SUBJECTS):
        parser.error(f"unknown subject: {', '.join(sorted(unknown))}; the subjects are {', '.join(SUBJECTS)}")
    found: list[Row] = []
    try:
        with stage() as on:
            for subject in options.subjects or [name for name in SUBJECTS if name not in LONG]:
                print(f"measuring: {subject}", file=sys.stderr)
                found += import_module(f"tests.benchmarks.{SUBJECTS[subject]}").rows(on)
    finally:
        # Also after a failure or a Ctrl-C, with the measurements so far.
        report.show(found)
    report.write(found, options.publish)


if __name__ == "__main__":
    main()
