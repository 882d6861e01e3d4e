"""The pages and sections that are made from data agree with the data."""

from __future__ import annotations

import re
from itertools import pairwise

from tests.pages import DOCS, ROOT, ladder, pages
from tests.transitions import MAY, STEPS


def test_a_generated_page_is_what_make_docs_would_write() -> None:
    for name, text in pages().items():
        assert (DOCS / name).read_text() == text, "the data changed: run `make docs`"


def test_each_time_of_the_ladder_is_longer_than_the_one_before() -> None:
    times = [time for time, _, _ in ladder()]
    assert all(shorter < longer for shorter, longer in pairwise(times)), times


def test_each_step_of_the_transition_table_is_explained() -> None:
    assert STEPS.keys() == {step for step, transitions in MAY.items() if transitions}


def test_each_arrow_of_the_readme_is_a_transition_of_the_table() -> None:
    diagram = (ROOT / "README.md").read_text().split("```mermaid")[1].split("```")[0]
    arrows = {f"{was}>{becomes}" for was, becomes in re.findall(r"(\S+) --> (\w+)", diagram)}
    assert len(arrows) > 5
    assert {arrow.replace("[*]", "new") for arrow in arrows} <= set(" ".join(MAY.values()).split())
