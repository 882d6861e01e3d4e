"""The parameters of a deployment: a section of samconfig.toml, completed by the defaults of the template."""

from __future__ import annotations

import functools
import hashlib
import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samcli.cli.types import CfnParameterOverridesType
from samcli.yamlhelper import yaml_parse

from deploy import rules

FILL_IN = "FILL-IN"
# CloudFormation takes 128 characters; an HTTP API takes as many for the stack's name and a word more.
LONGEST_STACK_NAME = 100
STACK_NAME = re.compile(rf"[A-Za-z][A-Za-z0-9-]{{0,{LONGEST_STACK_NAME - 1}}}")


class Refused(Exception):
    """A deployment that would fail. Each of its arguments is a sentence for the person who deploys."""


@dataclass(frozen=True)
class Section:
    """`given` are the parameters that the section names; region and profile are those of the shell where None."""

    environment: str
    stack: str
    given: Mapping[str, str]
    region: str | None = None
    profile: str | None = None


def read(samconfig: Path, environment: str) -> Section:
    document = tomllib.loads(samconfig.read_text())
    if "deploy" not in document.get(environment, {}):
        known = ", ".join(
            name for name, section in document.items() if isinstance(section, dict) and "deploy" in section
        )
        raise Refused(f"{samconfig.name} has no section {environment}.deploy.parameters: it has {known}.")
    its = document[environment].get("global", {}).get("parameters", {}) | document[environment]["deploy"]["parameters"]
    stack = str(its.get("stack_name", ""))
    if not STACK_NAME.fullmatch(stack):
        raise Refused(
            f"stack_name of section {environment} must be 1 to {LONGEST_STACK_NAME} letters, digits and hyphens,"
            " and begin with a letter."
        )
    given = overrides(its.get("parameter_overrides", ()))
    return Section(environment, stack, given, its.get("region"), its.get("profile"))


def overrides(lines: str | Sequence[str]) -> dict[str, str]:
    """Parameters from `Name=value` lines, or from the one line of them that `sam deploy --guided` writes."""
    if isinstance(lines, str):
        found: dict[str, str] = CfnParameterOverridesType().convert((lines,), None, None)
        return found
    pairs = (line.partition("=") for line in lines)
    return {name.strip(): value.strip().strip('"') for name, _, value in pairs}


def parameters(template: Path, section: Section) -> dict[str, str]:
    """A value for each parameter of the template: the section's or the default, and `Settings` made of them all.

    CloudFormation keeps the previous value of a parameter that is not given. So each is given, and a line that is
    removed from the section returns its parameter to the default. Raises Refused.
    """
    parsed = read_template(template)
    declared: dict[str, dict[str, Any]] = parsed["Parameters"]
    values = {name: str(its["Default"]) for name, its in declared.items() if "Default" in its}
    values.update(section.given)
    faults = [f"{name} is not a parameter of the template." for name in values.keys() - declared.keys()]
    faults += [f"{name} has no value." for name in declared.keys() - values.keys()]
    faults += [
        f"{name} {fault}" for name, its in declared.items() if name in values and (fault := _fault(its, values[name]))
    ]
    faults = faults or [*rules.broken(parsed, values), *_user(values)]
    if faults:
        raise Refused(*(f"section {section.environment}: {fault}" for fault in sorted(faults)))
    return values | {"Settings": settings(values)}


def read_template(template: Path) -> dict[str, Any]:
    """The template as SAM reads it, in a new copy, of which no two parts are one object as with YAML's aliases.

    SAM takes most of a second for it, so the same text is parsed once.
    """
    read: dict[str, Any] = json.loads(_as_json(template.read_text()))
    return read


@functools.cache
def _as_json(text: str) -> str:
    return json.dumps(yaml_parse(text))


def settings(values: Mapping[str, str]) -> str:
    """A hash of all parameters. Another value of any of them makes a new version of every function."""
    others = {name: value for name, value in values.items() if name != "Settings"}
    return "settings " + hashlib.sha256(json.dumps(others, sort_keys=True).encode()).hexdigest()[:16]


def _fault(declared: Mapping[str, Any], value: str) -> str | None:
    """The reason for which CloudFormation would refuse a value, in the words of the template."""
    if value == FILL_IN:
        return f"still has the placeholder {FILL_IN}: replace it."
    members = rules.entries(value) if declared["Type"] == "CommaDelimitedList" else [value]
    if not all(re.fullmatch(declared.get("AllowedPattern", ".*"), each) for each in members):
        return str(declared.get("ConstraintDescription", f"must match {declared['AllowedPattern']}."))
    if "AllowedValues" in declared and value not in map(str, declared["AllowedValues"]):
        return f"must be one of {', '.join(map(str, declared['AllowedValues']))}."
    if declared["Type"] == "Number" and not _is_between(declared.get("MinValue"), declared.get("MaxValue"), value):
        return f"must be a whole number from {declared.get('MinValue')} to {declared.get('MaxValue')}."
    return None


def _user(values: Mapping[str, str]) -> Iterator[str]:
    """DatabaseUser may name its user; the functions are allowed to sign in as that of DatabaseUrl."""
    _, _, user = values["DatabaseUser"].partition("/")
    if user and f"//{user}@" not in values["DatabaseUrl"]:
        yield f"DatabaseUser ends in /{user}, which is not the user of DatabaseUrl: leave /{user} out, or correct one."


def _is_between(least: int | None, most: int | None, value: str) -> bool:
    if not (value.isascii() and value.isdigit()):
        return False
    return (least is None or least <= int(value)) and (most is None or int(value) <= most)
