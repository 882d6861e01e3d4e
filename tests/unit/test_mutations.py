"""The planted bugs are run by hand; these tests check that each bug can still be planted."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutations.planted import MUTATIONS, Mutation

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.bug.replace(" ", "-"))
def test_a_bug_can_be_planted_and_its_tests_exist(mutation: Mutation) -> None:
    assert mutation.can_be_planted(ROOT)
    assert all((ROOT / test).exists() for test in mutation.noticed_by)
