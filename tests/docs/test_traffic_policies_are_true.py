"""docs/traffic-policy.md: each worked example is planned and gives its table; no field is missing."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from isthmus.api.policy_spec import PolicySpec
from isthmus.api.structural import structural
from isthmus.cli import clusterset
from isthmus.console.explanation import Unanswerable, find_port, find_vantage
from isthmus.model.names import ServiceKey, Vantage

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "traffic-policy.md").read_text()
WORLD = ROOT / "examples" / "policies" / "clusterset.yaml"
KEY = ServiceKey("shop", "checkout")
WHOLE = "the service"


class Example(NamedTuple):
    """A section of the page: its policies and the rows of its table by column."""

    title: str
    policies: str
    rows: tuple[dict[str, str], ...]


def examples() -> list[Example]:
    return [example(section) for section in re.split(r"^### ", PAGE, flags=re.MULTILINE)[1:]]


def example(section: str) -> Example:
    (policies,) = re.findall(r"```yaml\n(.*?)```", section, re.DOTALL)
    lines = [line for line in section.partition("\n## ")[0].splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    rows = tuple(dict(zip(cells[0], row, strict=True)) for row in cells[2:])
    return Example(section.splitlines()[0], policies, rows)


def shares(text: str) -> dict[str, float]:
    """`eu-1 80%, us-1 20%` by place."""
    found = re.findall(r"([a-z0-9/-]+) ([0-9.]+)%", text)
    assert ", ".join(f"{place} {share}%" for place, share in found) == text
    return {place: float(share) for place, share in found}


def told(row: dict[str, str], policies: Path) -> tuple[dict[str, float], str]:
    """What the plan of a row gives, by cluster or by zone as the row itself does, and the policy in force."""
    world = clusterset.read([str(WORLD), str(policies)])
    assert not world.refusals
    clusterset.mark_down(world, [] if row["Down"] == "nothing" else row["Down"].split(", "))
    vantage = find_vantage(world.places(), row["callers in"])
    assert isinstance(vantage, Vantage), vantage
    service = world.services[KEY]
    wanted = row.get("port", "http")
    port = None if wanted == WHOLE else find_port(service, wanted)
    assert not isinstance(port, Unanswerable), port
    plan = world.reckon(service, port, vantage).plan
    found: Counter[str] = Counter()
    for group in plan.shares:
        place = f"{group.locality.cluster}/{group.locality.zone}"
        found[place if "/" in row["go to"] else place.partition("/")[0]] += group.basis_points
    return {place: points / 100 for place, points in found.items()}, plan.policy


def test_there_are_nine_worked_examples() -> None:
    assert "## Nine worked examples" in PAGE
    assert len(examples()) == 9
    assert all(len(one.rows) >= 3 for one in examples())


@pytest.mark.parametrize("one", examples(), ids=lambda one: one.title)
def test_a_worked_example_gives_what_its_table_says(one: Example, tmp_path: Path) -> None:
    policies = tmp_path / "policy.yaml"
    policies.write_text(one.policies)
    for row in one.rows:
        found, policy = told(row, policies)
        assert found == shares(row["go to"]), row
        assert policy == row.get("policy", policy), row


def fields(schema: dict[str, Any]) -> Iterator[str]:
    """Every name of the schema, at any depth."""
    for name, part in schema.get("properties", {}).items():
        yield name
        yield from fields(part)
    if "items" in schema:
        yield from fields(schema["items"])


def allowed(schema: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Words of every enumeration, with the field they belong to."""
    for name, part in schema.get("properties", {}).items():
        yield from ((name, word) for word in part.get("enum", ()))
        yield from allowed(part)
    if "items" in schema:
        yield from allowed(schema["items"])


SCHEMA = structural(PolicySpec.model_json_schema(by_alias=True))


def test_every_field_of_the_policy_is_explained() -> None:
    table = PAGE.partition("## All fields")[2]
    words = set(re.findall(r"\w+", " ".join(re.findall(r"`([^`]+)`", table))))
    assert set(fields(SCHEMA)) - words == set()
    health = (ROOT / "docs" / "health.md").read_text()
    for field, word in allowed(SCHEMA):
        assert word in table or f"`{word}`" in health, (field, word)


def test_every_bound_of_a_number_is_told_as_the_schema_has_it() -> None:
    table = PAGE.partition("## All fields")[2]
    for name in ("overprovisioningPercent", "expectedEndpoints", "drainSeconds"):
        part = SCHEMA["properties"][name]
        assert f"| `{name}` | {part['minimum']} to {part['maximum']} |" in table, name
    assert f"| `targets` | 1 to {SCHEMA['properties']['targets']['maxItems']} of" in table
    assert f"| `tiers` | 1 to {SCHEMA['properties']['tiers']['maxItems']} |" in table
