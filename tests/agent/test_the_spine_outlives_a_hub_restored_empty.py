"""A hub that comes back with nothing: everybody exports again, and no import is lost meanwhile."""

from __future__ import annotations

import sys
from pathlib import Path

import yaml

sys.path.append(str(Path(__file__).parent))  # test folders are not packages

from spine import PATIENT, Spine, pods
from spineservers import Embedded, settles

from isthmus.api import crds, kinds
from isthmus.apiserver.server import ApiServer, ClusterConfig
from isthmus.kube.raw import RawObject
from loadtests.ports import free_port


class Apart(Embedded):
    """The hub is a server of its own, which can be replaced by an empty one."""

    members = ("eu-1", "eu-2")

    def __init__(self) -> None:
        self.server = ApiServer([ClusterConfig(name=name, port=free_port()) for name in ("eu-1", "eu-2")])
        self.port = free_port()
        self.hub = self._empty()

    def _empty(self) -> ApiServer:
        return ApiServer([ClusterConfig(name="hub", port=self.port)])

    async def start(self, root: Path) -> None:
        await self.server.start()
        await self.hub.start()
        whole = yaml.safe_load(self.server.kubeconfig())
        for part, entries in yaml.safe_load(self.hub.kubeconfig()).items():
            if isinstance(entries, list):
                known = {entry["name"] for entry in whole[part]}
                whole[part] += [entry for entry in entries if entry["name"] not in known]
        (root / "kubeconfig").write_text(yaml.safe_dump(whole))

    async def admit(self, root: Path, clients: object) -> None:
        for process in ("hub", "eu-1", "eu-2"):
            (root / f"{process}.kubeconfig").write_text((root / "kubeconfig").read_text())

    async def stop(self) -> None:
        await self.server.stop()
        await self.hub.stop()

    async def replace_hub(self) -> None:
        await self.hub.stop()
        self.hub = self._empty()
        await self.hub.start()


async def test_an_agent_that_starts_on_an_empty_hub_keeps_what_it_knew(tmp_path: Path) -> None:
    """The agent of the cluster that exports is away, too: nobody has told the new hub anything yet."""
    servers = Apart()
    async with Spine(tmp_path, servers) as spine:
        await spine.serve("eu-2", "web")
        await spine.serve("eu-2", "pods", headless=True)
        await spine.start("eu-1", "eu-2")
        agent = spine.agents["eu-1"]

        async def imported() -> RawObject | None:
            found = await spine.get("eu-1", kinds.SERVICE_IMPORT, "web")
            return found if found is not None and found["spec"].get("ips") else None

        async def resolved() -> bool:
            return await agent.addresses("pods.shop.svc.clusterset.local") == pods("eu-2")

        before = await settles(imported, "an import with an address")
        await settles(resolved, "the pods' addresses")
        await spine.agents["eu-2"].stop()
        await agent.stop()
        await servers.replace_hub()
        for crd in crds.hub_crds():
            await spine.apply("hub", kinds.CRD, crd)
        await agent.start()

        async def beats() -> bool:
            """Whether the agent has read the hub, registered, and beaten several times."""
            found = await spine.get("eu-1", kinds.SERVICE_IMPORT, "web")
            assert found is not None
            assert found["metadata"]["uid"] == before["metadata"]["uid"]
            lease = await spine.get("hub", kinds.LEASE, "heartbeat", "isthmus-eu-1")
            seen.add(lease["spec"]["renewTime"] if lease else "")
            return len(seen) > 3

        seen: set[str] = set()
        await settles(beats, "heartbeats on the new hub", agent.log)
        await settles(resolved, "the pods' addresses, still", agent.log)
        await spine.start("eu-2")

        async def exported() -> bool:
            return len(await spine.everything("hub", kinds.EXPORTED_ENDPOINTS)) == 2

        await settles(exported, "eu-2 has exported again", spine.agents["eu-2"].log)
        after = await imported()
        assert after is not None
        assert after["metadata"]["uid"] == before["metadata"]["uid"]
        assert after["spec"]["ips"] == before["spec"]["ips"]


async def test_imports_keep_their_addresses_and_answers_while_the_hub_is_filled_again(tmp_path: Path) -> None:
    servers = Apart()
    async with Spine(tmp_path, servers) as spine:
        await spine.serve("eu-2", "web")  # in one cluster alone: without the hub nobody else knows it
        await spine.serve("eu-2", "pods", headless=True)
        await spine.start("eu-1", "eu-2")
        agent, name = spine.agents["eu-1"], "pods.shop.svc.clusterset.local"

        async def imported() -> str:
            found = await spine.get("eu-1", kinds.SERVICE_IMPORT, "web")
            return ((found or {}).get("spec", {}).get("ips") or [""])[0]

        async def resolved() -> bool:
            return await agent.addresses(name) == pods("eu-2")

        address = await settles(imported, "an import with an address")
        await settles(resolved, "the pods' addresses")
        before = await spine.get("eu-1", kinds.SERVICE_IMPORT, "web")
        await servers.replace_hub()
        for crd in crds.hub_crds():
            await spine.apply("hub", kinds.CRD, crd)
        served: list[bool] = []

        async def exported() -> bool:
            served.append(await agent.addresses(name, seconds=PATIENT) == pods("eu-2"))
            found = await spine.everything("hub", kinds.EXPORTED_SERVICE)
            heard = await spine.everything("hub", kinds.EXPORTED_ENDPOINTS)
            return len(found) == len(heard) == 2

        await settles(exported, f"eu-2 has exported again; log:\n{agent.log.read_text()[-4000:]}")
        after = await spine.get("eu-1", kinds.SERVICE_IMPORT, "web")
        assert before is not None
        assert after is not None
        assert after["metadata"]["uid"] == before["metadata"]["uid"]
        assert await imported() == address
        assert all(served)
