"""`make cost MESSAGES=1000000`: the bill of AWS for a month, from the numbers of the template and AWS's list prices.

Twilio's price is not in it.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deploy import callbacks
from deploy.prices import (
    ADDRESS,
    ALARM,
    AURORA,
    COMPUTE,
    DASHBOARD,
    HOURS,
    LOG,
    METRIC,
    NAT,
    PRICES,
    PROXY,
    REQUEST,
    SCHEDULE,
    SECRET,
    TRACE,
    Line,
    dollars,
    line,
    table,
)
from deploy.section import read_template

ROOT = Path(__file__).parents[1]
# Measured (docs/performance.md): seconds of a POST and of an idle run.
SEND, IDLE = 0.2, 0.05
# Gigabytes: the lines of one scheduled run.
LOG_OF_RUN = 3e-6
# The names of all metrics that the functions can send; each that was sent in an hour is paid for that hour.
METRICS = 52
# Of the database, of Twilio, and the key of the console's sessions.
SECRETS = 3
RATE = re.compile(r"rate\((\d+) (minute|hour|day)s?\)")
HOURS_OF = {"minute": 1 / 60, "hour": 1.0, "day": 24.0}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m deploy.cost")
    parser.add_argument("messages", type=int, nargs="?", default=1_000_000, help="messages a month")
    messages = parser.parse_args().messages
    print(tables(ROOT / "template.yaml", messages))
    print("", *callbacks.table(read_template(ROOT / "template.yaml"), messages), sep="\n")


def tables(template: Path, messages: int) -> str:
    """The bill for so many messages a month, as tables in Markdown."""
    parsed = read_template(template)
    sent, fixed, more = per_messages(parsed, messages), per_month(parsed), options(parsed, messages)
    prices = [f"| {each.unit} | {dollars(each.dollars)} | <{each.source}> |" for each in PRICES]
    return "\n".join(
        [
            *table(f"{messages:,} messages, each sent once from the queue", sent, has_total=True),
            "",
            *table("a month, for any number of messages", fixed, has_total=True),
            "",
            *table("a month, where it is used", more, has_total=False),
            "",
            *("| price of a | | source |", "|---|---|---|", *prices),
        ]
    )


def per_messages(template: Mapping[str, Any], messages: int) -> list[Line]:
    worker, at_once = "ProcessRetriesFunction", int(template["Parameters"]["SendConcurrency"]["Default"])
    idle = schedules(template)[worker] * lingering(template, worker)
    beyond = max(0.0, messages * SEND / at_once - idle)
    return [
        line("worker: sending, beyond its lingering", (beyond, "s"), COMPUTE, (memory(template, worker), "GB")),
        *callbacks.by_api(template, messages),
    ]


def per_month(template: Mapping[str, Any]) -> list[Line]:
    runs = {name: number for name, number in schedules(template).items() if not _is_optional(template, name)}
    total = sum(runs.values())
    watched = sum(map(_metrics_of, _of_type(template, "AWS::CloudWatch::Alarm").values()))
    dashboards = len(_of_type(template, "AWS::CloudWatch::Dashboard"))
    return [
        *(_scheduled(template, name, number) for name, number in runs.items()),
        line("schedules", (total, "runs"), SCHEDULE),
        line("schedules: requests of Lambda", (total, "runs"), REQUEST),
        line("schedules: logs", (total, "runs"), LOG, (LOG_OF_RUN, "GB")),
        line("metrics, at most", (METRICS, "metrics"), METRIC),
        line("alarms, with all options", (watched, "metrics"), ALARM),
        line("dashboard", (dashboards, "dashboard"), DASHBOARD),
        line("secrets", (SECRETS, "secrets"), SECRET),
    ]


def options(template: Mapping[str, Any], messages: int) -> list[Line]:
    """Lines that depend on the way of sending, and on the database."""
    sending = memory(template, "SendSmsFunction")
    database = template["Resources"]["DatabaseCluster"]["Properties"]["ServerlessV2ScalingConfiguration"]["MinCapacity"]
    runs = {name: number for name, number in schedules(template).items() if _is_optional(template, name)}
    return [
        *(_scheduled(template, name, number) for name, number in runs.items()),
        line("send_sms, invoked for each message", (messages, "messages"), COMPUTE, (SEND, "s"), (sending, "GB")),
        line("send_sms: requests of Lambda", (messages, "messages"), REQUEST),
        line("X-Ray, where the application traces each call of send_sms", (messages, "traces"), TRACE),
        line("CreateDatabase: Aurora, at least", (HOURS, "h"), AURORA, (database, "units")),
        line("CreateDatabase: RDS Proxy, at least", (HOURS, "h"), PROXY, (8, "units")),
        line("a VPC: NAT gateway, and $0.045 a GB", (HOURS, "h"), NAT),
        line("a VPC: its address", (HOURS, "h"), ADDRESS),
    ]


def memory(template: Mapping[str, Any], function: str) -> float:
    """Gigabytes."""
    default = template["Globals"]["Function"]["MemorySize"]
    return float(template["Resources"][function]["Properties"].get("MemorySize", default)) / 1024


def schedules(template: Mapping[str, Any]) -> dict[str, int]:
    """The runs a month of each function that has a schedule. A `cron` is one run a day."""
    found: dict[str, int] = {}
    for name, function in _of_type(template, "AWS::Serverless::Function").items():
        for event in function.get("Events", {}).values():
            if event["Type"] == "ScheduleV2":
                rate = RATE.fullmatch(event["Properties"]["ScheduleExpression"])
                found[name] = round(HOURS / (int(rate[1]) * HOURS_OF[rate[2]] if rate else 24))
    return found


def lingering(template: Mapping[str, Any], function: str) -> float:
    """The seconds of one scheduled run without messages, by the default of the template."""
    variables = template["Resources"][function]["Properties"].get("Environment", {}).get("Variables", {})
    if "LINGER_SECONDS" not in variables:
        return IDLE
    return max(IDLE, float(template["Parameters"]["LingerSeconds"]["Default"]))


def _scheduled(template: Mapping[str, Any], name: str, runs: int) -> Line:
    seconds = lingering(template, name)
    item = (
        f"{template['Resources'][name]['Properties']['CodeUri'].split('/')[1]}: {'lingers' if seconds > 1 else 'runs'}"
    )
    return line(item, (runs, "runs"), COMPUTE, (seconds, "s"), (memory(template, name), "GB"))


def _is_optional(template: Mapping[str, Any], function: str) -> bool:
    return "Condition" in template["Resources"][function]


def _of_type(template: Mapping[str, Any], kind: str) -> dict[str, dict[str, Any]]:
    return {name: its["Properties"] for name, its in template["Resources"].items() if its["Type"] == kind}


def _metrics_of(alarm: Mapping[str, Any]) -> int:
    """CloudWatch charges for each metric that an expression reads, and not for the expression."""
    if "Metrics" not in alarm:
        return 1
    chosen = (each["Fn::If"][1] if "Fn::If" in each else each for each in alarm["Metrics"])
    return sum("MetricStat" in each for each in chosen)


if __name__ == "__main__":
    main()
