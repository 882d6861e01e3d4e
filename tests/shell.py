"""The command line inside the process of a test."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from sms_retry import runtime
from sms_retry.__main__ import main


def command(words: Sequence[str]) -> int:
    """Run one command and return its exit code. Its connection ends with it, as that of a process does: the next test
    has another database.
    """
    try:
        return main(words)
    finally:
        if runtime.store.cache_info().currsize:
            runtime.store(timedelta(0)).close()
        runtime.store.cache_clear()
