"""Output for people: tables, a message's story, and a progress bar."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from unicodedata import category

from rich.console import Console, Group
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column, Table
from rich.text import Text

from sms_retry.operate import interval
from sms_retry.readings import CurrentHold, KnownSender, MessageDetails, Origin, StoryStep, Usage

Shown = str | Group

LEVELS = {"ok": "green", "warning": "yellow", "wrong": "red"}
COLOURS = {"healthy": "green", "warning": "yellow", "critical": "red"}
# The figures of health.check, by their names on the screen.
FIGURES = {
    "Queue": {
        "waiting": "pending",
        "due": "due",
        "due for more than 2 min": "overdue",
        "oldest due, s": "oldest_due_seconds",
        "being sent": "processing",
        "oldest claim, s": "oldest_claim_seconds",
        "unknown": "unknown",
        "parked": "held_unknowns",
        "holds": "holds",
        "senders without a segment left": "senders_at_pace",
    },
    "Last 24 hours": {
        "success rate": "success_rate",
        "success rate of retried messages": "retry_success_rate",
        "retries per message": "retries_per_message",
        "completed": "completed_last_day",
        "failed or expired": "failed_last_day",
    },
    "Last hour": {
        "receipts": "callbacks_last_hour",
        "receipt lag, s": "callback_lag_seconds",
        "delivery rate": "delivery_rate",
        "95 % delivered within, s": "delivery_seconds",
    },
    "Database": {
        "dead rows": "dead_tuples",
        "oldest snapshot, s": "oldest_snapshot_seconds",
    },
}

# Columns of a table that goes into a pipe or a file.
PIPE = 200

# SQL's sms_retry_health counts these up to a limit.
COUNTED = {"due": 10_000, "overdue": 10_000, "callbacks_last_hour": 1_000}


def show(shown: Shown) -> None:
    text = _printable(shown) if isinstance(shown, str) else shown
    console = Console(highlight=False, soft_wrap=isinstance(shown, str))
    if not console.is_terminal:
        console.width = max(console.width, PIPE)
    console.print(text, markup=False)


def together(*shown: Shown) -> Group:
    return Group(*shown)


def budgets(found: Sequence[dict[str, Any]]) -> str:
    if not found:
        return "No budget is set."
    lines = []
    for each in found:
        turns = f", turns at {each['turns_at']:%Y-%m-%d %H:%M %Z}" if each["turns_at"] else ""
        is_spent = "  SPENT: messages wait" if each["spent"] >= each["segments"] else ""
        amount = f"{each['spent']:,} of {each['segments']:,} segments per {interval(each['per'])}"
        lines.append(f"{each['scope']} {each['key']}: {amount}{turns}{is_spent}")
    return "\n".join(lines)


def status(
    figures: dict[str, Any], holds: Sequence[CurrentHold], parked: Sequence[int], senders: Mapping[int, str]
) -> Group:
    """`senders` has the parked messages that do not have the sender of the deployment."""
    word = figures["health_status"]
    tables = [_figures(title, names, figures) for title, names in FIGURES.items()]
    errors = sorted(figures["errors_last_day"].items(), key=lambda error: -error[1])[:10]
    if errors:
        tables.append(_table("Errors", ("code", "messages"), [(code, f"{n:,}") for code, n in errors]))
    if holds:
        rows = [(hold.scope, hold.masked_key, instant(hold.until), hold.reason) for hold in holds]
        tables.append(_table("Holds", ("scope", "key", "until (UTC)", "reason"), rows))
    if parked:
        of = [(str(message_id), senders.get(message_id, "*")) for message_id in parked[:10]]
        tables.append(_table("Parked", ("message", "sender"), of))
    return Group(Text(f"The queue is {word}.", COLOURS[word]), *tables)


def senders(known: Sequence[KnownSender]) -> Group:
    rows = [
        (
            sender.sender,
            sender.business_id or "",
            sender.account or "",
            sender.pace,
            "held" if sender.is_held else "",
        )
        for sender in known
    ]
    return _table("Senders", ("sender", "business", "account", "segments a second", ""), rows)


def usage(
    by: str, found: Sequence[Usage], estimates: Mapping[str, Decimal] | None, unpriced: Sequence[str]
) -> Group | str:
    """A line for each day, business, ...; with a price table its estimate."""
    if not found:
        return "No message was sent in this time."
    columns = [by, "accepted", "segments", "refused", "delivered", "undelivered", "rate", "half within", "95 % within"]
    rows = []
    for each in found:
        rate = "-" if each.delivery_rate is None else f"{each.delivery_rate:.1%}"
        times = ("-" if s is None else f"{s:,} s" for s in (each.median_seconds, each.slowest_seconds))
        counts = (each.messages, each.segments, each.refused, each.delivered, each.undelivered)
        estimate = [] if estimates is None else [f"{estimates[each.name]:,.2f}" if each.name in estimates else "-"]
        rows.append([each.name, *(f"{n:,}" for n in counts), rate, *times, *estimate])
    if estimates is None:
        return _table("Usage", columns, rows)
    notes = [f"Estimated in total: {sum(estimates.values()):,.2f}. The bill of Twilio has more items."]
    notes += [f"No price: {', '.join(unpriced)}."] if unpriced else []
    return Group(_table("Usage", [*columns, "estimate"], rows), *map(Text, notes))


def story(details: MessageDetails, origin: Origin | None, body: str | None, steps: Sequence[StoryStep]) -> Group:
    """One message: its facts in a heading, and a line for each step."""
    named = {"key": details.message_key, "to": details.number, "text": body}
    named |= {"kind": details.kind, "business": details.business_id}
    named |= {"sender": origin.sender, "batch": origin.batch, "segments": str(origin.segments or 1)} if origin else {}
    facts = [f"{name} {value}" for name, value in named.items() if value is not None]
    if details.max_retries is not None:
        facts.append(f"retries {details.retry_count} of {details.max_retries}")
    heading = f"Message {details.message_id} is {details.status}: {', '.join(facts)}"
    return _table(heading, ("when (UTC)", "what", "ticket", "code", "detail"), [_line(step) for step in steps])


def checks(findings: Sequence[Any]) -> Group:
    """The findings of the doctor: each with its level, and what to do below it."""
    lines = []
    for each in findings:
        lines.append(
            Text(f"{each.level:<8} ", LEVELS[each.level]) + Text(_printable(f"{each.check}: {each.fact}"), "default")
        )
        if each.to_do:
            lines.append(Text(_printable(f"{'':<9}{each.to_do}"), "dim"))
    return Group(*lines)


def counts(messages: dict[str, int]) -> Group:
    """The messages of a batch by status."""
    return _table("Batch", ("status", "messages"), [(status, f"{number:,}") for status, number in messages.items()])


def instant(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(" ", "seconds").removesuffix("+00:00")


@contextmanager
def progress(done: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on standard error, if that is a terminal; call it with the number done and the number of all."""
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn(done), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(done, total=None)
        yield lambda completed, total: bar.update(task, completed=completed, total=total)


