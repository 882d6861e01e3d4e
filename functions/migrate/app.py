"""At deploy: brings the database up to this release."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from sms_retry import migrate, runtime


@runtime.invocation
def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    done = migrate.migrate(runtime.conninfo())
    runtime.logger.info("migrated", extra=asdict(done))
    return {"migrations": len(done.migrations), "functions": done.functions, "dropped": len(done.dropped)}
