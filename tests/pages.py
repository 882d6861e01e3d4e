"""The pages and sections of docs/ that are made from data: `make docs` writes them, and a test holds them to the data.

docs/costs.md, docs/errors.md and docs/hours.md are made as a whole. docs/how-it-works.md is written by hand, except
between markers.
"""

from __future__ import annotations

import calendar
import re
from collections import defaultdict
from datetime import timedelta
from pathlib import Path

from deploy import callbacks, cost
from deploy.section import read_template
from sms_retry import attempt, codes, holidays, hours, twilio, worker
from tests.transitions import MAY, STEPS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
HOW_IT_WORKS = "how-it-works.md"

VERDICTS = {
    "retry": "try again",
    "final": "final",
    "opt_out": "final; the person is opted out",
    "hold": "set a hold",
    "unknown": "ask Twilio",
}
OBSERVED = {
    "open": "as the day",
    "closed": "closed",
    "closed sun>mon": "closed; a Sunday's also on Monday",
    "closed sat>mon sun>mon": "closed; a weekend's also on Monday",
    "closed sat>fri sun>mon": "closed; a Saturday's also on Friday, a Sunday's also on Monday",
}
WEEKDAYS = dict(zip(holidays.WEEKDAYS, calendar.day_name, strict=True))
ORDINALS = {"1": "first", "2": "second", "3": "third", "4": "fourth", "5": "fifth", "last": "last"}
STATUSES = ("new", "pending", "processing", "unknown", "completed", "failed", "cancelled", "expired", "gone")


def pages() -> dict[str, str]:
    """Each generated page's text, by its file name."""
    how_it_works = (DOCS / HOW_IT_WORKS).read_text()
    for section, text in {"transitions": transitions(), "times": times()}.items():
        how_it_works = between(how_it_works, section, text)
    return {"costs.md": costs(), "errors.md": errors(), "hours.md": sending_hours(), HOW_IT_WORKS: how_it_works}


def costs() -> str:
    template, messages = read_template(ROOT / "template.yaml"), 1_000_000
    return "\n".join(
        [
            "# Costs",
            "",
            "`make docs` writes this page from `template.yaml`. `make cost MESSAGES=50000` prints it for another",
            "number of messages. The prices are the list prices of us-east-1 on arm64, without free tiers: look up",
            "those of your region. Twilio's own price is not in it: about $8,300 for a million messages within the",
            "US, before the fees of carriers.",
            "",
            cost.tables(ROOT / "template.yaml", messages),
            "",
            "- A worker lingers for `LingerSeconds` of each minute, so that a message leaves within about a second.",
            "  With `LingerSeconds=0` the worker costs a few cents, and a message waits for the next minute.",
            "- The functions begin no trace. X-Ray's default rule records the first request of each second and then",
            "  5 % of the others. A trace that an application begins goes on in `send_sms`.",
            "- A dead letter of `send_sms` costs one custom event, $1.00 a million.",
            "",
            "## The callbacks",
            "",
            *callbacks.table(template, messages),
            "",
            "The batches in this table are full, and take no longer than one callback. No design can be cheaper.",
            "",
            *callbacks.verdict(template, messages),
            "",
        ]
    )


