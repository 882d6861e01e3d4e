"""The pages of docs/ that are made from data: `make docs` writes them, and a test holds them to the data."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from sms_retry import codes, hours

DOCS = Path(__file__).parents[1] / "docs"

VERDICTS = {
    "retry": "try again",
    "final": "never again",
    "opt_out": "never again, and nothing else to this person",
    "hold": "hold everything there, then probe",
    "unknown": "ask Twilio first",
}


def pages() -> dict[str, str]:
    """Each generated page's text, by its file name."""
    return {"errors.md": errors(), "hours.md": sending_hours()}


def errors() -> str:
    rows = [f"| {rule.code} | {VERDICTS[rule.verdict]} | {_when(rule)} | {rule.reason} |" for rule in by_code()]
    return "\n".join(
        [
            "# What each code means to us",
            "",
            "Made by `make docs` from `sms_retry/error_policy.csv`. Codes are Twilio's, verdicts and reasons are",
            "ours. A code that is not here is final, and counted. A wait is the least: up to half of it, or 90",
            "seconds where that is more, is added by lot. To decide otherwise without a deploy, write a line into",
            "`sms_retry.sms_error_overrides`, whose columns are those of the file.",
            "",
            "| code | verdict | when | why |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )


def sending_hours() -> str:
    rows = [
        f"| {rule.region} | {rule.kind} | {_hours(rule.weekdays)} | {_hours(rule.saturdays)} | {_hours(rule.sundays)}"
        f" | {'closed' if rule.closed_on_holidays else 'as the day'} |"
        for rule in hours.hours_rules()
    ]
    return "\n".join(
        [
            "# When people may be texted",
            "",
            "Made by `make docs` from `sms_retry/sending_hours.csv`, in the recipient's own time. Every line that",
            "applies must be open, in every zone in which the recipient may be: the message's zone, else the",
            "recipient's, else all that the number allows. `otp` and `emergency` ignore hours. The lines of the states",
            "of the US are what third parties say of their laws, the most restrictive where they differ: have yours",
            "checked. A number of no known state keeps the hours of all.",
            "",
            "| region | kind | weekdays | saturdays | sundays | federal holidays |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
        ]
    )


def by_code() -> list[codes.CodeRule]:
    return sorted(codes.code_rules().values(), key=lambda rule: rule.code)


def _when(rule: codes.CodeRule) -> str:
    match rule:
        case codes.CodeRule(verdict="hold", strategy="midnight_pacific"):
            return f"{rule.scope}, until midnight Pacific"
        case codes.CodeRule(verdict="hold"):
            return f"{rule.scope}, {_time(rule.base)}"
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


if __name__ == "__main__":
    for name, text in pages().items():
        (DOCS / name).write_text(text)
