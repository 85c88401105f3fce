"""The benchmark of a large world, at a size that takes seconds."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest

from isthmus.demo import namespace
from isthmus.errors import PlatformError

BENCH = Path(__file__).parents[2] / "loadtests" / "bench" / "world.py"
SMALL = ("--clusters", "3", "--services", "40", "--endpoints", "400", "--rounds", "1", "--changes", "20")


async def test_a_small_large_world_gives_every_figure_and_a_restart_in_it_changes_nothing() -> None:
    try:
        namespace.enter_command()
    except PlatformError as error:
        pytest.skip(str(error))
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(BENCH), *SMALL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    assert out, err.decode()
    report = json.loads(out.splitlines()[-1])
    (figures,) = report["figures"]
    assert figures["exports"] > figures["services"]
    assert figures["restart_writes"] == {}
    assert figures["restart_requests"] == {}, "nor is anything written that is there already"
    assert figures["restart_leases"] > 0, "but that it lives"
    assert figures["start_ready_s"] > 0
    assert 0 < figures["control_pss_mb"] <= figures["control_peak_mb"]
    assert figures["delay_p50_ms"] > 0