def errors() -> str:
    rows = [f"| {rule.code} | {VERDICTS[rule.verdict]} | {_when(rule)} | {rule.reason} |" for rule in by_code()]
    return "\n".join(
        [
            "# Error codes",
            "",
            "`make docs` writes this page from `sms_retry/error_policy.csv`. The codes are Twilio's; the verdicts and",
            "reasons are ours.",
            "",
            "- *try again*: the message waits and is sent again. The waits are minimums. A random extra is added: up",
            "  to half of the wait, or up to 90 seconds where that is longer. Each try spends a retry unless the table",
            "  says otherwise.",
            "- *final*: the message has failed. A code that is not in the table is final too, and is counted in",
            "  `UnlistedMessages`. After some codes the person is opted out as well. An answer without a code of",
            "  Twilio is not final: it spends no retry.",
            "- *set a hold*: every message would fail in the same way, so nothing is sent in that scope for the given",
            "  time. Then one message probes the hold. The message itself waits and spends no retry, unless the table",
            "  names its waits: then it may be the cause. A *country* of +1 is one area code, such as +1415; a",
            "  *calling code* is all of +1, or, if the message had a sender of +1 that is not the deployment's, this",
            "  sender. A hold that a receipt set is cleared only by a receipt of its probe.",
            "- *ask Twilio*: the message may have been sent, so it is unknown until Twilio answers.",
            "",
            "To change a verdict for good, change the line of the code in `error_policy.csv`. To change it without a",
            "deploy, insert a row into `sms_retry.sms_error_overrides`, which has the same columns.",
            "",
            "| code | verdict | waits | reason, and the action to take |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )


def sending_hours() -> str:
    rules = hours.hours_rules()
    rows = [
        f"| {rule.region} | {rule.kind} | {_hours(rule.weekdays)} | {_hours(rule.saturdays)} | {_hours(rule.sundays)}"
        f" | {OBSERVED[rule.holidays]} | {rule.source} |"
        for rule in rules
    ]
    days = [
        f"| {holiday.region} | {_holiday(holiday.day)} | {holiday.name} | {holiday.source} |"
        for holiday in holidays.all_holidays()
    ]
    countries = sorted({rule.region for rule in rules if len(rule.region) == 2})
    states = sorted(rule.region.removeprefix("US-") for rule in rules if rule.region.startswith("US-"))
    return "\n".join(
        [
            "# Sending hours",
            "",
            "`make docs` writes this page from `sms_retry/sending_hours.csv` and `sms_retry/holidays.csv`. All times",
            "are in the recipient's time zone.",
            "",
            "A message is sent only when every line that applies to it is open in every time zone in which the",
            "recipient may be. `otp` and `emergency` messages ignore the hours.",
            "",
            "- **Region.** The calling code gives the country, and below +1 the area code gives the state. The lines",
            "  of `*`, of the country and of the state apply together, so a country's line can only narrow the lines",
            "  of `*`. A US number of no known state, such as a toll-free number, keeps the hours of all states. The",
            "  `region` of the person in `sms_recipients`, such as `US-FL`, precedes that of the number.",
            "- **Time zone.** The zone is the message's `time_zone`, or else the recipient's, or else every zone that",
            "  the number allows. Where libphonenumber does not know the exchange, these are all zones of the area",
            "  code. A number of no known area code below +1 has the zones of the contiguous United States.",
            "- **Expiry.** `send_sms` refuses a message whose hours do not open before `expires_at`. SQL cannot",
            "  compute hours: a message that it took in ends as expired at its claim, with the reason",
            "  `no_sending_hours`.",
            "",
            "## Which countries have the default",
            "",
            f"Only these countries have lines of their own: {', '.join(countries)}, and the US by state. **Every other",
            "country has the default, the lines of `*`**, because no source for it was looked up. Of the US, only",
            f"these states have lines: {', '.join(states)}.",
            "",
            "The sources are mostly third parties, not the laws themselves. Where they differ, the more restrictive",
            "hours are used, unless the line says otherwise. Have a lawyer check the regions that matter to you.",
            "",
            "To change a line for good, change `sending_hours.csv`. To change or add a line without a deploy, insert a",
            "row into `sms_retry.sms_hours_overrides`, which has the same columns. It replaces the line of its region",
            "and kind at the next run. The column `holidays` has `open`, `closed`, `closed sun>mon`,",
            "`closed sat>mon sun>mon` or `closed sat>fri sun>mon`. It closes the days of the table of holidays, so it",
            "has no effect in a region without holidays there.",
            "",
            "## Lines",
            "",
            "| region | kind | weekdays | saturdays | sundays | holidays | source |",
            "|---|---|---|---|---|---|---|",
            *rows,
            "",
            "## Holidays",
            "",
            "A state has the holidays of its country and its own.",
            "",
            "| region | day | holiday | source |",
            "|---|---|---|---|",
            *days,
            "",
        ]
    )


def transitions() -> str:
    """Every change of a queue row's status, with the steps that may make it."""
    by_change: dict[tuple[str, str], list[str]] = defaultdict(list)
    for step in STEPS:
        for change in MAY[step].split():
            was, _, becomes = change.partition(">")
            by_change[was, becomes].append(step)
    changes = sorted(by_change, key=lambda change: tuple(map(STATUSES.index, change)))
    return "\n".join(
        [
            "| from | to | steps |",
            "|---|---|---|",
            *(f"| {was} | {becomes} | {_words(by_change[was, becomes])} |" for was, becomes in changes),
            "",
            "| step | meaning |",
            "|---|---|",
            *(f"| {_words([step])} | {meaning} |" for step, meaning in STEPS.items()),
        ]
    )


def ladder() -> list[tuple[timedelta, str, str]]:
    """The times that depend on each other, shortest first: the time, its meaning, and the place that defines it."""
    return [
        (
            timedelta(seconds=twilio.CONNECT_TIMEOUT + twilio.READ_TIMEOUT),
            "Connecting to Twilio and waiting for its answer take at most this long.",
            "`CONNECT_TIMEOUT` and `READ_TIMEOUT` in `twilio.py`",
        ),
        (
            timedelta(seconds=attempt.SLOWEST_SEND),
            "A worker starts a POST only when its invocation has this much time left.",
            "`SLOWEST_SEND` in `attempt.py`",
        ),
        (
            timedelta(seconds=worker.CLAIMING),
            "A worker claims rows for this long. Then the next tick starts, and this worker only finishes its claims.",
            "`CLAIMING` in `worker.py`",
        ),
        (
            timedelta(seconds=attempt.OLDEST_CLAIM),
            "The lease check: a worker gives a row back, instead of sending it, when its claim is older.",
            "`OLDEST_CLAIM` in `attempt.py`",
        ),
        (
            timedelta(seconds=_timeout("functions/process_retries/")),
            "Lambda ends the worker.",
            "`Timeout` of `ProcessRetriesFunction` in `template.yaml`",
        ),
        (
            timedelta(minutes=_stated(_sql("recover_stuck_sms_retries"), r"stale_minutes int default (\d+)")),
            "A claim is stuck: its worker must be dead, and recovery makes the row unknown.",
            "`recover_stuck_sms_retries`",
        ),
        (
            timedelta(minutes=_stated(_sql("sms_unknown_has_waited"), r"interval '(\d+) minutes'")),
            "An unknown message that Twilio does not know is sent again.",
            "`sms_unknown_has_waited`",
        ),
        (
            timedelta(hours=_stated(_sql("decide_unknown_sms"), r"interval '(\d+) hours'")),
            "A parked message is asked about for this long. Then only a person can send it again.",
            "`decide_unknown_sms`",
        ),
    ]


def times() -> str:
    rows = [f"| {_time(time)} | {meaning} | {place} |" for time, meaning, place in ladder()]
    return "\n".join(["| time | meaning | defined by |", "|---|---|---|", *rows])


def by_code() -> list[codes.CodeRule]:
    return sorted(codes.code_rules().values(), key=lambda rule: rule.code)


def _words(steps: list[str]) -> str:
    return ", ".join(step.replace("_", " ") for step in steps)


def _when(rule: codes.CodeRule) -> str:
    scope = rule.scope.replace("_", " ")
    match rule:
        case codes.CodeRule(verdict="hold", strategy="midnight_pacific"):
            return f"{scope}, until midnight Pacific"
        case codes.CodeRule(verdict="hold", spends=True):
            return f"{scope}, {_time(rule.base)}; the message itself: {', '.join(map(_time, rule.waits))}"
        case codes.CodeRule(verdict="hold"):
            return f"{scope}, {_time(rule.base)}"
        case codes.CodeRule(verdict="retry"):
            waits = ", ".join(map(_time, rule.waits))
            return waits if rule.spends else f"{_time(rule.base)}, longer each time; spends no retry"
        case _:
            return ""


def _time(wait: timedelta) -> str:
    seconds = int(wait.total_seconds())
    for length, unit in ((3600, "h"), (60, "min")):
        if seconds >= length and seconds % length == 0:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


def _hours(hours: hours.Hours) -> str:
    return f"{hours[0]:%H:%M}-{hours[1]:%H:%M}" if hours else "closed"


def _holiday(spelled: str) -> str:
    """The day of a holiday in words."""
    found = holidays.SPELLING.fullmatch(spelled)
    if not found:
        raise ValueError(f"{spelled} is not the spelling of a day")
    month = calendar.month_name[int(found["month"])] if found["month"] else ""
    day = f"{int(found['day'])} {month}" if found["day"] else "Easter Sunday"
    if found["weekday"]:
        day = f"{ORDINALS[found['nth']]} {WEEKDAYS[found['weekday']]} of {month}"
    if found["monday"]:
        return f"Monday of the week of {day}; of a weekend the next Monday"
    days = int(found["later"] or 0)
    unit = "day" if abs(days) == 1 else "days"
    return f"{abs(days)} {unit} {'after' if days > 0 else 'before'} {day}" if days else day


def between(page: str, section: str, text: str) -> str:
    """The page with `text` between the section's markers."""
    begin, end = f"<!-- {section} -->\n", f"<!-- /{section} -->"
    before, _, rest = page.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise ValueError(f"the page has no {begin.strip()} ... {end}")
    return f"{before}{begin}{text}\n{end}{after}"


def _sql(function: str) -> str:
    return next((ROOT / "sql" / "functions").rglob(f"{function}.sql")).read_text()


def _timeout(folder: str) -> int:
    functions = read_template(ROOT / "template.yaml")["Resources"].values()
    return next(int(f["Properties"]["Timeout"]) for f in functions if f["Properties"].get("CodeUri") == folder)


def _stated(text: str, pattern: str) -> int:
    """The number that a file states in its text."""
    found = re.search(pattern, text)
    if not found:
        raise ValueError(f"nothing in the file looks like {pattern}")
    return int(found[1])


if __name__ == "__main__":
    for name, text in pages().items():
        (DOCS / name).write_text(text)
