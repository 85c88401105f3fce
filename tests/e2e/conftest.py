"""Fixtures of the end-to-end tests: two whole clusters with Isthmus, once per session.

They run only when asked for, by `-m e2e` or by their path: ISTHMUS_E2E_KUBECONFIG names a kubeconfig with two
contexts, else tools/real_clusters.sh must have prepared this machine.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parent))  # test folders are not packages

from e2eground import Built, Given, Ground, Missing
from e2einstall import Site

HERE = Path(__file__).parent


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "e2e: needs two whole clusters; runs only when asked for")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    asked = "e2e" in (config.option.markexpr or "") or any(
        Path(argument.partition("::")[0]).resolve().is_relative_to(HERE) for argument in config.args
    )
    ours = [item for item in items if item.path.is_relative_to(HERE)]
    if not asked and ours:
        config.hook.pytest_deselected(items=ours)
        items[:] = [item for item in items if item not in ours]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """A test that asks for what the ground does not have is skipped, with the reason."""
    try:
        return (yield)
    except Missing as missing:
        pytest.skip(str(missing))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[Any]:
    """A test that fails shows what Isthmus' processes said."""
    report = yield
    site = getattr(item, "funcargs", {}).get("site")
    if report.failed and site is not None:
        report.sections.append(("Isthmus", site.logs()))
    return report


@pytest.fixture(scope="session")
def ground() -> Iterator[Ground]:
    """Two clusters."""
    kubeconfig = os.environ.get("ISTHMUS_E2E_KUBECONFIG")
    try:
        found: Ground = Given(Path(kubeconfig)) if kubeconfig else Built()
    except Missing as missing:
        pytest.skip(f"e2e: {missing}")
    yield found
    found.close()


@pytest.fixture(scope="session")
def site(ground: Ground, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Isthmus on them, and callers in both."""
    running = Site(ground, tmp_path_factory.mktemp("site"))
    try:
        try:
            running.start()
        except Missing as missing:
            pytest.skip(f"e2e: {missing}")
        yield running
    finally:
        running.stop()
