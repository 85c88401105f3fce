"""What all rooms' tests share.

A test that takes `worked_case` runs once for every worked case of tests/traffic/split-vectors.yaml
(`worked_case.name`, `worked_case.plan()`); one that takes `worked_cases` gets them all. The module itself can
be imported as `worked_cases`. Hypothesis judges what a test finds, never how long it takes.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("isthmus", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("isthmus")

sys.path.append(str(Path(__file__).parent / "traffic"))  # test folders are not packages


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite what golden tests expect")


@pytest.fixture(scope="session")
def update_golden(request: pytest.FixtureRequest) -> bool:
    """Whether golden tests are to write what they find instead of comparing."""
    return bool(request.config.getoption("--update-golden"))


def _worked_cases() -> list[Any]:
    from worked_cases import load_worked_cases  # only for those who ask: it needs the whole of traffic

    cases: list[Any] = load_worked_cases()
    return cases


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "worked_case" in metafunc.fixturenames:
        cases = _worked_cases()
        metafunc.parametrize("worked_case", cases, ids=[case.name for case in cases])


@pytest.fixture(scope="session")
def worked_cases() -> list[Any]:
    """Every worked case of traffic-semantics, sections 2 and 3."""
    return _worked_cases()
