"""Counts pronouns that stand where a noun belongs; `make check` fails at 4 or more per 1,000 words of one kind."""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
LIMIT = 4.0
WORD = re.compile(r"[A-Za-z][A-Za-z'’]*")
PRONOUN = re.compile(r"what|whatever|who|whoever|whom|whose|nobody|somebody|anybody", re.IGNORECASE)
CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)
FOLDERS = ("clients", "functions", "layers", "local", "tests")


def main() -> int:
    texts = {
        "README and docs": list(pages()),
        "Python comments and docstrings": [text for path in python_files() for text in comments_and_docstrings(path)],
        "SQL comments": [text for path in sorted((ROOT / "sql").rglob("*.sql")) for text in sql_comments(path)],
        "test names": [name for path in python_files() for name in test_names(path)],
    }
    rates = {kind: pronouns_per_thousand(" ".join(found)) for kind, found in texts.items()}
    for kind, rate in rates.items():
        print(f"{rate:5.1f} pronouns per 1,000 words in {kind}{' (the limit is 4)' if rate >= LIMIT else ''}")
    return int(any(rate >= LIMIT for rate in rates.values()))


def pronouns_per_thousand(text: str) -> float:
    words = WORD.findall(text)
    return 1000 * sum(bool(PRONOUN.fullmatch(word)) for word in words) / max(1, len(words))


def pages() -> Iterator[str]:
    """The prose of every page; code in it does not count."""
    for path in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("sql/*.md")]):
        yield CODE.sub(" ", path.read_text())


def python_files() -> list[Path]:
    return [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]


def comments_and_docstrings(path: Path) -> Iterator[str]:
    source = path.read_text()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.string
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node) or ""


def sql_comments(path: Path) -> Iterator[str]:
    return (line.partition("--")[2] for line in path.read_text().splitlines() if "--" in line)


def test_names(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            yield node.name.replace("_", " ")


if __name__ == "__main__":
    sys.exit(main())
