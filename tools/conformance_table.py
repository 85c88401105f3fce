#!/usr/bin/env python3
"""Writes into docs/conformance.md which tests hold each rule of KEP-1645 and each upstream conformance spec.

A test says what it covers in its docstring's first line: `Rules: C2, C4. Specs: 13.` (`-`: none; `Spec: 14`
alone is enough). With --check nothing is written; exit code 1 says that the page is out of date or a rule
or spec has no test.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "conformance.md"

RULES: Mapping[str, str] = {
    "R1": "Only a ServiceExport of the same namespace and name exports a Service.",
    "R2": "ExternalName is not valid; NodePort and LoadBalancer get an address; no cluster IP is Headless.",
    "R3": "One ServiceImport in every cluster with the namespace, exporting ones included, nowhere else.",
    "R4": "An import stands as long as one valid export does.",
    "R5": "Clusterset IPs are stable for the life of the import; `ips` and `ipFamilies` fit together.",
    "R6": "Nothing changes for `cluster.local` and the Service of the same name.",
    "R7": "What cannot be imported is told on the import (`IPFamilyNotSupported`).",
    "C1": "The oldest export wins, by creationTimestamp; ties by cluster name.",
    "C2": "A conflict is told on all exports; a newcomer changes nothing that is live.",
    "C3": "Ports are a union, by name, then by protocol and number; traffic goes where a port is exposed.",
    "C4": "Type, affinity, traffic policy and distribution, labels and annotations: all of the oldest.",
    "C5": "Address families that reach only a part of the endpoints are a conflict.",
    "C6": "An export that is not valid is in no merge and in no conflict.",
    "C7": "Another appProtocol is a port conflict; the oldest is kept.",
    "E1": "A slice holds one source cluster, has both labels, its manager, and its import as owner.",
    "E2": "What becomes of a silent cluster's slices (see below).",
    "E3": "Ready endpoints only, with conditions, zone and hostname.",
    "D1": "TXT `dns-version`.",
    "D2": "A, AAAA and SRV of a service with clusterset IPs.",
    "D3": "A, AAAA, SRV and pod names of a headless service; none without a ready endpoint.",
    "D4": "No name for all endpoints of one cluster, none for what is not exported.",
    "D5": "Cluster ids of two labels.",
    "D6": "The zone `cluster.local` is left alone.",
}
SPECS: Mapping[str, str] = {
    "1": "An import exists exactly as long as one cluster exports",
    "2": "A ClusterIP export makes a ClusterSetIP import in each cluster",
    "3": "sessionAffinity and its configuration match",
    "4": "internalTrafficPolicy matches",
    "5": "trafficDistribution matches",
    "6": "An address for each IP family",
    "7": "The ports match",
    "8": "Union of ports, and a conflict",
    "9": "Conflicting ports",
    "10": "A headless export makes a headless import in each cluster",
    "11": "No address for a headless import",
    "12": "ExternalName is not valid",
    "13": "Conflicting headlessness",
    "14": "What is not exported cannot be reached",
    "15": "Only exported labels and annotations are propagated",
    "16": "Conflicting labels and annotations",
    "17": "EndpointSlices with the required labels in each cluster",
    "18": "DNS: addresses of a ClusterSetIP service",
    "19": "DNS: SRV of a ClusterSetIP service",
    "20": "DNS: cluster.local is unchanged",
    "21": "DNS: addresses of a headless service",
    "22": "DNS: pods of a StatefulSet",
    "23": "DNS: SRV of a headless service",
    "24": "An exported service is reachable from all clusters",
    "25": "Only the exporting cluster's pods answer",
    "26": "Same port name, different numbers: only the oldest's endpoints",
    "27": "Different ports: each only to its own cluster",
}
_LINE = re.compile(
    r"^(?:Rules?: (?P<rules>-|[A-Z]\d+(?:, [A-Z]\d+)*)\.? ?)?(?:Specs?: (?P<specs>-|\d+(?:, \d+)*)(?:\.|$))?"
)


class Test(NamedTuple):
    """One test and what its docstring says that it covers."""

    path: Path
    name: str
    rules: Sequence[str]
    specs: Sequence[str]


def covers(docstring: str) -> tuple[Sequence[str], Sequence[str]]:
    """Rules and specs that a docstring's first line names; ValueError for one that does not exist."""
    found = _LINE.match(docstring.lstrip().partition("\n")[0])
    rules, specs = (_listed(found[name]) if found else () for name in ("rules", "specs"))
    for one, known in (*((rule, RULES) for rule in rules), *((spec, SPECS) for spec in specs)):
        if one not in known:
            raise ValueError(f"there is no {one}")
    return rules, specs


def _listed(text: str | None) -> Sequence[str]:
    return () if text in (None, "", "-") else text.split(", ")


def read(folder: Path = ROOT / "tests") -> Iterator[Test]:
    """All tests whose docstring names a rule or a spec, in the order of files and lines."""
    for path in sorted(folder.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                rules, specs = covers(ast.get_docstring(node) or "")
                if rules or specs:
                    yield Test(path.relative_to(ROOT), node.name, rules, specs)


def table(title: str, texts: Mapping[str, str], by: Mapping[str, Sequence[Test]]) -> str:
    """One row for each rule or spec with the tests that hold it."""
    rows = [f"| | {title} | held by |", "| --- | --- | --- |"]
    for name, text in texts.items():
        rows.append(f"| {name} | {text} | {'<br>'.join(map(_link, by.get(name, ())))} |")
    return "\n".join(rows) + "\n"


def _link(test: Test) -> str:
    sentence = test.name.removeprefix("test_").replace("_", " ")
    return f"[{sentence}](../{test.path.as_posix()})"


def page(before: str, tests: Iterable[Test]) -> str:
    """The page with both tables made anew."""
    rules: dict[str, list[Test]] = defaultdict(list)
    specs: dict[str, list[Test]] = defaultdict(list)
    for test in tests:
        for rule in test.rules:
            rules[rule].append(test)
        for spec in test.specs:
            specs[spec].append(test)
    missing = [name for texts, by in ((RULES, rules), (SPECS, specs)) for name in texts if not by[name]]
    if missing:
        raise ValueError(f"no test says that it covers: {', '.join(missing)}")
    made = insert(before, "rules", table("Rule", RULES, rules))
    return insert(made, "specs", table("Spec, in our words", SPECS, specs))


def insert(text: str, mark: str, made: str) -> str:
    """The text with everything between two marks replaced."""
    begin, end = f"<!-- {mark}: begin -->", f"<!-- {mark}: end -->"
    head, found, rest = text.partition(begin)
    _, ended, tail = rest.partition(end)
    if not found or not ended:
        raise ValueError(f"the page has no {begin} and {end}")
    return f"{head}{begin}\n\n{made}\n{end}{tail}"


def main(arguments: Iterable[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only say whether the page is up to date")
    given = parser.parse_args(list(arguments))
    before = PAGE.read_text()
    try:
        made = page(before, read())
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if given.check:
        if made != before:
            sys.stderr.write(f"{PAGE.relative_to(ROOT)} is out of date: run tools/conformance_table.py\n")
        return int(made != before)
    PAGE.write_text(made)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
