"""The output of `make simulate`: a table of the days, and a picture of the local hours and of the queue."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from rich import box
from rich.table import Table

from local.commands.show import COLOURS
from tests.simulation.plan import KINDS, WEEK
from tests.simulation.week import Week

PROGRESS = ("queued", "sent", "delivered")
DEFERRED = ("quiet hours", "hold", "no connection", "no time left", "failed, again")
ENDED = ("failed", "expired")
COLUMNS = (*PROGRESS, *DEFERRED, *ENDED)
REASONS = {"quiet_hours": "quiet hours", "hold": "hold", "not_connected": "no connection", "given_back": "no time left"}
HOLD_REASONS = ("error_20003", "error_21408", "error_30023", "twilio_down")


def days(week: Week) -> Table:
    """Numbers of messages by day, in UTC: queued, sent and delivered, deferred by reason, failed and expired."""
    table = Table(
        title=f"{week.plan.name[0].upper()}{week.plan.name[1:]}: a week from {week.plan.start:%d %B %Y}",
        box=box.SIMPLE,
        padding=(0, 1, 0, 0),
        title_justify="left",
    )
    table.add_column("")
    for heading in COLUMNS:
        table.add_column(heading.replace(" ", "\n", 1), justify="right")
    counts = _counts(week)
    for day in sorted({day for day, _ in counts}):
        row = [counts[day, column] for column in COLUMNS]
        table.add_row(f"{day:%a %d %b}", *[str(n or "·") for n in row])
    table.add_section()
    totals = [sum(n for (_, counted), n in counts.items() if counted == column) for column in COLUMNS]
    table.add_row("all", *[str(n or "·") for n in totals])
    return table


def picture(weeks: Sequence[Week], path: Path) -> None:
    """The local hours of the POSTs, by kind; and the waiting messages in each week."""
    # Matplotlib's cache is kept in the project, not in the home folder.
    os.environ.setdefault("MPLCONFIGDIR", str(path.parent / "matplotlib"))
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(
        1 + len(weeks), 1, figsize=(13, 3.2 + 2.6 * len(weeks)), layout="constrained", squeeze=False
    )
    _draw_hours(panels[0][0], weeks)
    for axes, week in zip(panels[1:, 0], weeks, strict=True):
        _draw_queue(axes, week)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _counts(week: Week) -> Counter[tuple[date, str]]:
    counts: Counter[tuple[date, str]] = Counter()
    for m in week.messages:
        counts[m.created_at.date(), "queued"] += 1
        if m.status == "delivered":
            counts[m.delivered_at.date(), "delivered"] += 1
        elif m.finished_at and m.status != "sent":
            counts[m.finished_at.date(), "expired" if m.status == "expired" else "failed"] += 1
    for post in week.posts:
        counts[datetime.fromtimestamp(post.at, UTC).date(), "sent"] += post.accepted
    for (day, reason), number in week.deferred.items():
        counts[day, "hold" if reason in HOLD_REASONS else REASONS.get(reason, "failed, again")] += number
    return counts


def _draw_hours(axes: Any, weeks: Sequence[Week]) -> None:
    """One row of the heat map for each kind; for a person with several possible zones the first one counts."""
    hours: Counter[tuple[str, int]] = Counter()
    for week in weeks:
        texts = {(text.person.number, text.body): text for text in week.plan.texts}
        for post in week.posts:
            text = texts[post.to, post.form["Body"]]
            local = datetime.fromtimestamp(post.at, ZoneInfo(text.person.zones[0]))
            hours[text.kind, local.hour] += 1
    rows = [[hours[kind, hour] for hour in range(24)] for kind in KINDS]
    axes.imshow([[n / max(1, *row) for n in row] for row in rows], cmap="YlGnBu", aspect="auto")
    for y, row in enumerate(rows):
        for x, number in enumerate(row):
            colour = "white" if number > 0.6 * max(row) else "#00000099"
            axes.text(x, y, number or "", ha="center", va="center", fontsize=7, color=colour)
    axes.set_xticks(range(24), [f"{hour:02}" for hour in range(24)])
    axes.set_yticks(range(len(KINDS)), list(KINDS))
    axes.set(title="POSTs to Twilio by the recipient's local hour")
    axes.spines[:].set_visible(False)


def _draw_queue(axes: Any, week: Week) -> None:
    minutes = list(week.depth)
    states = {"pending": "waiting", "unknown": "asking Twilio"}
    depths = [[week.depth[minute][state] for minute in minutes] for state in states]
    axes.stackplot(minutes, depths, labels=states.values(), colors=[COLOURS[each] for each in states], step="post")
    # The flood lasts only minutes; its peak is cut off, so that the rest is visible.
    totals = sorted(sum(each) for each in zip(*depths, strict=True))
    top = 2 * max(10, totals[len(totals) * 99 // 100])
    axes.set(xlim=(week.plan.start, week.plan.start + 1.05 * WEEK), ylim=(0, top))
    for n, (at, event) in enumerate(week.news):
        axes.axvline(at, color="#00000044", linewidth=0.8, linestyle=":")
        axes.text(at, top * (1 - n % 5 * 0.1), f" {event}", fontsize=6.5, va="top")
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set(title=f"Waiting messages, in a week of {week.plan.name}", ylabel="messages")
