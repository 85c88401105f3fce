"""The page of metrics is what the code says, and alerts ask for what exists."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "tools" / "metrics_reference.py"
RULES = ROOT / "deploy" / "alerts" / "isthmus.rules.yaml"
DURATION = re.compile(r"([0-9]+(ms|[smhdwy]))+")
OURS = re.compile(r"\b(isthmus_[a-z_0-9]+)\b(?:\{([^}]*)\})?")
MATCHER = re.compile(r'([a-z_]+)(?:=~|!~|!=|=)"[^"]*"')
TARGET = frozenset({"instance", "pod", "job", "namespace"})
"""Labels that a scrape adds."""


@pytest.fixture(scope="module")
def families() -> dict[str, Any]:
    return {family.name: family for family in runpy.run_path(str(TOOL))["families"]()}


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def test_the_page_is_current() -> None:
    ran = subprocess.run([sys.executable, str(TOOL), "--check"], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


def test_names_say_room_noun_and_unit(families: dict[str, Any]) -> None:
    rooms = {"flow", "kube", "mcs", "fleet", "traffic", "doors", "process", "xds", "dns", "probes"}
    for name, family in families.items():
        assert re.fullmatch(r"isthmus_([a-z]+)(_[a-z0-9]+)+", name), name
        assert name.split("_")[1] in rooms, name
        assert name.endswith("_total") == (family.kind == "counter"), name
        assert family.text.endswith("."), name
        assert not {"service", "endpoint", "address", "name"} & set(family.labels), name


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: str(alert["alert"]))
def test_an_alert_asks_for_metrics_and_labels_that_exist(
    alert: dict[str, Any], families: dict[str, Any]
) -> None:
    expression = alert["expr"]
    asked = OURS.findall(expression)
    assert asked
    for name, matchers in asked:
        assert name in families
        for label in MATCHER.findall(matchers):
            assert label in families[name].labels
    for words in re.findall(r"(?:by|without) \(([^)]*)\)", expression):
        known = {label for name, _ in asked for label in families[name].labels}
        assert {word.strip() for word in words.split(",")} <= known | TARGET
    for label in re.findall(r"\$labels\.([a-z_]+)", str(alert["annotations"])):
        assert all(label in families[name].labels for name, _ in asked)


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: str(alert["alert"]))
def test_an_alert_is_well_formed(alert: dict[str, Any]) -> None:
    assert set(alert) <= {"alert", "expr", "for", "labels", "annotations"}
    assert re.fullmatch(r"Isthmus[A-Za-z]+", alert["alert"])
    assert DURATION.fullmatch(alert.get("for", "0s"))
    assert alert["labels"]["severity"] in ("warning", "critical")
    assert set(alert["annotations"]) == {"summary", "description"}
    for opening, closing in ("()", "{}", "[]"):
        assert alert["expr"].count(opening) == alert["expr"].count(closing)
    for range_ in re.findall(r"\[([^\]]*)\]", alert["expr"]):
        assert DURATION.fullmatch(range_)
