"""The table and the picture of a soak, on the screen and in docs/performance.md."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich import box
from rich.table import Table

from tests.benchmarks.report import IMAGES, PAGE, between, number
from tests.soak.days import Soak
from tests.soak.lines import Line

HEADINGS = ("line", "middle third", "last third", "ratio", "flat up to")
# MiB.
SMALL = 0.5
# The panels of the picture: the beginning of the lines' names, and the axis.
PANELS = (
    (("memory",), "MiB", "Memory of the containers"),
    (("table", "indexes"), "MiB", "Tables and indexes"),
    (("claim",), "times a fixed statement", "Claim of 50 due messages, CPU time of the server"),
    (("connections", "messages that"), "", "Connections; messages that have not ended"),
)


def table(run: Soak, lines: Sequence[Line]) -> Table:
    rendered = Table(
        title=f"{len(run.days)} days in {run.minutes[-1]:.0f} minutes", box=box.SIMPLE, title_justify="left"
    )
    for n, heading in enumerate(HEADINGS):
        rendered.add_column(heading, justify="right" if n else "left")
    for line in _shown(lines):
        rendered.add_row(*_cells(line), style="red" if line.rises else None)
    return rendered


def publish(run: Soak, lines: Sequence[Line]) -> None:
    picture(run, IMAGES / "soak.svg")
    PAGE.write_text(between(PAGE.read_text(), "soak", _markdown(run, lines)))


def picture(run: Soak, path: Path) -> None:
    os.environ.setdefault("MPLCONFIGDIR", str(path.parent / "matplotlib"))
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(len(PANELS), 1, figsize=(9, 2.1 * len(PANELS)), sharex=True, layout="constrained")
    for axes, (begins, unit, title) in zip(panels, PANELS, strict=True):
        for name in [name for name in run.days[0] if name.startswith(begins)]:
            values = [day[name] for day in run.days]
            if max(values) >= SMALL:
                axes.plot(run.minutes, values, linewidth=1, label=name)
        axes.axvspan(0, run.minutes[len(run.minutes) // 3], color="#00000010", linewidth=0)
        axes.set_ylim(bottom=0)
        for n, (at, event) in enumerate(run.news):
            axes.axvline(at, color="#00000044", linewidth=0.8, linestyle=":")
            if axes is panels[0]:
                axes.text(at, axes.get_ylim()[1] * (0.92 - 0.12 * (n % 3)), f" {event}", fontsize=6.5)
        axes.set_title(title, fontsize=9, loc="left")
        axes.set_ylabel(unit, fontsize=8)
        axes.tick_params(labelsize=8)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, fontsize=6.5)
        axes.spines[["top", "right"]].set_visible(False)
    panels[-1].set_xlabel("minutes", fontsize=8)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def _shown(lines: Sequence[Line]) -> list[Line]:
    """Without the tables and indexes that stay small."""
    return [line for line in lines if line.rises or line.unit != "MiB" or line.last >= SMALL]


def _markdown(run: Soak, lines: Sequence[Line]) -> str:
    rows = ["| " + " | ".join(HEADINGS) + " |", "|---|---:|---:|---:|---:|"]
    rows += ["| " + " | ".join(_cells(line)) + " |" for line in _shown(lines)]
    done = run.done
    rate = done["POSTs"] / done["seconds of traffic"]
    rows += [
        "",
        f"{run.minutes[-1]:.0f} minutes were {len(run.days)} days with {done['messages']:,} messages, and {rate:.0f}"
        f" POSTs a second while messages waited. {done['kills of a worker']} workers were killed, the database crashed"
        f" {done['crashes of the database']} times, and Twilio was down {done['outages of Twilio']} times.",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, PostgreSQL 18, {os.cpu_count()} cores.",
    ]
    return "\n".join(rows)


def _cells(line: Line) -> tuple[str, ...]:
    ratio = f"{line.last / line.middle:.2f}" if line.middle else ""
    unit = "" if line.unit.startswith("times") else f" {line.unit}".rstrip()
    return (
        line.name,
        f"{number(line.middle)}{unit}",
        f"{number(line.last)}{unit}",
        ratio,
        f"{number(line.most)}{unit}",
    )
