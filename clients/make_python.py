"""Writes the client for Python."""

from __future__ import annotations

from clients.entries import ENTRIES, Argument, Entry

TYPES = {
    "text": "str",
    "integer": "int",
    "bigint": "int",
    "timestamptz": "datetime",
    "interval": "timedelta",
    "interval[]": "Sequence[timedelta]",
    "text[]": "Sequence[str]",
    "bigint[]": "Sequence[int]",
    "jsonb": "Mapping[str, Any]",
}

HEAD = '''\
"""The client of sms-retry for Python: one file without dependencies, to copy. `make clients` of sms-retry writes it.

Each function runs one statement on a DB-API cursor with tuple rows and %s placeholders, such as one of psycopg,
psycopg2, Django or SQLAlchemy, and so belongs to the transaction of its connection. An argument that is None has the
default of the database.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Protocol


class Cursor(Protocol):
    def execute(self, query: Any, params: Any, /) -> Any: ...

    def fetchall(self) -> list[Any]: ...
'''

TAIL = '''

def _rows(cursor: Cursor, function: str, *arguments: tuple[str, str, Any]) -> list[Any]:
    given = [argument for argument in arguments if argument[2] is not None]
    places = ", ".join(f"{name} => %s::{type}" for name, type, _ in given)
    cursor.execute(
        f"select * from sms_retry.{function}({places})",  # noqa: S608
        [json.dumps(value, default=_text) if type == "jsonb" else value for _, type, value in given],
    )
    return cursor.fetchall()


def _text(value: Any) -> str:
    """A value in JSON that JSON has no type for."""
    return str(value.isoformat() if isinstance(value, datetime) else value)


def _json(value: Any) -> Any:
    """Some drivers return JSON as text."""
    return json.loads(value) if isinstance(value, str) else value
'''


def client() -> str:
    return HEAD + "".join(map(_row, ENTRIES)) + "".join(map(_function, ENTRIES)) + TAIL


def _row(entry: Entry) -> str:
    if not entry.row:
        return ""
    columns = [
        f"    {column.name}: {_type(column)}{' | None' if _may_be_null(entry, column) else ''}"
        for column in entry.columns
    ]
    return "\n".join(["", "", f"class {entry.row}(NamedTuple):", f'    """A row of {entry.name}."""', "", *columns, ""])


def _function(entry: Entry) -> str:
    required = [f"    {argument.name}: {_type(argument)}," for argument in entry.arguments if argument.required]
    optional = [
        f"    {argument.name}: {_type(argument)} | None = None,"
        for argument in entry.arguments
        if not argument.required
    ]
    arguments = [f'        ("{argument.name}", "{argument.type}", {argument.name}),' for argument in entry.arguments]
    width = max(len(argument.name) for argument in entry.arguments)
    meanings = [f"    {argument.name:{width}}  {argument.meaning}" for argument in entry.arguments]
    returns = f"list[{entry.row}]" if entry.row else _result(entry)
    return "\n".join(
        [
            "",
            "",
            f"def {entry.name}(",
            "    cursor: Cursor,",
            *required,
            *(["    *,"] if optional else []),
            *optional,
            f") -> {returns}:",
            f'    """{entry.does}',
            "",
            *meanings,
            '    """',
            "    rows = _rows(",
            "        cursor,",
            f'        "{entry.name}",',
            *arguments,
            "    )",
            f"    return {_returned(entry)}",
            "",
        ]
    )


def _type(argument: Argument) -> str:
    return (
        "Sequence[Mapping[str, Any]]"
        if argument.name == "messages" and argument.type == "jsonb"
        else TYPES[argument.type]
    )


def _result(entry: Entry) -> str:
    return "str | None" if entry.returns == "text" else "int"


def _returned(entry: Entry) -> str:
    if entry.returns == "text":
        return "None if rows[0][0] is None else str(rows[0][0])"
    if entry.returns:
        return "int(rows[0][0])"
    decoded = [f"{c.name}=_json(row[{n}])" for n, c in enumerate(entry.columns) if c.type == "jsonb"]
    return f"[{entry.row}(*row){f'._replace({decoded[0]})' if decoded else ''} for row in rows]"


def _may_be_null(entry: Entry, column: Argument) -> bool:
    return column is not entry.columns[0] and entry.row != "BatchCount"
