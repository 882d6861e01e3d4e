"""AWS's list prices of us-east-1 on arm64, without free tiers, and lines of a bill with their arithmetic."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

HOURS = 730


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
QUEUE = Price("request of SQS", 0.40e-6, "https://aws.amazon.com/sqs/pricing/")
SHARD = Price("hour of a shard of Kinesis", 0.015, "https://aws.amazon.com/kinesis/data-streams/pricing/")
RECORD = Price("record of Kinesis, up to 25 KB", 0.014e-6, "https://aws.amazon.com/kinesis/data-streams/pricing/")
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
    QUEUE,
    SHARD,
    RECORD,
)


def line(item: str, number: tuple[float, str], price: Price, *factors: tuple[float, str]) -> Line:
    amount = price.dollars
    for value, _ in (number, *factors):
        amount *= value
    shown = (f"{value:,.10f}".rstrip("0").rstrip(".") + f" {unit}" for value, unit in (number, *factors))
    return Line(item, " × ".join([*shown, dollars(price.dollars)]), amount)


def total(lines: list[Line]) -> float:
    return sum(each.dollars for each in lines)


def dollars(value: float) -> str:
    return f"${value:.2f}" if round(value, 2) == value else f"${value:.10f}".rstrip("0")


def table(title: str, lines: list[Line], has_total: bool) -> Iterator[str]:
    yield f"| {title} | arithmetic | |"
    yield "|---|---|---|"
    yield from (f"| {each.item} | {each.arithmetic} | ${each.dollars:,.2f} |" for each in lines)
    if has_total:
        yield f"| | | **${total(lines):,.2f}** |"
