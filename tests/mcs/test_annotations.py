"""The table of annotations: every one is documented as it is, and what is wrong is told in words."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from isthmus.api import labels, mcs
from isthmus.api.meta import ObjectMeta
from isthmus.mcs.annotations import ANNOTATIONS, OURS, PREFIX, flag, misplaced, quoted
from isthmus.mcs.serviceexport import export_settings
from isthmus.mcs.serviceimport import holder

PAGE = Path(__file__).parents[2] / "docs" / "annotations.md"
BEGIN, END = "<!-- annotations: begin -->", "<!-- annotations: end -->"


def table() -> str:
    rows = ["| annotation | on | value | what it does | a wrong value |", "|---|---|---|---|---|"]
    for one in ANNOTATIONS:
        cells = (f"`{one.name}`", ", ".join(one.on), one.values, one.effect, one.wrong)
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def test_the_page_shows_the_table_of_the_code(update_golden: bool) -> None:
    text = PAGE.read_text()
    before, rest = text.split(BEGIN)
    shown, after = rest.split(END)
    if update_golden:
        PAGE.write_text(f"{before}{BEGIN}\n{table()}\n{END}{after}")
        return
    assert shown.strip() == table(), "pytest tests/mcs/test_annotations.py --update-golden writes it"


def test_every_annotation_of_ours_is_in_the_table_or_is_no_ones_to_write() -> None:
    named = {value for value in vars(labels).values() if isinstance(value, str) and value.startswith(PREFIX)}
    assert named == {one.name for one in ANNOTATIONS} | OURS


def test_the_page_speaks_of_every_name_of_ours_beside_the_table() -> None:
    text = re.sub(f"{BEGIN}.*{END}", "", PAGE.read_text(), flags=re.DOTALL)
    names = {one.name for one in ANNOTATIONS} | OURS
    assert sorted(name for name in names if f"`{name}`" not in text) == []


@pytest.mark.parametrize(("text", "value"), [(None, None), ("true", True), ("false", False)])
def test_a_flag_is_true_false_or_absent(text: str | None, value: bool | None) -> None:
    assert flag({} if text is None else {labels.DRAIN: text}, labels.DRAIN) == (value, "")


@pytest.mark.parametrize("text", ["", "True", "yes", "1", " true", "x" * 5000])
def test_a_wrong_flag_names_annotation_value_and_what_is_allowed(text: str) -> None:
    value, problem = flag({labels.DRAIN: text}, labels.DRAIN)
    assert value is None
    assert problem == f'{labels.DRAIN}: {quoted(text)} must be "true" or "false"'
    assert len(problem) < 200


def test_an_annotation_of_our_prefix_that_means_nothing_there_is_told() -> None:
    found = {
        "isthmus.dev/drian": "true",
        labels.ADOPT: "true",
        labels.DRAIN: "true",
        labels.EXPORTED_AT: "2026-01-01T00:00:00Z u-1",
        "example.com/drain": "true",
    }
    unknown, elsewhere = sorted(misplaced(found, "ServiceExport"), key=lambda text: "drian" not in text)
    assert unknown.startswith("isthmus.dev/drian: is unknown; a ServiceExport may have")
    assert labels.DRAIN in unknown
    assert elsewhere == f"{labels.ADOPT}: means nothing on a ServiceExport; it belongs on a ServiceImport"


def test_every_problem_of_an_export_names_its_annotation() -> None:
    wrong = {
        labels.DRAIN: "on",
        labels.DETACH: "on",
        labels.EXPORT_TO: "EU",
        labels.EXPECTED_ENDPOINTS: "few",
        labels.PROBE: "http",
        "isthmus.dev/colour": "red",
    }
    export = mcs.ServiceExport(metadata=ObjectMeta(namespace="shop", name="web", annotations=wrong))
    problems = export_settings(export).problems
    assert sorted(problem.partition(":")[0] for problem in problems) == sorted(wrong)


@pytest.mark.parametrize(
    ("meta", "who"),
    [
        ({"labels": {labels.MANAGED_BY: labels.MANAGER}}, ""),
        ({"labels": {labels.MANAGED_BY: "helm"}}, "helm"),
        ({"owner_references": [{"kind": "Gateway", "name": "g"}]}, "Gateway g"),
        ({"managed_fields": [{"manager": "a", "subresource": "status"}, {"manager": "kubectl"}]}, "kubectl"),
        ({}, "somebody"),
    ],
)
def test_an_import_tells_who_made_it(meta: dict[str, object], who: str) -> None:
    camel = {re.sub("_(.)", lambda match: match[1].upper(), name): value for name, value in meta.items()}
    found = msgspec.convert({"metadata": {"name": "web", **camel}}, mcs.ServiceImport)
    assert holder(found) == who
