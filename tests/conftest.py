"""What all rooms' tests share.

A test that takes `worked_case` runs once for every worked case of tests/traffic/split-vectors.yaml
(`worked_case.name`, `worked_case.plan()`); one that takes `worked_cases` gets them all. The module itself can
be imported as `worked_cases`. Hypothesis judges what a test finds, never how long it takes.

A test that is marked `realapi` runs only where the programs of a real control plane are; `control_planes`
starts clusters of it, once per session. With ISTHMUS_NO_SKIPS=1 every skip is a failure.
"""

from __future__ import annotations

import ast
import functools
import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from control_plane import ControlPlanes

settings.register_profile("isthmus", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("isthmus")


def _undisturbed(parse: Any) -> Any:
    """`ast.parse` that no garbage collection interrupts.

    Before Python 3.11.8 a tree that is made while another one is being made spoils that one (gh-106905): a
    finalizer or a log line that formats a traceback does so, and hypothesis and pytest make many trees.
    """

    @functools.wraps(parse)
    def undisturbed(*arguments: Any, **options: Any) -> Any:
        collects = gc.isenabled()
        gc.disable()
        try:
            return parse(*arguments, **options)
        finally:
            if collects:
                gc.enable()

    return undisturbed


if sys.version_info < (3, 11, 8):
    ast.parse = _undisturbed(ast.parse)

sys.path.append(str(Path(__file__).parent / "traffic"))  # test folders are not packages
sys.path.append(str(Path(__file__).parent / "realapi"))
sys.path.append(str(Path(__file__).parent / "scripted"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite what golden tests expect")
    parser.addoption(
        "--both-servers",
        action="store_true",
        help="run conformance tests on embedded API servers too, where they run on real ones",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "realapi(*programs): needs a real control plane, or just these programs of it"
    )


def pytest_runtest_setup(item: pytest.Item) -> None:
    markers = list(item.iter_markers("realapi"))
    if markers:
        from control_plane_binaries import SERVERS, binaries  # only for those who ask

        try:
            binaries(*dict.fromkeys(name for marker in markers for name in marker.args or SERVERS))
        except LookupError as missing:
            pytest.skip(f"realapi: {missing}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    return _unskipped((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Any:
    return _unskipped((yield))


def _unskipped(report: Any) -> Any:
    """The report, with a skip turned into a failure where skips are not allowed."""
    if (
        not report.skipped
        or hasattr(report, "wasxfail")
        or os.environ.get("ISTHMUS_NO_SKIPS", "0") in ("", "0")
    ):
        return report
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
    report.outcome = "failed"
    report.longrepr = f"{report.nodeid}: may not be skipped here (ISTHMUS_NO_SKIPS): {reason}"
    return report


@pytest.fixture(scope="session")
def control_planes() -> Iterator[ControlPlanes]:
    """Real clusters for tests marked `realapi`: `control_planes.clusters("a", "b")` starts and keeps them."""
    from control_plane import ControlPlanes

    running = ControlPlanes()
    yield running
    running.close()


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
