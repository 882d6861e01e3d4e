"""The planted bugs are run by hand; that each can still be planted is seen here."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutations.planted import MUTATIONS, Mutation

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.what.replace(" ", "-"))
def test_a_planted_bug_has_its_place_and_its_tests(mutation: Mutation) -> None:
    assert mutation.has_its_place(ROOT)
    assert all((ROOT / test).exists() for test in mutation.noticed_by)
