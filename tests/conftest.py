"""What all rooms' tests share.

A test that takes `worked_case` runs once for every worked case of tests/traffic/split-vectors.yaml
(`worked_case.name`, `worked_case.plan()`); one that takes `worked_cases` gets them all.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest


def _load(name: str, path: Path) -> Any:
    """Import a file of the tests under a name of its own; test folders are not packages."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


def _worked_cases() -> list[Any]:
    module = _load("worked_cases", Path(__file__).parent / "traffic" / "worked_cases.py")
    cases: list[Any] = module.load_worked_cases()
    return cases


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "worked_case" in metafunc.fixturenames:
        cases = _worked_cases()
        metafunc.parametrize("worked_case", cases, ids=[case.name for case in cases])


@pytest.fixture(scope="session")
def worked_cases() -> list[Any]:
    """Every worked case of traffic-semantics, sections 2 and 3."""
    return _worked_cases()
