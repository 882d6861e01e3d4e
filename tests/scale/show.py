"""The tables of docs/scale.md, between its markers."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from tests.pages import between
from tests.scale.fleet import Failed, Quiet
from tests.scale.life import AT_ONCE, Life
from tests.scale.limits import PEAK, Limit, carried, volumes, whole
from tests.scale.load import WORKERS, Load
from tests.scale.reading import Spent
from tests.scale.split import Tried

PAGE = Path(__file__).parents[2] / "docs" / "scale.md"


def publish(tables: Mapping[str, str]) -> None:
    page = PAGE.read_text()
    for name, table in tables.items():
        page = between(page, name, table)
    PAGE.write_text(page)


def lives(with_images: Life, without: Life) -> str:
    headings = ("a message is", "table", "index", "WAL", "with images", "dead rows", "transactions", "CPU")
    rows = [(name, *_cells(spent, without.steps[name])) for name, spent in with_images.steps.items() if name != AT_ONCE]
    total = _cells(whole(with_images.steps), whole(without.steps))
    once = _cells(with_images.steps[AT_ONCE], without.steps[AT_ONCE])
    rows += [("**its whole life**", *(f"**{each}**" for each in total)), (f"instead: {AT_ONCE}", *once)]
    return _table(headings, rows, f"{_machine()} Bytes, and milliseconds.")


def limits(found: Sequence[Limit], life: Life, load: Load) -> str:
    rows = [(each.part, each.arithmetic, f"{each.messages / 1e6:,.0f} million", each.then) for each in found]
    vacuum = ", ".join(f"{seconds:.2f} s of {table}" for table, seconds in load.vacuum.items())
    note = (
        f"{_machine()} {WORKERS} workers had {load.connections} connections, each with {load.memory / 2**20:.1f} MiB "
        f"of the server's memory; a worker with 20 in flight made {load.statements:.2f} statements for a message. "
        f"A vacuum of a million rows took {vacuum}. {carried(life.steps):,.0f} messages a second are carried by 16 "
        f"half-used cores. The fullest hour has {PEAK:.2f} average hours."
    )
    return _table(("what runs out", "arithmetic", "messages a day", "then"), rows, note, "---")


def volumes_of_days(with_images: Life, without: Life) -> str:
    found = {f"{days:,} million a day": volumes(with_images, without, days * 1_000_000) for days in (1, 100, 1_000)}
    names = next(iter(found.values()))
    rows = [(name, *(each[name] for each in found.values())) for name in names]
    return _table(("one deployment with", *found), rows, "")


def splits(found: Iterable[Tried]) -> str:
    note = "PostgreSQL 18; PL/Proxy and postgres_fdw on Debian's 15."
    return _table(("split", "tried", "result"), found, note, "---")


def shards(found: Iterable[tuple[Quiet, Sequence[Failed]]]) -> str:
    headings = ("shards", "the largest has", "its fullest minute", "last message of a campaign", *_failures(found))
    rows = [
        (
            str(quiet.shards),
            f"{quiet.share:.1%} of all",
            f"{quiet.busy:.0%} of its rate",
            _minutes(quiet.waits[-1]),
            *(f"{_minutes(each.drained)}; {each.delayed:.1%}; {each.expired:.1%}" for each in failures),
        )
        for quiet, failures in found
    ]
    return _table(headings, rows, "")


def needs(found: Mapping[int, Mapping[str, int | None]]) -> str:
    headings = ("need", *(f"shards of {rate:,}/s" for rate in found))
    of_needs = next(iter(found.values()))
    rows = [(need, *(str(each[need] or "no number") for each in found.values())) for need in of_needs]
    return _table(headings, rows, "")


def _failures(found: Iterable[tuple[Quiet, Sequence[Failed]]]) -> list[str]:
    lengths = next(iter(found))[1]
    return [f"a failure of {_minutes(each.minutes)}" for each in lengths]


def _minutes(count: int) -> str:
    return f"{count} min" if count < 120 else f"{count / 60:.1f} h"


def _cells(spent: Spent, without: Spent) -> tuple[str, ...]:
    sizes = [f"{each:,.0f}" for each in (spent.heap, spent.index, without.wal, spent.wal)]
    return (*sizes, f"{spent.dead:.2f}", f"{spent.transactions:.2f}", f"{spent.cpu * 1000:.3f}")


def _machine() -> str:
    today, python = f"{datetime.now(UTC):%Y-%m-%d}", platform.python_version()
    return f"{today}, Python {python}, PostgreSQL 18, {os.cpu_count()} cores."


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]], note: str, other: str = "---:") -> str:
    """`other` aligns the columns after the first."""
    lines = [headings, ["---", *[other for _ in headings[1:]]], *rows]
    text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"{text}\n\n{note}" if note else text
