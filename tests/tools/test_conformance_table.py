"""The page on conformance names, for every rule and every upstream spec, the tests that hold it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "conformance_table", ROOT / "tools" / "conformance_table.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_as_the_tests_say_and_every_rule_and_spec_has_one(tool: ModuleType) -> None:
    page = tool.PAGE.read_text()
    assert tool.page(page, tool.read()) == page, "run tools/conformance_table.py"


@pytest.mark.parametrize(
    ("line", "rules", "specs"),
    [
        ("Rules: C2, C4. Specs: 13.", ["C2", "C4"], ["13"]),
        ("Rules: R4. Specs: -. More words: 1, 2.", ["R4"], []),
        ("Rules: -. Specs: 14, 18.\n\nMore.", [], ["14", "18"]),
        ("Spec: 21", [], ["21"]),
        ("Rules: E1, R6.", ["E1", "R6"], []),
        ("What it is about. Rules: none.", [], []),
        ("", [], []),
    ],
)
def test_the_first_line_of_a_docstring_says_what_a_test_covers(
    tool: ModuleType, line: str, rules: list[str], specs: list[str]
) -> None:
    found = tool.covers(line)
    assert (list(found[0]), list(found[1])) == (rules, specs)


@pytest.mark.parametrize("line", ["Rules: Z1. Specs: -.", "Rules: -. Specs: 28."])
def test_a_rule_or_spec_that_does_not_exist_is_an_error(tool: ModuleType, line: str) -> None:
    with pytest.raises(ValueError, match="there is no"):
        tool.covers(line)


def test_a_rule_without_a_test_is_an_error(tool: ModuleType) -> None:
    with pytest.raises(ValueError, match="R1, R2"):
        tool.page(tool.PAGE.read_text(), [])
