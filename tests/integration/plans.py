"""How a statement inside one of our SQL functions runs, under the settings that the function gives itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import psycopg

from tests.integration.examples import one


def plan(
    db: psycopg.Connection, function: str, statement: Callable[[str], str] = lambda source: source
) -> dict[str, Any]:
    """The plan as it was executed and undone; `statement` finds it in the source of, say, `sms_retry_health()`."""
    source, settings = db.execute(
        f"select prosrc, proconfig from pg_proc where oid = 'sms_retry.{function}'::regprocedure"
    ).fetchone() or ("", [])
    with db.transaction(force_rollback=True):
        for setting in settings:
            name, _, value = setting.partition("=")
            db.execute("select set_config(%s, %s, true)", [name, value])
        found = one(db, f"explain (analyze, format json) {statement(source)}")
    parsed: dict[str, Any] = (json.loads(found) if isinstance(found, str) else found)[0]["Plan"]
    return parsed


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A plan's node and all below it."""
    yield plan
    for below in plan.get("Plans", []):
        yield from nodes(below)
