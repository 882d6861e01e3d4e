"""The floors that the package's docstring shows are those that import-linter checks."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import sms_retry

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


def test_the_docstring_shows_the_layers_of_import_linter() -> None:
    (contract,) = tomllib.loads(PYPROJECT.read_text())["tool"]["importlinter"]["contracts"]
    layers = [re.findall(r"sms_retry\.(\w+)", layer) for layer in contract["layers"]]
    shown = re.findall(r"^ +(\d+)  (.+)$", sms_retry.__doc__ or "", re.MULTILINE)
    assert [int(floor) for floor, _ in shown] == list(range(len(layers), 0, -1))
    assert [modules.split(" · ") for _, modules in shown] == layers


def test_every_module_has_a_floor() -> None:
    package = Path(sms_retry.__file__).parent
    modules = {path.stem for path in package.glob("*.py")} | {
        path.parent.name for path in package.glob("*/__init__.py")
    }
    shown = re.findall(r"^ +\d+  (.+)$", sms_retry.__doc__ or "", re.MULTILINE)
    assert modules - {"__init__"} == {module for line in shown for module in line.split(" · ")}
