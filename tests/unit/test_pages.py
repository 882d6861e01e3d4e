"""The pages that are made from data say what the data says."""

from __future__ import annotations

import pytest

from tests.pages import DOCS, pages


@pytest.mark.parametrize("name", pages())
def test_a_generated_page_is_what_make_docs_would_write(name: str) -> None:
    assert (DOCS / name).read_text() == pages()[name], "the data changed: run `make docs`"
