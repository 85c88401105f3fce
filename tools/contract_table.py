#!/usr/bin/env python3
"""Writes the contract of the embedded API server into docs/apiserver.md, from the results of its tests.

`pytest tests/apiserver --junit-xml=results.xml && tools/contract_table.py results.xml`: a row for every test
of tests/apiserver/test_apiserver_contract_*.py, a column for each server it ran against. A behaviour holds
when all cases of its test passed. With --check nothing is written; exit code 1 says the page is out of date.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
import xml.etree.ElementTree as Xml
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "apiserver.md"
BEGIN, END = "<!-- contract: begin -->", "<!-- contract: end -->"
SERVERS = ("embedded", "real")
_CASE = re.compile(r"^test_(?P<behaviour>\w+?)(?:\[(?P<server>embedded|real)\b.*\]|\[.*\])?$")

Results = Mapping[str, Mapping[str, Mapping[str, Sequence[bool | None]]]]
"""Module name -> behaviour -> server -> outcome of every case; None for one that did not run."""


def read(text: str) -> Results:
    """The outcomes of a JUnit file, of contract tests only."""
    results: dict[str, dict[str, dict[str, list[bool | None]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(list))
    )
    for case in Xml.fromstring(text).iter("testcase"):
        module = case.get("classname", "").rpartition(".")[2]
        found = _CASE.match(case.get("name", ""))
        if not module.startswith("test_apiserver_contract_") or found is None:
            continue
        broken = case.find("failure") is not None or case.find("error") is not None
        outcome = False if broken else None if case.find("skipped") is not None else True
        results[module][found["behaviour"]][found["server"] or "embedded"].append(outcome)
    return results


def holds(outcomes: Sequence[bool | None]) -> str:
    """A cell: whether a behaviour holds, as far as it was tried."""
    if not outcomes or None in outcomes:
        return "not tried"
    good = sum(outcome is True for outcome in outcomes)
    return "yes" if good == len(outcomes) else "no" if good == 0 else f"{good} of {len(outcomes)} cases"


def sentence(behaviour: str) -> str:
    text = behaviour.replace("_", " ")
    return text[0].upper() + text[1:]


def title(module: str) -> str:
    """What a module's docstring says its contract is about."""
    source = (ROOT / "tests" / "apiserver" / f"{module}.py").read_text()
    first = (ast.get_docstring(ast.parse(source)) or module).splitlines()[0]
    return first.removeprefix("Contract: ").rstrip(".")


def table(results: Results, titles: Mapping[str, str]) -> str:
    """The tables in Markdown, one for every module."""
    parts: list[str] = []
    for module in sorted(results):
        heading = titles[module]
        parts += [f"### {heading[0].upper()}{heading[1:]}", ""]
        parts += ["| Behaviour | embedded | real |", "| --- | --- | --- |"]
        for behaviour, outcomes in results[module].items():
            cells = " | ".join(holds(outcomes.get(server, ())) for server in SERVERS)
            parts.append(f"| {sentence(behaviour)} | {cells} |")
        parts.append("")
    return "\n".join(parts)


def insert(page: str, tables: str) -> str:
    """A page with everything between its marks replaced."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{tables}\n{END}{after}"


def main(arguments: Iterable[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("results", type=Path, help="what pytest --junit-xml wrote")
    parser.add_argument("--check", action="store_true", help="only say whether the page is up to date")
    given = parser.parse_args(list(arguments))
    results = read(given.results.read_text())
    if not results:
        sys.stderr.write(f"{given.results}: no contract test ran\n")
        return 2
    page = PAGE.read_text()
    written = insert(page, table(results, {module: title(module) for module in results}))
    if given.check:
        if written != page:
            sys.stderr.write(f"{PAGE.relative_to(ROOT)} is out of date: run tools/contract_table.py\n")
        return int(written != page)
    PAGE.write_text(written)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
