"""Calls entries by the Python client: reads a list of `[entry, arguments]` in JSON, and prints the results."""

from __future__ import annotations

import json
import os
import re
import sys
from datetime import datetime, timedelta
from importlib import util
from typing import Any

import psycopg


def native(name: str, value: Any) -> Any:
    if name in ("scheduled_for", "expires_at"):
        return datetime.fromisoformat(value)
    if name in ("lease", "delays"):
        waits = [timedelta(minutes=int(re.sub(r"\D", "", wait))) for wait in ([value] if name == "lease" else value)]
        return waits if name == "delays" else waits[0]
    return value


def plain(result: Any) -> Any:
    return [row._asdict() for row in result] if isinstance(result, list) else result


spec = util.spec_from_file_location("sms_retry_client", sys.argv[1])
assert spec
assert spec.loader
client = util.module_from_spec(spec)
spec.loader.exec_module(client)
with psycopg.connect(os.environ["DATABASE_URL"]) as connection, connection.cursor() as cursor:
    results = [
        plain(getattr(client, entry)(cursor, **{name: native(name, value) for name, value in arguments.items()}))
        for entry, arguments in json.load(sys.stdin)
    ]
print(json.dumps(results, default=datetime.isoformat))
