"""The spine's last step to the sidecar: a stock Envoy draws from the endpoints that the objects name."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

sys.path.append(str(Path(__file__).parent))  # test folders are not packages

from spine import EVERYBODY, Spine, both_serve, endpoints, kill, pods
from spineservers import SECONDS, settles

from isthmus.api import kinds
from isthmus.demo.envoy import find_envoy
from isthmus.errors import PlatformError
from isthmus.model.names import ClusterId, Vantage
from isthmus.xds.bootstrap import envoy_bootstrap
from loadtests.ports import free_port


@pytest.fixture(scope="module")
def envoy_binary() -> Path:

    try:
        return find_envoy(None, os.environ, Path.home())
    except PlatformError as missing:
        pytest.skip(str(missing))


@asynccontextmanager
async def envoy(binary: Path, folder: Path, xds_port: int) -> AsyncIterator[int]:
    """A sidecar of eu-1; gives the port of its admin interface."""
    admin = free_port()
    vantage = Vantage("eu", "", ClusterId("eu-1"))
    bootstrap = envoy_bootstrap(
        "sidecar", vantage, f"127.0.0.1:{xds_port}", f"127.0.0.1:{admin}", f"127.0.0.1:{free_port()}"
    )
    (folder / "envoy.json").write_text(json.dumps(bootstrap))
    arguments = ["-c", str(folder / "envoy.json"), "--concurrency", "1", "--log-level", "warning"]
    with (folder / "envoy.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            str(binary), *arguments, "--disable-hot-restart", stdout=log, stderr=log
        )
    try:
        yield admin
    finally:
        process.terminate()
        async with asyncio.timeout(SECONDS):
            await process.wait()


async def backends(admin: int) -> list[str]:
    """Addresses that Envoy may send a caller of `web` to, [] while it knows nothing."""
    try:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{admin}/clusters?format=json") as response,
        ):
            found = await response.json()
    except (aiohttp.ClientError, OSError):
        return []
    return sorted(
        host["address"]["socket_address"]["address"]
        for cluster in found.get("cluster_statuses", ())
        if "web.shop" in cluster["name"]
        for host in cluster.get("host_statuses", ())
    )


async def test_envoy_follows_the_endpoints_of_both_clusters(
    spine: Spine, envoy_binary: Path, tmp_path: Path
) -> None:
    await both_serve(spine)
    agent = spine.agents["eu-1"]
    async with envoy(envoy_binary, tmp_path, agent.xds_port) as admin:

        async def has(wanted: list[str]) -> bool:
            return await backends(admin) == sorted(wanted)

        await settles(lambda: has(EVERYBODY), f"Envoy has {EVERYBODY}", agent.log)
        await spine.apply("eu-2", kinds.ENDPOINT_SLICE, endpoints("eu-2", "web", ["10.65.0.9"]))
        await settles(lambda: has([*pods("eu-1"), "10.65.0.9"]), "Envoy has the new endpoint", agent.log)
        spine.servers.crash("hub")
        spine.servers.crash("eu-1")
        before, logged = agent.pid("control"), len(agent.log.read_text())
        kill(before)

        async def back() -> bool:
            assert await has([*pods("eu-1"), "10.65.0.9"]), "nothing is withdrawn because others died"
            return agent.pid("control") != before and "first plans" in agent.log.read_text()[logged:]

        await settles(back, "control serves from its last-good inputs", agent.log)
