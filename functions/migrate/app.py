"""At each deployment, or by hand: brings the database to this release."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import psycopg

from sms_retry import deployment, migrate, runtime, settings

EXPLAINED = (migrate.MigrationError, psycopg.OperationalError, settings.SettingsError)


@runtime.invocation
def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    with deployment.answered(event, context.log_group_name, EXPLAINED):
        if deployment.is_removal(event):
            return {}
        done = migrate.migrate(runtime.database())
        runtime.logger.info("migrated", extra=asdict(done))
    counts = {"migrations": len(done.migrations), "functions": done.functions, "dropped": len(done.dropped)}
    return {**counts, "repairs": len(done.repairs)}
