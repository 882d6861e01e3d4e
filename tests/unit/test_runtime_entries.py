"""The runtime role may execute exactly the functions that the package calls, as its code names them."""

from __future__ import annotations

import re

from sms_retry.rights import RUNTIME_ENTRIES
from tests.unit.test_sql_floors import FILES, python_strings

# They name no function that they call as the runtime role.
NOT_AT_RUNTIME = {"migrate.py", "rights.py"}
# Python reads a figure of this name, which the function sms_retry_health returns.
FIGURES = {"oldest_snapshot_seconds"}


def test_the_entries_are_the_functions_that_the_package_calls() -> None:
    called = set()
    for text in python_strings(NOT_AT_RUNTIME):
        called |= set(re.findall(r"\bsms_retry\.(\w+)\(", text)) | ({text} & FILES.keys())
    assert set(RUNTIME_ENTRIES) == called - FIGURES


def test_no_statement_of_the_package_names_a_table() -> None:
    """Not even a reader needs a right to a table."""
    named = [
        text
        for text in python_strings(NOT_AT_RUNTIME)
        if re.search(r"\b(from|into|update|join) sms_retry\.\w+(?![\w(])", text)
    ]
    assert named == []
