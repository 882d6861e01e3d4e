"""`make scale`: what one database carries, how its tables can be split, and a billion messages a day over several.

python -m tests.scale                  all, in about six minutes
python -m tests.scale shards           the simulation alone, without a database, within a minute
python -m tests.scale costs split      what a message costs, with the limits; and the tables split in several ways
python -m tests.scale --publish        also write the tables into docs/scale.md
"""

from __future__ import annotations

import argparse
import sys
import time

from tests.scale import show
from tests.scale.fleet import FAILURES, NEEDS, RATE, SHARDS, failed, fewest, quiet
from tests.scale.life import life
from tests.scale.limits import limits
from tests.scale.load import load
from tests.scale.split import tried


def costs() -> dict[str, str]:
    with_images, without, loaded = life(durable=True), life(durable=False), load()
    found = limits(with_images, loaded)
    return {
        "life": show.lives(with_images, without),
        "day": show.volumes_of_days(with_images, without),
        "limits": show.limits(found, with_images, loaded),
    }


def split() -> dict[str, str]:
    return {"split": show.splits(tried())}


def shards() -> dict[str, str]:
    found = [(quiet(count), [failed(count, length) for length in FAILURES]) for count in SHARDS]
    needed = {rate: {need: fewest(need, rate) for need in NEEDS} for rate in (RATE, 2 * RATE)}
    return {"shards": show.shards(found), "needs": show.needs(needed)}


SUBJECTS = {"costs": costs, "split": split, "shards": shards}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.scale", description=__doc__)
    parser.add_argument("subjects", nargs="*", metavar="subject", help=", ".join(SUBJECTS))
    parser.add_argument("--publish", action="store_true", help="write the tables into docs/scale.md")
    options = parser.parse_args()
    if unknown := set(options.subjects) - set(SUBJECTS):
        parser.error(f"unknown subject: {', '.join(sorted(unknown))}; the subjects are {', '.join(SUBJECTS)}")
    for subject in options.subjects or SUBJECTS:
        started = time.monotonic()
        tables = SUBJECTS[subject]()
        for name, table in tables.items():
            print(f"{name}\n\n{table}\n")
        print(f"{subject}: {time.monotonic() - started:.0f} s", file=sys.stderr)
        if options.publish:
            show.publish(tables)


if __name__ == "__main__":
    main()
