"""`python -m local.twilio.openapi PATH`: writes the excerpt of Twilio's OpenAPI document that the contract test reads.

PATH is Twilio's published file, SOURCE below. The excerpt keeps the two Messages paths and the schemas that they use:
parameters, fields, types, enums and patterns, without any prose or example.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SOURCE = "https://github.com/twilio/twilio-oai/blob/main/spec/json/twilio_api_v2010.json"
EXCERPT = Path(__file__).with_name("openapi.json")
MESSAGES = "/2010-04-01/Accounts/{AccountSid}/Messages.json"
MESSAGE = "/2010-04-01/Accounts/{AccountSid}/Messages/{Sid}.json"
METHODS = ("get", "post")
PROSE = frozenset({"description", "summary", "example", "examples"})
# CORS headers, and vendor extensions.
UNUSED = re.compile(r"headers|x-.*")


def excerpt(document: dict[str, Any]) -> dict[str, Any]:
    """Raises KeyError if the document does not have the two paths."""
    paths = {
        path: {method: _operation(operations[method]) for method in METHODS if method in operations}
        for path in (MESSAGES, MESSAGE)
        for operations in [document["paths"][path]]
    }
    schemas: dict[str, Any] = {}
    wanted = sorted(set(_references(paths)))
    while wanted:
        name = wanted.pop()
        if name not in schemas:
            schemas[name] = _facts(document["components"]["schemas"][name])
            wanted += _references(schemas[name])
    info = {name: document["info"][name] for name in ("title", "version", "license")}
    return {
        "openapi": document["openapi"],
        "info": info | {"x-source": SOURCE},
        "paths": paths,
        "components": {"schemas": dict(sorted(schemas.items()))},
    }


def _operation(operation: dict[str, Any]) -> dict[str, Any]:
    kept = {name: operation[name] for name in ("parameters", "requestBody", "responses") if name in operation}
    return dict(_facts(kept))


def _facts(value: Any, *, names_fields: bool = False) -> Any:
    """`names_fields`: the keys of `value` are names of fields, and a field may be called `description`."""
    match value:
        case dict():
            return {
                name: _facts(each, names_fields=name == "properties" and not names_fields)
                for name, each in value.items()
                if names_fields or not (name in PROSE or UNUSED.fullmatch(name))
            }
        case list():
            return [_facts(each) for each in value]
        case _:
            return value


def _references(value: Any) -> Iterator[str]:
    match value:
        case {"$ref": str(reference)}:
            yield reference.rpartition("/")[2]
        case dict():
            for each in value.values():
                yield from _references(each)
        case list():
            for each in value:
                yield from _references(each)


def main(arguments: list[str]) -> None:
    if len(arguments) != 1:
        sys.exit(f"usage: python -m local.twilio.openapi PATH\nPATH is a copy of {SOURCE}")
    EXCERPT.write_text(json.dumps(excerpt(json.loads(Path(arguments[0]).read_text())), indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
