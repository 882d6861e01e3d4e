"""At each deployment, or by hand: brings the database to this release. First, a database of the stack gets its role."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Any

from sms_retry import deployment


def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    with deployment.answered(event, context.log_group_name):
        if deployment.is_removal(event):
            return {}
        # A layer of another architecture fails at this import, and CloudFormation is answered.
        from sms_retry import runtime

        step = _create_role if event.get("ResourceType") == "Custom::DatabaseRole" else _migrate
        return runtime.invocation(step)(event, context)


def _create_role(event: dict[str, Any], context: Any) -> dict[str, Any]:
    from sms_retry import database_role, runtime

    database_role.create(event["ResourceProperties"], runtime.secret)
    return {"database": event["ResourceProperties"]["Database"]}


def _migrate(event: dict[str, Any], context: Any) -> dict[str, Any]:
    from sms_retry import migrate, runtime, settings

    given = settings.migrating(os.environ)
    owner, others = runtime.owner(), runtime.database()
    done = migrate.migrate(
        owner or others,
        roles=given.application_roles,
        event_types=given.event_types,
        runtime_role=migrate.role_of(others) if owner else None,
    )
    runtime.logger.info("migrated", extra=asdict(done))
    counts = {"migrations": len(done.migrations), "functions": done.functions, "dropped": len(done.dropped)}
    return {**counts, "repairs": len(done.repairs)}
