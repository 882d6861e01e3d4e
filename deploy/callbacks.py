"""The price of the callbacks, and of the same receipts by other ways."""

from __future__ import annotations

import json
import math
import re
import textwrap
from collections.abc import Mapping
from typing import Any

from deploy.prices import (
    CALL,
    COMPUTE,
    HOURS,
    LOG,
    QUEUE,
    RECORD,
    REQUEST,
    SHARD,
    TRACE,
    Line,
    dollars,
    line,
    total,
)

# Twilio posts a receipt for queued or sent and delivered, and one for each step between them.
CALLBACKS = 3
# Measured (docs/performance.md): seconds of a callback.
CALLBACK = 0.02
GIGABYTE = 1e9

# A UUID is as long as each.
REQUEST_ID = "6d68ca91-49c9-448d-89b8-7ca3e6dc66aa"
AT = "2026-11-27T02:00:00.000Z"
# The lines that Lambda and the webhook write for one callback that settles a message. The fields of Lambda's lines:
# https://docs.aws.amazon.com/lambda/latest/dg/telemetry-schema-reference.html
OF_LAMBDA = (
    {"time": AT, "type": "platform.start", "record": {"requestId": REQUEST_ID, "version": "17"}},
    {
        "time": AT,
        "type": "platform.report",
        "record": {
            "requestId": REQUEST_ID,
            "metrics": {"durationMs": 19.274, "billedDurationMs": 20, "memorySizeMB": 256, "maxMemoryUsedMB": 104},
            "status": "success",
        },
    },
)
OF_WEBHOOK = (
    {
        "_aws": {
            "Timestamp": 1795744800000,
            "CloudWatchMetrics": [
                {
                    "Namespace": "SmsRetry",
                    "Dimensions": [["service"]],
                    "Metrics": [{"Name": "SettledCallbacks", "Unit": "Count"}],
                }
            ],
        },
        "service": "sms-retry",
        "SettledCallbacks": [1.0],
    },
)
# The values in a line of the API's access log.
IN_ACCESS_LOG = {
    "requestId": "JKJaXmPLvHcESHA=",
    "requestTime": "27/Nov/2026:02:00:00 +0000",
    "identity.sourceIp": "54.172.60.123",
    "routeKey": "POST /twilio/status",
    "status": "204",
    "responseLatency": "24",
    "integrationErrorMessage": "-",
}

# One event of Event Streams: https://www.twilio.com/docs/events/event-types/messaging/outbound-message
EVENT = {
    "specversion": "1.0",
    "type": "com.twilio.messaging.message.delivered",
    "source": "AB" + 32 * "0",
    "id": "EZ" + 32 * "0",
    "dataschema": "https://events-schemas.twilio.com/Messaging.MessageStatus/7",
    "datacontenttype": "application/json",
    "time": AT,
    "data": {
        "messageSid": "SM" + 32 * "0",
        "timestamp": AT,
        "accountSid": "AC" + 32 * "0",
        "eventName": "com.twilio.messaging.message.delivered",
        "apiVersion": "2010-04-01",
        "from": "+15005550006",
        "to": "+14155550123",
        "messageStatus": "DELIVERED",
        "body": "Your table is ready.",
        "mnc": "090",
        "mcc": "310",
        "numberOfSegments": 1,
        "dateUpdated": AT,
    },
}
# Twilio's limits for a batch that it posts to a webhook (bytes), and AWS's for one that a function gets, by default.
LARGEST_BATCH = 64 * 1024
OF_QUEUE, OF_STREAM = 10, 100
# The price of Event Streams on an earlier page of Twilio: dollars for an event beyond the first so many of a month.
EVENT_THEN, FREE_THEN = 0.04 / 1000, 100_000
SECONDS = HOURS * 3600


def by_api(template: Mapping[str, Any], messages: int, of_lambda: bool = True) -> list[Line]:
    """The callbacks through the HTTP API; without `of_lambda`, with WebhookSystemLogs=WARN."""
    calls = messages * CALLBACKS
    api = line("callbacks: requests of the API", (calls, "requests"), CALL)
    return [api, *_webhook(template, calls, logged(template, by_api=True, of_lambda=of_lambda))]


def by_function_url(template: Mapping[str, Any], messages: int, of_lambda: bool = True) -> list[Line]:
    """The callbacks through the function URL, which costs nothing itself and has no access log."""
    return _webhook(template, messages * CALLBACKS, logged(template, by_api=False, of_lambda=of_lambda))


