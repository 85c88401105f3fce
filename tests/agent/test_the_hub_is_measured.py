"""The hub's process has a console too: health, readiness and metrics."""

from __future__ import annotations

import sys
from pathlib import Path

import aiohttp

sys.path.append(str(Path(__file__).parent))  # test folders are not packages

from spine import Process, Spine, thing
from spineservers import Embedded
from spinewaits import settles

from isthmus.api import kinds
from loadtests.ports import free_port


def hub_process(folder: Path, listen: str) -> Process:
    arguments = ["hub", "--hub-kubeconfig", str(folder / "hub.kubeconfig"), "--hub-context", "hub"]
    return Process("hub", [*arguments, "--console-listen", listen], folder / "hub.log")


async def text(port: int, path: str) -> tuple[int, str]:
    try:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{port}{path}") as response,
        ):
            return response.status, await response.text()
    except aiohttp.ClientError:
        return 0, ""


async def test_the_hub_tells_its_health_and_its_clusters(tmp_path: Path) -> None:
    async with Spine(tmp_path, Embedded()) as spine:
        port = free_port()
        hub = hub_process(tmp_path, f"127.0.0.1:{port}")
        spine.hub = hub  # it is stopped with everything else
        await spine.apply("hub", kinds.CLUSTER, thing(kinds.CLUSTER, "", "eu-1", spec={"drain": True}))
        await spine.start("hub")

        async def ready() -> bool:
            return (await text(port, "/readyz"))[0] == 200

        await settles(ready, "the hub's process is ready", hub.log)
        assert (await text(port, "/healthz"))[0] == 200

        async def told() -> str:
            _, found = await text(port, "/metrics")
            wanted = (
                'isthmus_fleet_clusters{state="draining"} 1.0',
                "isthmus_kube_lease_held 1.0",
                'isthmus_kube_lists_total{table="hub/clusters"} 1.0',
                'isthmus_flow_replica_ready{process="hub"} 1.0',
            )
            return found if all(line in found for line in wanted) else ""

        await settles(told, "the hub's metrics", hub.log)
        assert (await text(port, "/v1/services"))[0] == 404


async def test_an_address_that_is_not_ours_ends_the_process_with_one_line(tmp_path: Path) -> None:
    async with Spine(tmp_path, Embedded()) as spine:
        hub = hub_process(tmp_path, "192.0.2.1:1")
        spine.hub = hub
        await hub.start()
        assert hub.process is not None
        assert await hub.process.wait() == 3
        assert hub.log.read_text().splitlines()[-1].startswith("isthmus hub: --console-listen 192.0.2.1:1: ")
