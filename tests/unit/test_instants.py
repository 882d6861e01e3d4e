"""No instant is added or subtracted in a zone with daylight saving time: around a change it is an hour wrong.

Python subtracts and compares two instants of one zone by their wall clocks: https://github.com/python/cpython/issues/96148
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted([*(ROOT / "layers/sms_retry/python/sms_retry").rglob("*.py"), *(ROOT / "functions").rglob("*.py")])
# The calls that give an instant in a zone, with the place of the zone among their arguments.
IN_A_ZONE = {"astimezone": 0, "now": 0, "fromtimestamp": 1, "combine": 2, "datetime": 7}


def faults(source: str) -> list[int]:
    """The lines with an instant in another zone than UTC, or without a zone, that is not at once a date or in UTC."""
    tree = ast.parse(source)
    parents = {child: parent for parent in ast.walk(tree) for child in ast.iter_child_nodes(parent)}
    found = []
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call) or (name := _name(call.func)) not in IN_A_ZONE:
            continue
        of_datetime = name in ("astimezone", "datetime") or _name(getattr(call.func, "value", None)) == "datetime"
        used = parents[call]
        at_once = isinstance(used, ast.Attribute) and (used.attr == "date" or _is_utc(parents[used], "astimezone"))
        if of_datetime and not _is_utc(call, name) and not at_once:
            found.append(call.lineno)
    return found + [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.keyword) and node.arg == "tzinfo" and not _utc(node.value)
    ]


def _is_utc(call: ast.AST, name: str) -> bool:
    if not isinstance(call, ast.Call) or _name(call.func) != name:
        return False
    named = [keyword.value for keyword in call.keywords if keyword.arg in ("tz", "tzinfo")]
    return any(map(_utc, [*call.args[IN_A_ZONE[name] :][:1], *named]))


def _utc(node: ast.expr) -> bool:
    return _name(node) == "UTC"


def _name(node: ast.AST | None) -> str | None:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else None


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_counts_no_time_in_a_zone(module: Path) -> None:
    assert faults(module.read_text()) == []


@pytest.mark.parametrize(
    "line",
    [
        "at = now.astimezone(zone) + HOUR",
        "at = datetime.now(zone)",
        "at = datetime.now()",
        "at = datetime.fromtimestamp(0, zone)",
        "at = datetime.combine(day, time(8), zone) - now",
        "at = datetime(2026, 1, 1, tzinfo=zone)",
        "at = now.replace(tzinfo=zone)",
        "at = now.astimezone()",
    ],
)
def test_a_line_with_an_instant_in_a_zone_is_found(line: str) -> None:
    assert set(faults(line)) == {1}


@pytest.mark.parametrize(
    "line",
    [
        "at = now.astimezone(UTC) + HOUR",
        "day = now.astimezone(zone).date()",
        "at = datetime.combine(day, time(8), zone).astimezone(UTC)",
        "at = datetime.now(UTC)",
        "at = datetime(2026, 1, 1, tzinfo=UTC)",
        "at = datetime.fromtimestamp(0, tz=UTC)",
    ],
)
def test_a_line_with_an_instant_in_utc_is_not(line: str) -> None:
    assert faults(line) == []
