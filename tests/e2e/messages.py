"""The messages of the e2e tests: their events, and their states."""

from __future__ import annotations

from collections import Counter
from typing import Any

from local.stack import ENVIRONMENT, Stack
from local.twilio.callbacks import Answer, post_callback

PEOPLE, BODY = "+49176", "Your parcel is here."
PRIVATE = (PEOPLE, BODY, ENVIRONMENT["TWILIO_AUTH_TOKEN"])


def private_lines(logged: str) -> list[str]:
    """The lines with a phone number, a text or the auth token."""
    return [line for line in logged.splitlines() if any(private in line for private in PRIVATE)]


def number(n: int) -> str:
    return f"{PEOPLE}{n:08}"


def message(n: int = 0, **fields: Any) -> dict[str, Any]:
    """An event of send_sms that may be sent at any hour."""
    return {"to": number(n), "body": BODY, "kind": "otp", **fields}


def queue(stack: Stack, n: int = 0) -> int:
    """Queue a message in SQL, as an application does; gives its id."""
    row = stack.db.execute("select sms_retry.queue_sms_retry(%s, %s, kind => 'otp')", [number(n), BODY]).fetchone()
    assert row is not None
    return int(row[0])


def statuses(stack: Stack) -> Counter[str]:
    return Counter(status for (status,) in stack.db.execute("select status from sms_retry.sms_messages"))


def posts_to(stack: Stack, n: int) -> int:
    return sum(post.to == number(n) for post in stack.twilio.posts())


def call_back(stack: Stack, path: str, params: dict[str, str], token: str | None = None) -> tuple[Answer, ...]:
    """The answers of the webhook to a callback signed with `token` (default: the token of the account)."""
    url = ENVIRONMENT["PUBLIC_WEBHOOK_URL"] + path
    return post_callback(url, params, token or stack.twilio.auth_token, stack.twilio.route)