def in_batches(messages: int) -> int:
    """Requests of Event Streams to a webhook, if each batch is full."""
    return math.ceil(messages * CALLBACKS / (LARGEST_BATCH // _bytes(EVENT)))


def ways(template: Mapping[str, Any], messages: int) -> dict[str, list[Line]]:
    """The lines of each way. Batches are full and take no longer than one callback: no design can be cheaper."""
    calls, size = messages * CALLBACKS, _memory(template)
    traced = line("traces", (round(_traces(calls)), "traces"), TRACE)
    small = line("webhook", (calls, "callbacks"), COMPUTE, (CALLBACK, "s"), (size / 2, "GB"))
    queued = line("queue", (calls * (1 + 2 / OF_QUEUE), "requests"), QUEUE)
    posted = line("API", (in_batches(messages), "requests"), CALL)
    shard, records = line("shard", (HOURS, "h"), SHARD), line("records", (calls, "records"), RECORD)
    api, access = by_api(template, messages)[0], logged(template, by_api=True, of_lambda=False)
    url = by_function_url(template, messages, of_lambda=False)
    ours = logged(template, by_api=False, of_lambda=False)
    return {
        "HTTP API: the default": by_api(template, messages),
        "the same, where the functions begin traces": [*by_api(template, messages), traced],
        "the same, with `WebhookSystemLogs=WARN`": by_api(template, messages, of_lambda=False),
        "function URL: `WebhookFunctionUrl=true`": by_function_url(template, messages),
        "**the same, with `WebhookSystemLogs=WARN`**": url,
        "the same with half the memory, if it takes no longer": [url[0], small, url[2]],
        "HTTP API to SQS, in batches of 10": [api, queued, *_webhook(template, calls // OF_QUEUE, access)],
        "Event Streams to the HTTP API, in full batches": [posted, *_webhook(template, in_batches(messages), access)],
        "Event Streams to Kinesis": [shard, records, *_webhook(template, calls // OF_STREAM, ours)],
    }


def table(template: Mapping[str, Any], messages: int) -> list[str]:
    """A row for each way, with the sum of its lines."""
    rows = [
        f"| {way} | {' + '.join(each.arithmetic for each in lines)} | ${total(lines):,.2f} |"
        for way, lines in ways(template, messages).items()
    ]
    return [f"| the receipts of {messages:,} messages by | arithmetic | |", "|---|---|---|", *rows]


def pays_from(template: Mapping[str, Any]) -> int:
    """The messages a month, to a thousand, from which Kinesis costs less than the cheapest way that is built."""
    shard, *others = ways(template, OF_STREAM)["Event Streams to Kinesis"]
    by_url = total(by_function_url(template, OF_STREAM, of_lambda=False))
    return round(shard.dollars / ((by_url - total(others)) / OF_STREAM) / 1000) * 1000


def verdict(template: Mapping[str, Any], messages: int) -> list[str]:
    """The ways that are built, and the reasons against the others, with their figures."""
    cost = {way.strip("*"): total(lines) for way, lines in ways(template, messages).items()}
    built = total(by_function_url(template, messages, of_lambda=False))
    batches = cost["Event Streams to the HTTP API, in full batches"]
    once = dollars(round((messages * CALLBACKS - FREE_THEN) * EVENT_THEN, 2))
    kinesis = pays_from(template)
    halved = cost["the same with half the memory, if it takes no longer"]
    bullets = (
        f"**Built, and off by default:** a function URL without Lambda's own lines costs ${built:.2f} in place of "
        f"${cost['HTTP API: the default']:.2f}. Each receipt keeps its ticket and its signature. "
        "[Deploying](deploying.md#callbacks-for-less) says how to switch, and names the limits.",
        f"**Half the memory** saves at most ${built - halved:.2f}, and only if the webhook needs no longer with half "
        "of the processor.",
        f"**SQS behind the HTTP API** costs ${cost['HTTP API to SQS, in batches of 10']:.2f}, because the API still "
        "takes each callback. A queue cannot answer 403 to a forged one.",
        f"**Event Streams in batches** saves at most ${built - batches:.2f} more, and is not built. An event has the "
        "SID of a message. It has our ticket only in `statusCallBackUrl`, and then Twilio posts the callback too. If "
        "the answer to a POST is lost, we have no SID, and no receipt without a ticket could settle the message: "
        "Twilio's list alone would decide about a second send. Twilio's current pages describe neither batches nor "
        "their waiting time. An event can come four hours late, and those of other applications come too. An earlier "
        f"page has a price, {once} for these receipts; a later one says that it is free.",
        f"**Event Streams to Kinesis** needs a shard for ${SHARD.dollars * HOURS:.2f} a month. It is cheaper than the "
        f"function URL from about {kinesis:,} messages a month on, and loses the ticket too.",
    )
    return [wrapped for each in bullets for wrapped in textwrap.wrap(f"- {each}", 110, subsequent_indent="  ")]


def logged(template: Mapping[str, Any], by_api: bool, of_lambda: bool) -> float:
    """The gigabytes of log of one callback."""
    lines = [*map(_bytes, OF_WEBHOOK), *(map(_bytes, OF_LAMBDA) if of_lambda else ())]
    number: int = sum(lines) + (len(access_line(template)) if by_api else 0)
    return number / GIGABYTE


def access_line(template: Mapping[str, Any]) -> str:
    """A line of the API's access log."""
    form: str = template["Resources"]["CallbacksApi"]["Properties"]["AccessLogSettings"]["Format"]
    return re.sub(r"\$context\.([\w.]+)", lambda found: IN_ACCESS_LOG[found[1]], form)


def _webhook(template: Mapping[str, Any], calls: int, log: float) -> list[Line]:
    return [
        line("callbacks: requests of the webhook", (calls, "requests"), REQUEST),
        line("callbacks: the webhook", (calls, "callbacks"), COMPUTE, (CALLBACK, "s"), (_memory(template), "GB")),
        line("callbacks: logs", (calls, "callbacks"), LOG, (log, "GB")),
    ]


def _memory(template: Mapping[str, Any]) -> float:
    default = template["Globals"]["Function"]["MemorySize"]
    return float(template["Resources"]["TwilioWebhookFunction"]["Properties"].get("MemorySize", default)) / 1024


def _traces(calls: int) -> float:
    """X-Ray's default rule: the first request of each second, and 5 % of the others. They come at random."""
    first = SECONDS * (1 - math.exp(-calls / SECONDS))
    return first + 0.05 * (calls - first)


def _bytes(value: object) -> int:
    return len(json.dumps(value, separators=(",", ":")))
