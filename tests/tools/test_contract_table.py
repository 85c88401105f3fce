"""The table of the API server's contract says what the tests found, and names them all."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
RESULTS = "<testsuites><testsuite>{}</testsuite></testsuites>".format(
    "".join(
        f'<testcase classname="tests.{module}" name="{name}">{outcome}</testcase>'
        for module, name, outcome in (
            ("apiserver.test_apiserver_contract_a", "test_it_works[embedded-1]", ""),
            ("apiserver.test_apiserver_contract_a", "test_it_works[embedded-2]", "<failure/>"),
            ("apiserver.test_apiserver_contract_a", "test_it_works[real-1]", "<skipped/>"),
            ("apiserver.test_apiserver_contract_a", "test_it_works[real-2]", ""),
            ("apiserver.test_apiserver_contract_a", "test_only_here", ""),
            ("apiserver.test_apiserver_contract_a", "test_never[embedded]", "<error/>"),
            ("dns.test_other", "test_elsewhere", ""),
        )
    )
)


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("contract_table", ROOT / "tools" / "contract_table.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_behaviour_holds_when_all_its_cases_passed(tool: ModuleType) -> None:
    text = tool.table(tool.read(RESULTS), {"test_apiserver_contract_a": "something"})
    assert text.splitlines()[0] == "### Something"
    assert text.splitlines()[4:] == [
        "| It works | 1 of 2 cases | not tried |",
        "| Only here | yes | not tried |",
        "| Never | no | not tried |",
    ]


def test_only_what_is_between_the_marks_is_replaced(tool: ModuleType) -> None:
    page = f"before\n{tool.BEGIN}\nold\n{tool.END}\nafter\n"
    once = tool.insert(page, "new\n")
    assert once == f"before\n{tool.BEGIN}\n\nnew\n\n{tool.END}\nafter\n"
    assert tool.insert(once, "new\n") == once
    with pytest.raises(ValueError, match="contract: begin"):
        tool.insert("no marks", "new")


def test_the_page_names_every_contract_test_and_no_other(tool: ModuleType) -> None:
    rows = re.findall(r"^\| (?!Behaviour|---)(.+?) \|", tool.PAGE.read_text(), re.MULTILINE)
    named = set()
    for path in (ROOT / "tests" / "apiserver").glob("test_apiserver_contract_*.py"):
        for name in re.findall(r"^(?:async )?def test_(\w+)\(", path.read_text(), re.MULTILINE):
            named.add(tool.sentence(name))
    assert set(rows) == named
