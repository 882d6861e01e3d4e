"""The parts of template.yaml that the local stack needs, by the folder of a function (`process_retries`)."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]


@dataclass(frozen=True)
class Schedule:
    """The times at which a function is invoked (`rate(5 minutes)`, `cron(0 3 * * ? *)`), and its event as JSON."""

    expression: str
    input: str = "{}"


def schedules(template: Path) -> dict[str, Schedule]:
    """Maps function to schedule, in the template's order."""
    return {
        function: Schedule(event["ScheduleExpression"], event.get("Input", "{}"))
        for function, event in _events(template, "ScheduleV2")
    }


def routes(template: Path, api: str = "CallbacksApi") -> dict[str, str]:
    """Maps the routes of an HTTP API to functions: `{"POST /twilio/status": "twilio_webhook"}`; `$default` is any."""
    return {
        f"{event['Method'].upper()} {event['Path']}" if "Path" in event else "$default": function
        for function, event in _events(template, "HttpApi")
        if event["ApiId"] == {"Ref": api}
    }


def timeout(template: Path, function: str) -> int:
    """Seconds; AWS's default of 3 if the template has none."""
    return int(properties(template, function).get("Timeout", 3))


def properties(template: Path, function: str) -> dict[str, Any]:
    """A function's properties merged over those of Globals; `!Ref X` is `{"Ref": "X"}`. Raises LookupError."""
    functions = _functions(template)
    if function not in functions:
        raise LookupError(f"{template.name} has no function with the CodeUri functions/{function}/.")
    return functions[function][1]


def _events(template: Path, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for function, (_, own) in _functions(template).items():
        for event in own.get("Events", {}).values():
            if event["Type"] == kind:
                yield function, event["Properties"]


def _functions(template: Path) -> dict[str, tuple[str, dict[str, Any]]]:
    """Maps folder to logical id and properties."""
    document = _document(template)
    everywhere = document.get("Globals", {}).get("Function", {})
    functions = _of_type(document["Resources"], "AWS::Serverless::Function")
    return {Path(own["CodeUri"]).name: (name, everywhere | own) for name, own in functions}


def _document(template: Path) -> dict[str, Any]:
    return _parsed(template, template.stat().st_mtime_ns)


def _of_type(resources: dict[str, Any], kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    return ((name, each["Properties"]) for name, each in resources.items() if each["Type"] == kind)


@functools.lru_cache(maxsize=8)
def _parsed(template: Path, _modified: int) -> dict[str, Any]:
    with template.open() as text:
        document: dict[str, Any] = yaml.load(text, _CloudFormation)
    return document


class _CloudFormation(yaml.CSafeLoader):  # type: ignore[misc]
    """YAML with CloudFormation's short forms: `!Ref X` is `{"Ref": "X"}`."""


def _short_form(loader: yaml.SafeLoader, name: str, node: yaml.Node) -> dict[str, Any]:
    match node:
        case yaml.SequenceNode():
            return {name: loader.construct_sequence(node, deep=True)}
        case yaml.MappingNode():
            return {name: loader.construct_mapping(node, deep=True)}
        case _:
            return {name: loader.construct_scalar(node)}


_CloudFormation.add_multi_constructor("!", _short_form)
