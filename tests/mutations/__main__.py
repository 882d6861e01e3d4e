"""Planted bugs: each mutation breaks one rule in one place, and the tests named with it must notice.

`python -m tests.mutations [word ...]` plants each bug, or those with one of the words in their description, in a copy
of the tree and prints the test that caught it. The exit code is 1 if a bug survives or cannot be planted.
"""

from __future__ import annotations

import argparse
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
# Tests that hang have noticed the bug as well (seconds).
TOO_LONG = 150


@dataclass(frozen=True)
class Caught:
    by: str


@dataclass(frozen=True)
class Survived:
    pass


@dataclass(frozen=True)
class Broken:
    """Pytest did not run these tests, so the result says nothing about the mutation."""

    reason: str


Outcome = Caught | Survived | Broken


def main(words: list[str]) -> int:
    """Plant the chosen bugs; returns the exit code."""
    chosen = [each for each in MUTATIONS if not words or any(word in each.bug for word in words)]
    console = Console()
    misplaced = [each for each in chosen if not each.can_be_planted(ROOT)]
    for each in misplaced:
        console.print(f"{each.bug}: its text is not found exactly once in {each.file}", style="red")
    if misplaced:
        return 1

    with tempfile.TemporaryDirectory(prefix="sms-retry-mutations-") as scratch:
        original = Path(scratch, "original")
        shutil.copytree(ROOT, original, symlinks=True, ignore=NOT_COPIED)
        tests = sorted({test for each in chosen for test in each.noticed_by})
        match _test(original, ["-n", str(AT_ONCE), "--dist", "loadgroup", *tests], TOO_LONG * 6):
            case Caught(by=reason) | Broken(reason=reason):
                console.print(f"no bug was planted, because the tests fail without one: {reason}", style="red")
                return 1
            case Survived():
                pass
        with ThreadPoolExecutor(AT_ONCE) as pool:
            outcomes = list(pool.map(lambda n: _plant(chosen[n], original, Path(scratch, str(n))), range(len(chosen))))
    console.print(_table(chosen, outcomes))
    return 0 if all(isinstance(outcome, Caught) for outcome in outcomes) else 1


def _plant(mutation: Mutation, original: Path, copy: Path) -> Outcome:
    """Plant one bug in a new copy of the tree, and run its tests there."""
    shutil.copytree(original, copy, symlinks=True)
    file = copy / mutation.file
    file.write_text(file.read_text().replace(mutation.old, mutation.new))
    started = time.monotonic()
    outcome = _test(copy, mutation.noticed_by, TOO_LONG)
    shutil.rmtree(copy)
    print(f"{time.monotonic() - started:4.0f} s  {mutation.bug}: {_caught_by(outcome)}", file=sys.stderr)
    return outcome


def _test(tree: Path, arguments: list[str] | tuple[str, ...], seconds: int) -> Outcome:
    # `-m pytest` puts the working folder first on the path, so that the tree's own tests and package are used.
    command = [sys.executable, "-B", "-m", "pytest", "-x", "-q", "--tb=no", "-p", "no:cacheprovider", *arguments]
    try:
        done = subprocess.run(command, cwd=tree, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        return Caught(f"no result after {seconds} s")
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
        table.add_row(mutation.bug, Path(mutation.file).name, _caught_by(outcome), style=style)
    return table


def _caught_by(outcome: Outcome) -> str:
    match outcome:
        case Caught(by=by):
            return by
        case Survived():
            return "no test: it survived"
        case Broken(reason=reason):
            return f"no test: {reason}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.mutations", description=__doc__)
    parser.add_argument("words", nargs="*", metavar="WORD", help="plant only the bugs with one of these words")
    sys.exit(main(parser.parse_args().words))
