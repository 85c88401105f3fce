"""Decisions are found by number and read alike: what was the case, what was decided, what follows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGES = sorted((Path(__file__).parents[2] / "docs" / "decisions").glob("*.md"))


def test_decisions_are_numbered_without_a_gap() -> None:
    assert [int(page.name[:4]) for page in PAGES] == list(range(1, len(PAGES) + 1))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name[:4])
def test_a_decision_has_its_number_a_title_and_three_parts(page: Path) -> None:
    title, *lines = page.read_text().splitlines()
    assert re.match(rf"# {page.name[:4]} [`A-Z]", title)
    parts = [found[1] for line in lines if (found := re.match(r"\*\*(\w+)\.\*\* ", line))]
    assert parts == ["Context", "Decision", "Consequences"]
    assert "" not in lines
