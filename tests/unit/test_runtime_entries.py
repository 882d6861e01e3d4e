"""The runtime role may execute the functions that the package calls, and read the columns that it reads."""

from __future__ import annotations

import re

from sms_retry.rights import RUNTIME_COLUMNS, RUNTIME_ENTRIES
from tests.unit.test_sql_floors import FILES, python_strings

# Their statements run as the owner.
OF_THE_OWNER = {"migrate.py", "rights.py"}
# Python reads a figure of this name, which the function sms_retry_health returns.
FIGURES = {"oldest_snapshot_seconds"}
TABLE = re.compile(r"\b(?:from|into|update|join|table) sms_retry\.(\w+)\b(?!\()")
READING = re.compile(r"select ([\w, ]+) from sms_retry\.(\w+)\b(?!\()")


def test_the_entries_are_the_functions_that_the_package_calls() -> None:
    called = set()
    for text in python_strings(OF_THE_OWNER):
        called |= set(re.findall(r"\bsms_retry\.(\w+)\(", text)) | ({text} & FILES.keys())
    assert set(RUNTIME_ENTRIES) == called - FIGURES


def test_the_columns_are_those_that_the_package_reads() -> None:
    statements = [text for text in python_strings(OF_THE_OWNER) if TABLE.search(text)]
    read = {table: tuple(columns.split(", ")) for text in statements for columns, table in READING.findall(text)}
    assert {table for text in statements for table in TABLE.findall(text)} == read.keys()
    assert read == RUNTIME_COLUMNS
