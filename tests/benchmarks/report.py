"""The results: a table on the screen and in docs/performance.md, JSON in build/benchmarks, and the plots."""

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
BUILD = ROOT / "build" / "benchmarks"
HEADINGS = ("measure", "ours", "beside", "theirs", "ratio", "of one run", "goal")


def show(rows: Sequence[Row]) -> None:
    table = Table(*HEADINGS)
    for subject, rows_of_subject in groupby(rows, lambda row: row.subject):
        table.add_row(f"[bold]{subject}[/]")
        for row in rows_of_subject:
            table.add_row(*_cells(row), style="red" if row.reached is False else None)
        table.add_section()
    Console(width=200).print(table)


def write(rows: Sequence[Row], publish: bool) -> None:
    """Write the rows and plots into build/; with `publish` into docs/, the rows between the markers of the page."""
    BUILD.mkdir(parents=True, exist_ok=True)
    (BUILD / "rows.json").write_text(json.dumps([row.as_json() for row in rows], indent=1) + "\n")
    plot(rows, IMAGES if publish else BUILD)
    if publish:
        text = PAGE.read_text()
        for subject in dict.fromkeys(row.subject for row in rows):
            text = between(text, subject, _markdown([row for row in rows if row.subject == subject]))
        PAGE.write_text(text)


def plot(rows: Sequence[Row], folder: Path) -> None:
    """One picture each for queue and drain: messages a second, with one chart for each number in flight."""
    import matplotlib as mpl

    mpl.use("svg")
    import matplotlib.pyplot as plt

    folder.mkdir(parents=True, exist_ok=True)
    for subject in ("queue", "drain"):
        charts: dict[str, dict[str, float]] = {}
        for row in rows:
            if row.subject == subject and row.name.startswith(("claim and finish", "drain")):
                bars = charts.setdefault(row.name.split(" from Python")[0].split(", 100 a batch")[0], {})
                bars["sms-retry"] = statistics.median(row.ours)
                bars[row.beside] = statistics.median(row.theirs)
        if not charts:
            continue
        figure, axes = plt.subplots(1, len(charts), figsize=(4.5 * len(charts), 3.2), squeeze=False)
        for ax, (title, bars) in zip(axes[0], charts.items(), strict=True):
            colours = ["#1f6f8b" if name == "sms-retry" else "#c9d6df" for name in bars]
            ax.bar_label(ax.barh(list(bars), list(bars.values()), color=colours), fmt="{:,.0f}", padding=3, fontsize=8)
            ax.invert_yaxis()
            ax.set_title(f"{title}, messages a second", fontsize=9)
            ax.spines[["top", "right"]].set_visible(False)
            ax.margins(x=0.2)
            ax.tick_params(labelsize=8)
        figure.tight_layout()
        figure.savefig(folder / f"{subject}.svg", metadata={"Date": None})
        plt.close(figure)


def _markdown(rows: Sequence[Row]) -> str:
    lines = ["| " + " | ".join(HEADINGS) + " |", "|---|---:|---|---:|---:|---:|---|"]
    lines += ["| " + " | ".join(_cells(row)) + " |" for row in rows]
    cores = os.cpu_count()
    lines += ["", f"{datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, PostgreSQL 18, {cores} cores."]
    return "\n".join(lines)


def between(text: str, subject: str, table: str) -> str:
    """The page with `table` between the markers of the subject."""
    begin, end = f"<!-- {subject} -->", f"<!-- /{subject} -->"
    before, _, rest = text.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise ValueError(f"{PAGE.name} has no {begin} ... {end}")
    return f"{before}{begin}\n{table}\n{end}{after}"


def _cells(row: Row) -> tuple[str, ...]:
    ours, theirs = statistics.median(row.ours), statistics.median(row.theirs)
    lowest, highest = row.spread
    verdict = {None: "", True: "reached", False: "missed"}[row.reached]
    goal = f"{row.goal[0]} {row.goal[1]:g}: {verdict}" if row.goal else ""
    spread = f"{lowest:.2f} - {highest:.2f}" if len(row.ours) > 1 else ""
    return (row.name, f"{number(ours)} {row.unit}", row.beside, number(theirs), f"{row.ratio:.2f}", spread, goal)


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
