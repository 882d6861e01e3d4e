"""The console in the browser: shows queue rows and holds, and acts on them for an operator."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

from sms_retry import runtime, settings
from sms_retry.console import pages, sign_in

# An HTTP API waits for 30 seconds, and a reader of a page for less.
PATIENCE = timedelta(seconds=4)


@runtime.invocation
def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    given = settings.signing_in(os.environ, event.get("stageVariables"))
    access = sign_in.access(given, runtime.secret, event["requestContext"]["domainName"])
    return pages.answer(event, context, runtime.store(PATIENCE), access)
