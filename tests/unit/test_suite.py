"""`make test` runs the tests of a group in one process: only one deploys the stack, or starts the browser."""

from __future__ import annotations

import pytest


@pytest.mark.xdist_group("suite")
def test_the_tests_of_a_group_run_in_one_process(request: pytest.FixtureRequest) -> None:
    # pytest-xdist hands out the tests by the group at the end of their names.
    is_grouped = getattr(request.config.option, "loadgroup", False)
    assert request.node.nodeid.endswith("@suite") is is_grouped
