"""The output of `make demo`: the queue minute by minute, the outcomes, the checked guarantees and a picture."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from local.proof import Check, Evidence

QUEUE = {
    "pending": ("waiting", "yellow"),
    "processing": ("being sent", "cyan"),
    "unknown": ("asking Twilio", "magenta"),
}
OUTCOMES = {
    "delivered": "green",
    "sent": "cyan",
    "undelivered": "red",
    "failed": "bright_red",
    "expired": "bright_black",
    "unknown": "magenta",
    "cancelled": "bright_black",
    "queued": "yellow",
}
COLOURS = {
    "pending": "#d9a400",
    "processing": "#2a9dba",
    "unknown": "#a04fb5",
    "delivered": "#3b9c4c",
    "sent": "#2a9dba",
    "undelivered": "#e07b67",
    "failed": "#b83227",
    "expired": "#8a8a8a",
    "cancelled": "#c4c4c4",
}
BAR = 40


class Show:
    """On a terminal a table that changes; otherwise a line every ten minutes of the clock."""

    def __init__(self, messages: int) -> None:
        self._messages = messages
        # The present stdout, because it is redirected to the log later.
        self._console = Console(file=sys.stdout, highlight=False)
        self._live: Live | None = None

    def say(self, line: str) -> None:
        self._console.print(line, soft_wrap=True)

    @contextmanager
    def live(self) -> Iterator[None]:
        if not self._console.is_terminal:
            yield
            return
        with Live(console=self._console, redirect_stdout=False, redirect_stderr=False) as self._live:
            yield

    def minute(
        self, minute: int, queue: Counter[str], messages: Counter[str], posts: int, news: Sequence[tuple[int, str]]
    ) -> None:
        if self._live:
            self._live.update(_now(self._messages, minute, queue, messages, posts, news))
            return
        for _, event in [each for each in news if each[0] == minute - 1]:
            self.say(f"minute {minute:3}  {event}")
        if minute % 10 == 0:
            states = [f"{queue[state]} {label}" for state, (label, _) in QUEUE.items() if queue[state]]
            outcomes = [
                f"{messages[status]} {status}" for status in OUTCOMES if messages[status] and status != "queued"
            ]
            self.say(f"minute {minute:3}  {', '.join([*states, *outcomes])}")

    def table(self, evidence: Evidence) -> None:
        """The number of messages by status and by POSTs to Twilio."""
        table = Table(title="Messages by status and number of POSTs", box=box.SIMPLE, title_justify="left")
        table.add_column("")
        headings = ["never sent", "1 POST", "2", "3", "4", "5 or more", "messages"]
        for heading in headings:
            table.add_column(heading, justify="right")
        counts = Counter((m.status, min(5, len(evidence.posts[m.to_number, m.body]))) for m in evidence.messages)
        for status, colour in OUTCOMES.items():
            row = [counts[status, posts] for posts in range(6)]
            if sum(row):
                table.add_row(Text(status, colour), *[str(n or "·") for n in row], str(sum(row)))
        table.add_section()
        columns = [sum(n for (_, number), n in counts.items() if number == posts) for posts in range(6)]
        table.add_row("all", *[str(n or "·") for n in columns], str(len(evidence.messages)))
        self._console.print(table)

    def proof(self, found: Sequence[Check]) -> None:
        title = "The guarantees, checked against Twilio's record"
        table = Table(title=title, box=box.SIMPLE, title_justify="left", show_header=False)
        for check in found:
            result = Text("BROKEN", "bold red") if check.faults else Text("kept", "green")
            table.add_row(check.guarantee, result, check.seen)
        self._console.print(table)
        for check in found:
            for fault in check.faults[:10]:
                self.say(f"{check.guarantee}: {fault}")

    def picture(
        self,
        queue: Sequence[Counter[str]],
        messages: Sequence[Counter[str]],
        news: Sequence[tuple[int, str]],
        path: Path,
    ) -> None:
        """Queue depth and outcomes over the clock's minutes."""
        # Matplotlib's cache is kept in the project, not in the home folder.
        os.environ.setdefault("MPLCONFIGDIR", str(path.parent / "matplotlib"))
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot

        figure, (above, below) = pyplot.subplots(2, 1, figsize=(11, 7), sharex=True, layout="constrained")
        minutes = range(1, len(queue) + 1)
        for axes, samples, states in (
            (above, queue, [state for state in QUEUE if any(sample[state] for sample in queue)]),
            (below, messages, [s for s in OUTCOMES if s != "queued" and any(sample[s] for sample in messages)]),
        ):
            depths = [[sample[state] for sample in samples] for state in states]
            labels = [QUEUE[state][0] for state in states] if axes is above else states
            axes.stackplot(minutes, depths, labels=labels, colors=[COLOURS[state] for state in states], step="post")
            axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, reverse=True)
            axes.spines[["top", "right"]].set_visible(False)
            for minute in {minute for minute, _ in news}:
                axes.axvline(minute, color="#00000055", linewidth=0.8, linestyle=":")
        events = "\n".join(f"{minute:>2}  {event}" for minute, event in news)
        above.text(1.02, 0, events, transform=above.transAxes, fontsize=8, linespacing=1.6)
        above.set(title="Waiting messages", ylabel="messages")
        below.set(title="Messages by status", xlabel="minutes of the clock", ylabel="messages")
        figure.savefig(path, dpi=110)
        self.say(f"A picture of the run: {path.relative_to(path.parents[1])}")


def _now(
    most: int, minute: int, queue: Counter[str], messages: Counter[str], posts: int, news: Sequence[tuple[int, str]]
) -> Group:
    table = Table(box=None, show_header=False, pad_edge=False)
    for column in ({"min_width": 13}, {"justify": "right", "min_width": 3}, {"min_width": BAR}):
        table.add_column(**column)
    for state, (label, colour) in QUEUE.items():
        table.add_row(label, str(queue[state]), Text("█" * round(BAR * queue[state] / most), colour))
    table.add_row("", "", "")
    for status, colour in OUTCOMES.items():
        if status != "queued" and (messages[status] or status == "delivered"):
            table.add_row(status, str(messages[status]), Text("█" * round(BAR * messages[status] / most), colour))
    clock = f"{minute // 60}:{minute % 60:02} on the clock · {posts} POSTs to Twilio"
    latest = Text("\n".join(event for _, event in news[-3:]), "bright_black")
    return Group(Text(clock, "bold"), table, latest)
