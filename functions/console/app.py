"""The console: what waits, what is stuck and why, and what a person can do about it, for a browser."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sms_retry import runtime
from sms_retry.console import pages

# An HTTP API waits for half a minute, and whoever looks at a page for less.
PATIENCE = timedelta(seconds=4)


@runtime.invocation
def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    return pages.answer(event, context, runtime.store(PATIENCE))
