"""The table on the screen, in docs/performance.md and in build/benchmarks.json; and the plots."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.benchmarks.measure import Row

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "performance.md"
IMAGES = ROOT / "docs" / "images"
MADE = ROOT / "build" / "benchmarks"


def show(rows: Sequence[Row]) -> None:
    table = Table("what", "ours", "beside", "theirs", "ratio", "of one run", "goal")
    for subject, of_it in groupby(rows, lambda row: row.subject):
        table.add_row(f"[bold]{subject}[/]")
        for row in of_it:
            table.add_row(*_cells(row), style="red" if row.reached is False else None)
        table.add_section()
    Console(width=200).print(table)


def write(rows: Sequence[Row], publish: bool) -> None:
    """Keep the rows in build/; with `publish`, also between the page's markers, and the plots beside it."""
    MADE.mkdir(parents=True, exist_ok=True)
    (MADE / "rows.json").write_text(json.dumps([row.as_json() for row in rows], indent=1) + "\n")
    plot(rows, IMAGES if publish else MADE)
    if publish:
        text = PAGE.read_text()
        for subject in dict.fromkeys(row.subject for row in rows):
            text = _between(text, subject, _markdown([row for row in rows if row.subject == subject]))
        PAGE.write_text(text)


def plot(rows: Sequence[Row], folder: Path) -> None:
    """A picture for each of two subjects: messages a second, and a chart for each number in flight."""
    import matplotlib as mpl

    mpl.use("svg")
    import matplotlib.pyplot as plt

    folder.mkdir(parents=True, exist_ok=True)
    for subject in ("queue", "drain"):
        charts: dict[str, dict[str, float]] = {}
        for row in rows:
            if row.subject == subject and row.what.startswith(("claim and finish", "drain")):
                bars = charts.setdefault(row.what.split(" from Python")[0].split(", 100 a batch")[0], {})
                bars["sms-retry"] = statistics.median(row.ours)
                bars[row.beside] = statistics.median(row.theirs)
        if not charts:
            continue
        figure, axes = plt.subplots(1, len(charts), figsize=(4.5 * len(charts), 3.2), squeeze=False)
        for ax, (what, bars) in zip(axes[0], charts.items(), strict=True):
            colours = ["#1f6f8b" if name == "sms-retry" else "#c9d6df" for name in bars]
            ax.bar_label(ax.barh(list(bars), list(bars.values()), color=colours), fmt="{:,.0f}", padding=3, fontsize=8)
            ax.invert_yaxis()
            ax.set_title(f"{what}, messages a second", fontsize=9)
            ax.spines[["top", "right"]].set_visible(False)
            ax.margins(x=0.2)
            ax.tick_params(labelsize=8)
        figure.tight_layout()
        figure.savefig(folder / f"{subject}.svg", metadata={"Date": None})
        plt.close(figure)


def _markdown(rows: Sequence[Row]) -> str:
    lines = ["| what | ours | beside | theirs | ratio | of one run | goal |", "|---|---:|---|---:|---:|---:|---|"]
    lines += ["| " + " | ".join(_cells(row)) + " |" for row in rows]
    cores = os.cpu_count()
    lines += ["", f"{datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, PostgreSQL 18, {cores} cores."]
    return "\n".join(lines)


def _between(text: str, subject: str, table: str) -> str:
    begin, end = f"<!-- {subject} -->", f"<!-- /{subject} -->"
    before, _, rest = text.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise ValueError(f"{PAGE.name} has no {begin} ... {end}")
    return f"{before}{begin}\n{table}\n{end}{after}"


def _cells(row: Row) -> tuple[str, ...]:
    ours, theirs = statistics.median(row.ours), statistics.median(row.theirs)
    least, most = row.spread
    verdict = {None: "", True: "reached", False: "missed"}[row.reached]
    goal = f"{row.goal[0]} {row.goal[1]:g}: {verdict}" if row.goal else ""
    spread = f"{least:.2f} - {most:.2f}" if len(row.ours) > 1 else ""
    return (row.what, f"{_number(ours)} {row.unit}", row.beside, _number(theirs), f"{row.ratio:.2f}", spread, goal)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
