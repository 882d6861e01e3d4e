"""Execution plans of the statements inside our SQL functions, under the settings of the function."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import psycopg

from tests.integration.examples import one


def plan(
    db: psycopg.Connection, function: str, statement: Callable[[str], str] = lambda source: source
) -> dict[str, Any]:
    """Execute the statement, roll it back, and return its plan. `statement` finds it in the source of the function."""
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
    """The node at the top of a plan and all nodes below it."""
    yield plan
    for below in plan.get("Plans", []):
        yield from nodes(below)
