"""`make cost MESSAGES=1000000`: the bill of AWS for a month, from the numbers of the template and AWS's list prices.

The prices are those of us-east-1 on arm64, without free tiers. Twilio's price is not in it.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samcli.yamlhelper import yaml_parse

ROOT = Path(__file__).parents[1]
HOURS = 730
# Measured (docs/performance.md) or fixed by Twilio: seconds of a POST, of a callback and of an idle run; Twilio posts a
# receipt for queued or sent and delivered, and one for each step between them.
SEND, CALLBACK, IDLE = 0.2, 0.02, 0.05
CALLBACKS = 3
# Gigabytes: the lines of webhook and API for one callback, and those of one scheduled run.
LOG_OF_CALLBACK, LOG_OF_RUN = 1e-6, 3e-6
# The names of all metrics that the functions can send; each that was sent in an hour is paid for that hour.
METRICS = 52
# Of the database, of Twilio, and the key of the console's sessions.
SECRETS = 3
RATE = re.compile(r"rate\((\d+) (minute|hour|day)s?\)")
HOURS_OF = {"minute": 1 / 60, "hour": 1.0, "day": 24.0}


@dataclass(frozen=True)
class Price:
    """`dollars` for one `unit`, as `source` lists it."""

    unit: str
    dollars: float
    source: str


@dataclass(frozen=True)
class Line:
    """One line of the bill: its arithmetic, and the dollars a month."""

    item: str
    arithmetic: str
    dollars: float


COMPUTE = Price("GB-second of Lambda", 0.0000133334, "https://aws.amazon.com/lambda/pricing/")
REQUEST = Price("request of Lambda", 0.20e-6, "https://aws.amazon.com/lambda/pricing/")
CALL = Price("request of an HTTP API", 1.00e-6, "https://aws.amazon.com/api-gateway/pricing/")
SCHEDULE = Price("invocation by EventBridge Scheduler", 1.00e-6, "https://aws.amazon.com/eventbridge/pricing/")
LOG = Price("GB of logs", 0.50, "https://aws.amazon.com/cloudwatch/pricing/")
METRIC = Price("metric", 0.30, "https://aws.amazon.com/cloudwatch/pricing/")
ALARM = Price("metric of an alarm", 0.10, "https://aws.amazon.com/cloudwatch/pricing/")
DASHBOARD = Price("dashboard", 3.00, "https://aws.amazon.com/cloudwatch/pricing/")
SECRET = Price("secret", 0.40, "https://aws.amazon.com/secrets-manager/pricing/")
TRACE = Price("trace of X-Ray", 5.00e-6, "https://aws.amazon.com/xray/pricing/")
AURORA = Price("hour of a capacity unit of Aurora", 0.12, "https://aws.amazon.com/rds/aurora/pricing/")
PROXY = Price("hour of a capacity unit of RDS Proxy", 0.015, "https://aws.amazon.com/rds/proxy/pricing/")
NAT = Price("hour of a NAT gateway", 0.045, "https://aws.amazon.com/vpc/pricing/")
ADDRESS = Price("hour of its IPv4 address", 0.005, "https://aws.amazon.com/vpc/pricing/")
PRICES = (
    COMPUTE,
    REQUEST,
    CALL,
    SCHEDULE,
    LOG,
    METRIC,
    ALARM,
    DASHBOARD,
    SECRET,
    TRACE,
    AURORA,
    PROXY,
    NAT,
    ADDRESS,
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m deploy.cost")
    parser.add_argument("messages", type=int, nargs="?", default=1_000_000, help="messages a month")
    print(tables(ROOT / "template.yaml", parser.parse_args().messages))


def tables(template: Path, messages: int) -> str:
    """The bill for so many messages a month, as tables in Markdown."""
    parsed: dict[str, Any] = yaml_parse(template.read_text())
    sent, fixed, more = per_messages(parsed, messages), per_month(parsed), options(parsed, messages)
    prices = [f"| {each.unit} | {_dollars(each.dollars)} | <{each.source}> |" for each in PRICES]
    return "\n".join(
        [
            *_table(f"{messages:,} messages, each sent once from the queue", sent, total=True),
            "",
            *_table("a month, for any number of messages", fixed, total=True),
            "",
            *_table("a month, where it is used", more, total=False),
            "",
            *("| price of a | | source |", "|---|---|---|", *prices),
        ]
    )


def per_messages(template: Mapping[str, Any], messages: int) -> list[Line]:
    calls, webhook = messages * CALLBACKS, memory(template, "TwilioWebhookFunction")
    worker, at_once = "ProcessRetriesFunction", int(template["Parameters"]["SendConcurrency"]["Default"])
    idle = schedules(template)[worker] * lingering(template, worker)
    beyond = max(0.0, messages * SEND / at_once - idle)
    return [
        _line("worker: sending, beyond its lingering", (beyond, "s"), COMPUTE, (memory(template, worker), "GB")),
        _line("callbacks: requests of the API", (calls, "requests"), CALL),
        _line("callbacks: requests of the webhook", (calls, "requests"), REQUEST),
        _line("callbacks: the webhook", (calls, "callbacks"), COMPUTE, (CALLBACK, "s"), (webhook, "GB")),
        _line("callbacks: logs", (calls, "callbacks"), LOG, (LOG_OF_CALLBACK, "GB")),
    ]


def per_month(template: Mapping[str, Any]) -> list[Line]:
    runs = {name: number for name, number in schedules(template).items() if not _is_optional(template, name)}
    total = sum(runs.values())
    watched = sum(map(_metrics_of, _of_type(template, "AWS::CloudWatch::Alarm").values()))
    dashboards = len(_of_type(template, "AWS::CloudWatch::Dashboard"))
    return [
        *(_scheduled(template, name, number) for name, number in runs.items()),
        _line("schedules", (total, "runs"), SCHEDULE),
        _line("schedules: requests of Lambda", (total, "runs"), REQUEST),
        _line("schedules: logs", (total, "runs"), LOG, (LOG_OF_RUN, "GB")),
        _line("metrics, at most", (METRICS, "metrics"), METRIC),
        _line("alarms, with the console", (watched, "metrics"), ALARM),
        _line("dashboard", (dashboards, "dashboard"), DASHBOARD),
        _line("secrets", (SECRETS, "secrets"), SECRET),
    ]


def options(template: Mapping[str, Any], messages: int) -> list[Line]:
    """Lines that depend on the way of sending, and on the database."""
    sending = memory(template, "SendSmsFunction")
    database = template["Resources"]["DatabaseCluster"]["Properties"]["ServerlessV2ScalingConfiguration"]["MinCapacity"]
    runs = {name: number for name, number in schedules(template).items() if _is_optional(template, name)}
    return [
        *(_scheduled(template, name, number) for name, number in runs.items()),
        _line("send_sms, invoked for each message", (messages, "messages"), COMPUTE, (SEND, "s"), (sending, "GB")),
        _line("send_sms: requests of Lambda", (messages, "messages"), REQUEST),
        _line("X-Ray, where the application traces each call of send_sms", (messages, "traces"), TRACE),
        _line("CreateDatabase: Aurora, at least", (HOURS, "h"), AURORA, (database, "units")),
        _line("CreateDatabase: RDS Proxy, at least", (HOURS, "h"), PROXY, (8, "units")),
        _line("a VPC: NAT gateway, and $0.045 a GB", (HOURS, "h"), NAT),
        _line("a VPC: its address", (HOURS, "h"), ADDRESS),
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
    return _line(item, (runs, "runs"), COMPUTE, (seconds, "s"), (memory(template, name), "GB"))


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


def _line(item: str, number: tuple[float, str], price: Price, *factors: tuple[float, str]) -> Line:
    amount = price.dollars
    for value, _ in (number, *factors):
        amount *= value
    shown = (f"{value:,.10f}".rstrip("0").rstrip(".") + f" {unit}" for value, unit in (number, *factors))
    return Line(item, " × ".join([*shown, _dollars(price.dollars)]), amount)


def _dollars(value: float) -> str:
    return f"${value:.2f}" if round(value, 2) == value else f"${value:.10f}".rstrip("0")


def _table(title: str, lines: list[Line], total: bool) -> Iterator[str]:
    yield f"| {title} | arithmetic | |"
    yield "|---|---|---|"
    yield from (f"| {each.item} | {each.arithmetic} | ${each.dollars:,.2f} |" for each in lines)
    if total:
        yield f"| | | **${sum(each.dollars for each in lines):,.2f}** |"


if __name__ == "__main__":
    main()