def _figures(title: str, names: dict[str, str], figures: dict[str, Any]) -> Group:
    return _table(title, ("", ""), [(name, _figure(figures, figure)) for name, figure in names.items()])


def _figure(figures: dict[str, Any], name: str) -> str:
    value = figures[name]
    if value is None:
        return "-"
    if name.endswith("_rate"):
        return f"{value:.1%}"
    about = "about " if name == "pending" and figures["pending_is_estimate"] else ""
    least = "at least " if value >= COUNTED.get(name, value + 1) else ""
    return f"{about}{least}{value:,}"


def _line(step: StoryStep) -> tuple[str, ...]:
    return (instant(step.at), step.what, step.ticket or "", str(step.error_code or ""), step.detail or "")


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Group:
    # The first column names the row, so it is never cut.
    first, *others = columns
    table = Table(
        Column(first, no_wrap=True), *others, box=None, show_header=any(columns), header_style="dim", pad_edge=False
    )
    for row in rows:
        table.add_row(*(Text(_printable(value)) for value in row))
    return Group("", Text(_printable(title), "bold"), table)


def _printable(text: str) -> str:
    """A text without characters that a terminal obeys: an escape sequence could change its screen or its clipboard."""
    return "".join("\ufffd" if category(mark) in ("Cc", "Cf") and mark != "\n" else mark for mark in text)
