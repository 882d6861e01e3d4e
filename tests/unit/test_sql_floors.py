"""The SQL functions call down only, in the floors below; and sql/README.md, the map, names them as they are."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Set
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "layers/sms_retry/python/sms_retry"
MAP = (ROOT / "sql/README.md").read_text()

# A room calls itself and the rooms of lower floors; rooms of one floor do not call each other.
FLOORS = (
    {"entry"},
    {"claim", "receipt", "reconcile", "operate", "look", "events", "upkeep"},
    {"finish"},
    {"people"},
)
FILES = {path.stem: path for path in (ROOT / "sql/functions").rglob("*.sql")}
FLOOR = {room: n for n, rooms in enumerate(FLOORS) for room in rooms}

Calls = frozenset[tuple[str, str]]


def room(function: str) -> str:
    return FILES[function].parent.name


def code(text: str) -> str:
    """SQL without its comments and its literals."""
    return re.sub(r"--[^\n]*|'(?:[^']|'')*'", " ", text)


@cache
def calls() -> Calls:
    """Each call between two functions: the caller and the function that it calls."""
    found = set()
    for caller, path in FILES.items():
        body = code(path.read_text()).split("$$")[1]
        found |= {(caller, called) for called in re.findall(r"\b(\w+)\s*\(", body) if called in FILES}
    return frozenset(found)


def python_strings(left_out: Set[str] = frozenset({"rights.py"})) -> Iterator[str]:
    """Every string of the package that is not a docstring: a statement, or the name of a function."""
    for path in PACKAGE.rglob("*.py"):
        if path.name in left_out:
            continue
        tree = ast.parse(path.read_text())
        docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
                yield node.value


def cycle(calls: Calls) -> set[str]:
    """The functions that call themselves in the end."""
    left = set(calls)
    while ends := {called for _, called in left} - {caller for caller, _ in left}:
        left = {(caller, called) for caller, called in left if called not in ends}
    return {caller for caller, _ in left}


def test_a_file_defines_the_one_function_of_its_name() -> None:
    assert len(FILES) == len(list((ROOT / "sql/functions").rglob("*.sql")))
    for name, path in FILES.items():
        assert re.findall(r"create or replace function (\S+?)\(", path.read_text()) == [f"sms_retry.{name}"]
        assert path.read_text().startswith("-- "), f"{name} has no sentence above it"


def test_every_room_has_its_floor() -> None:
    assert {room(name) for name in FILES} == FLOOR.keys()


def test_a_function_calls_its_own_room_and_lower_floors() -> None:
    up = {(a, b) for a, b in calls() if room(a) != room(b) and FLOOR[room(a)] >= FLOOR[room(b)]}
    assert not up, f"these calls do not go down: {sorted(up)}"


def test_no_function_calls_itself_through_others() -> None:
    assert not cycle(calls())


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ({"a": "b(1)", "b": "1"}, set()),
        ({"a": "b (1)", "b": "c()", "c": "-- a()\n 'a()'"}, set()),
        ({"a": "b()", "b": "c()", "c": "a()"}, {"a", "b", "c"}),
        ({"a": "b()", "b": "b()"}, {"a", "b"}),
    ],
)
def test_a_cycle_is_found(
    text: dict[str, str], found: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, body in text.items():
        (tmp_path / name).write_text(f"create function {name}() as $$ select {body} $$;")
    monkeypatch.setitem(globals(), "FILES", {name: tmp_path / name for name in text})
    assert cycle(calls.__wrapped__()) == found


def test_the_map_lists_every_function_in_its_room() -> None:
    listed = set()
    for section in re.split(r"^### ", MAP, flags=re.MULTILINE)[1:]:
        for name in re.findall(r"^\| `(\w+)`", section, flags=re.MULTILINE):
            listed.add((re.match(r"\w+", section)[0], name))  # type: ignore[index]
    assert listed == {(room(name), name) for name in FILES}


def test_the_map_marks_the_functions_that_only_sql_calls() -> None:
    # The health's figure of this name comes from the function; Python reads the figure.
    names = set(re.findall(r"\w+", " ".join(python_strings()))) - {"oldest_snapshot_seconds"}
    # Release 0.1 calls it.
    names |= {"release_unknown_sms"}
    internal = FILES.keys() - names
    assert set(re.findall(r"^\| `(\w+)` \| internal", MAP, flags=re.MULTILINE)) == internal


def test_the_map_draws_every_call() -> None:
    assert set(re.findall(r"^    (\w+) --> (\w+)$", MAP, flags=re.MULTILINE)) == calls()


def test_every_pinned_function_refers_to_the_map() -> None:
    assert "## Pinned plans" in MAP
    for name, path in FILES.items():
        text = path.read_text()
        is_pinned = "set enable_" in text or "any (array[" in text
        assert is_pinned == ("-- pinned, see sql/README.md" in text), name
