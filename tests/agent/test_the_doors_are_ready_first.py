"""`/readyz` of a running agent waits for its door workers."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

sys.path.append(str(Path(__file__).parent))  # test folders are not packages

from spine import Agent, Spine, kill
from spineservers import Embedded, settles


@pytest.fixture
async def spine(tmp_path: Path) -> AsyncIterator[Spine]:
    async with Spine(tmp_path, Embedded()) as running:
        await running.serve("eu-1", "web")
        yield running


async def readiness(agent: Agent) -> tuple[int, list[str]]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{agent.console_port}/readyz") as response,
    ):
        return response.status, (await response.json())["notReady"]


async def becomes(agent: Agent, wanted: tuple[int, list[str]]) -> None:
    async def look() -> Any:
        try:
            return await readiness(agent) == wanted
        except aiohttp.ClientError:
            return False

    await settles(look, f"readiness {wanted}", agent.log)


async def test_an_agent_is_ready_only_while_its_door_workers_serve(spine: Spine) -> None:
    """The supervisor is halted for a while, so that what was killed stays away."""
    agent = spine.agents["eu-1"]
    await agent.start()
    await becomes(agent, (200, []))
    assert agent.process is not None
    for worker in ("xds-0", "dns-0"):
        os.kill(agent.process.pid, signal.SIGSTOP)
        kill(agent.pid(worker))
        await becomes(agent, (503, [f"{worker} does not serve the rows of control yet"]))
        os.kill(agent.process.pid, signal.SIGCONT)
        await becomes(agent, (200, []))


async def test_a_worker_that_has_no_rows_yet_keeps_the_agent_unready(spine: Spine) -> None:
    """A worker that is halted before control has rows has connected, perhaps, and serves nothing."""
    agent = spine.agents["eu-1"]
    spine.servers.silence("eu-1")
    await agent.start()

    async def started() -> int | None:
        try:
            return agent.pid("dns-0")
        except (OSError, ValueError):
            return None

    worker = await settles(started, "dns-0 is started", agent.log)
    os.kill(worker, signal.SIGSTOP)
    spine.servers.revive("eu-1")
    await becomes(agent, (503, ["dns-0 does not serve the rows of control yet"]))
    os.kill(worker, signal.SIGCONT)
    await becomes(agent, (200, []))
