"""The Rules of the template, evaluated before CloudFormation does: each broken rule is its AssertDescription.

https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/intrinsic-function-reference-rules.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def broken(template: Mapping[str, Any], values: Mapping[str, str]) -> Iterator[str]:
    """`values` has a value for each parameter."""
    types = {name: its["Type"] for name, its in template["Parameters"].items()}
    for rule in template["Rules"].values():
        if _value(rule.get("RuleCondition", True), types, values):
            for each in rule["Assertions"]:
                if not _value(each["Assert"], types, values):
                    yield each["AssertDescription"]


def entries(value: str) -> list[str]:
    """The members of a CommaDelimitedList; an empty list has one, the empty text."""
    return [each.strip() for each in value.split(",")]


def _value(expression: Any, types: Mapping[str, str], values: Mapping[str, str]) -> Any:
    def of(inner: Any) -> Any:
        return _value(inner, types, values)

    match expression:
        case {"Ref": name}:
            return entries(values[name]) if types[name] == "CommaDelimitedList" else values[name]
        case {"Fn::Equals": [left, right]}:
            return of(left) == of(right)
        case {"Fn::EachMemberEquals": [members, member]}:
            return all(each == of(member) for each in of(members))
        case {"Fn::Not": [inner]}:
            return not of(inner)
        case {"Fn::And": inner}:
            return all(map(of, inner))
        case {"Fn::Or": inner}:
            return any(map(of, inner))
        case bool() | str():
            return expression
    raise ValueError(f"{expression} is not known here")
