"""Planted bugs: each mutation breaks one rule in one place, and the tests named beside it must notice.

`python -m tests.mutations [word ...]` plants each (or those whose description has one of the words) in a copy of the
tree, prints what caught it, and exits 1 if one survives or its text is no longer found exactly once.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Column, Table

from tests.mutations.planted import MUTATIONS, Mutation

ROOT = Path(__file__).parents[2]
NOT_COPIED = shutil.ignore_patterns(".git", ".venv", ".aws-sam", "build", "__pycache__", ".*_cache", ".hypothesis")
AT_ONCE = 2
# A mutant that hangs is caught as well (seconds).
TOO_LONG = 150


@dataclass(frozen=True)
class Caught:
    by: str


@dataclass(frozen=True)
class Survived:
    pass


@dataclass(frozen=True)
class Broken:
    """It says nothing about the mutation: pytest did not run these tests."""

    why: str


Outcome = Caught | Survived | Broken


def main(words: list[str]) -> int:
    """Plant what is asked for; gives the exit code."""
    chosen = [each for each in MUTATIONS if not words or any(word in each.what for word in words)]
    console = Console()
    misplaced = [each for each in chosen if not each.has_its_place(ROOT)]
    for each in misplaced:
        console.print(f"{each.what}: its text is not found exactly once in {each.file}", style="red")
    if misplaced:
        return 1

    with tempfile.TemporaryDirectory(prefix="sms-retry-mutations-") as scratch:
        sound = Path(scratch, "sound")
        shutil.copytree(ROOT, sound, symlinks=True, ignore=NOT_COPIED)
        tests = sorted({test for each in chosen for test in each.noticed_by})
        match _test(sound, tests, TOO_LONG * 4):
            case Caught(by=what) | Broken(why=what):
                console.print(f"nothing was planted: the tests do not pass as they are: {what}", style="red")
                return 1
            case Survived():
                pass
        with ThreadPoolExecutor(AT_ONCE) as pool:
            outcomes = list(pool.map(lambda n: _plant(chosen[n], sound, Path(scratch, str(n))), range(len(chosen))))
    console.print(_table(chosen, outcomes))
    return 0 if all(isinstance(outcome, Caught) for outcome in outcomes) else 1


def _plant(mutation: Mutation, sound: Path, place: Path) -> Outcome:
    """Plant one in a copy of its own, and see whether its tests fail there."""
    shutil.copytree(sound, place, symlinks=True)
    file = place / mutation.file
    file.write_text(file.read_text().replace(mutation.old, mutation.new))
    started = time.monotonic()
    outcome = _test(place, mutation.noticed_by, TOO_LONG)
    shutil.rmtree(place)
    print(f"{time.monotonic() - started:4.0f} s  {mutation.what}: {_word(outcome)}", file=sys.stderr)
    return outcome


def _test(tree: Path, tests: list[str] | tuple[str, ...], seconds: int) -> Outcome:
    # The tree's own tests and package: `-m pytest` puts the folder it runs in first on the path.
    command = [sys.executable, "-B", "-m", "pytest", "-x", "-q", "--tb=no", "-p", "no:cacheprovider", *tests]
    try:
        done = subprocess.run(command, cwd=tree, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        return Caught(f"nothing came of it in {seconds} s")
    if done.returncode == 0:
        return Survived()
    failed = re.search(r"^(?:FAILED|ERROR) \S*?::(\w+)", done.stdout, re.MULTILINE)
    if done.returncode == 1 and failed:
        return Caught(failed[1])
    return Broken((done.stdout + done.stderr).strip()[-300:])


def _table(mutations: list[Mutation], outcomes: list[Outcome]) -> Table:
    columns = [Column(name, overflow="fold") for name in ("planted", "in", "caught by")]
    table = Table(*columns, title=f"{len(mutations)} planted bugs")
    for mutation, outcome in zip(mutations, outcomes, strict=True):
        style = None if isinstance(outcome, Caught) else "red"
        table.add_row(mutation.what, Path(mutation.file).name, _word(outcome), style=style)
    return table


def _word(outcome: Outcome) -> str:
    match outcome:
        case Caught(by=by):
            return by
        case Survived():
            return "nothing: it survived"
        case Broken(why=why):
            return f"nothing: {why}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
