"""An import that is handed over becomes ours whatever happens first, and however late each watch hears of it.

What is compared again after a while is not here: what had to wait for that was missed.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import msgspec
import pytest

from isthmus.agent import inputs
from isthmus.agent.chain import Chain, Place
from isthmus.agent.inputs import Hub, Member
from isthmus.agent.outputs import Outputs
from isthmus.agent.writing import MEMBER_KINDS, Writing
from isthmus.api import crds, kinds, labels
from isthmus.api.meta import Kind, ObjectKey
from isthmus.apiserver import ApiServer, ClusterConfig
from isthmus.errors import Conflict, NotFound
from isthmus.flow import Graph
from isthmus.kube import applier
from isthmus.kube.client import Client
from isthmus.kube.config import Access
from isthmus.kube.credentials import Files
from isthmus.kube.raw import RawObject, raw
from isthmus.mcs.hubobjects import exported_endpoints, exported_service
from isthmus.mcs.serviceimport import derived_name
from isthmus.model.names import ClusterId, EndpointId, ServiceKey
from isthmus.model.service import Endpoint, EndpointPort, Export, Port, Protocol, ServiceType

OTHER = ClusterId("eu-2")
SECONDS = 120.0
LATE = 0.02
STEPS = ("made", "handed over", "exported", "name taken", "name free")
ORDERS = [
    order
    for order in itertools.permutations(STEPS)
    if order.index("made") < order.index("handed over")
    and order.index("name taken") < order.index("name free")
]


class Late(Client):
    """A client whose watches and answers are late, each by chance."""

    rng = Random(0)

    @asynccontextmanager
    async def watch(self, kind: Kind[Any], **options: Any) -> AsyncIterator[AsyncIterator[bytes]]:
        async with super().watch(kind, **options) as lines:

            async def late() -> AsyncIterator[bytes]:
                async for line in lines:
                    await asyncio.sleep(self.rng.random() * LATE)
                    yield line

            yield late()

    async def _request(self, method: str, path: str, **options: Any) -> bytes:
        await asyncio.sleep(self.rng.random() * LATE)
        answer = await super()._request(method, path, **options)
        await asyncio.sleep(self.rng.random() * LATE)
        return answer


class World:
    """A member with the part of an agent that imports, and a hub of which the test says what it has."""

    def __init__(self, user: Client, agent: Client) -> None:
        self.user = user
        self.chain = Chain(Place(cluster=ClusterId("eu-1"), region="eu", network=""), Member(), Hub())
        self.outputs = Outputs(self.chain)
        self.hub = {kind.plural: table.partition("test") for kind, table in self.chain.hub.pairs()}
        self.decode = {kind.plural: kind.decode for kind, _table in self.chain.hub.pairs()}
        for writer in self.hub.values():
            writer.replace({})
        for table in (self.chain.health, self.chain.membership, self.chain.vantages, self.outputs.asked):
            table.partition("test").replace({})
        self.outputs.hub_refused.partition("test").replace({})
        self.chain.session.partition("test").replace({"hub": True})
        member = {"metadata": {"name": OTHER}, "spec": {"uid": "other"}}
        self.tell(kinds.CLUSTER, member)
        self.graph = Graph(self.outputs.tables)
        self.sources = inputs.sources(agent, self.chain.member.pairs(), asyncio.Semaphore(8))
        self.writing = Writing(
            agent,
            "member",
            self.outputs.member,
            lambda: True,
            MEMBER_KINDS,
            refused=self.outputs.member_refused,
            spares=self.outputs.let_go.spares_member,
        )
        self.writing.applier.hear(kinds.SERVICE, self.chain.member.services)

    def works(self) -> list[Awaitable[None]]:
        reflectors = [source.reflector.run() for source in self.sources]
        return [self.graph.run(), self.writing.run(), *reflectors]

    def tell(self, kind: Kind[Any], body: dict[str, Any]) -> None:
        metadata = body["metadata"]
        key = ObjectKey(metadata.get("namespace", ""), metadata["name"])
        self.hub[kind.plural].put(key, self.decode[kind.plural](msgspec.json.encode(body)))

    async def get(self, kind: Kind[Any], name: str) -> RawObject | None:
        try:
            return await self.user.get(raw(kind), ObjectKey("shop", name))
        except NotFound:
            return None

    async def slices(self, selector: str) -> int:
        page = await self.user.list_page(kinds.ENDPOINT_SLICE, namespace="shop", label_selector=selector)
        return len(page.items)


class Story:
    """One service, and what happens to it."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.key = ServiceKey("shop", name)
        self.derived = derived_name(self.key)
        self.taken = False

    async def step(self, what: str) -> None:
        user, name = self.world.user, self.key.name
        match what:
            case "made":
                spec = {"type": "ClusterSetIP", "ports": [{"port": 1234}], "ips": ["192.0.2.1"]}
                await user.apply(raw(kinds.SERVICE_IMPORT), self._body(name, spec), manager="other-mcs")
            case "handed over":
                asked = {"metadata": {"annotations": {labels.ADOPT: "true"}}}
                await user.patch(kinds.SERVICE_IMPORT, ObjectKey("shop", name), asked)
            case "exported":
                self.export()
            case "name taken":
                ports = {"ports": [{"port": 80}]}
                body = {
                    "apiVersion": "v1",
                    "kind": "Service",
                    "metadata": {"name": self.derived},
                    "spec": ports,
                }
                body["metadata"]["namespace"] = "shop"
                try:
                    await user.create(kinds.SERVICE, body)
                    self.taken = True
                except Conflict:
                    pass  # ours was there first
            case "name free":
                if self.taken:
                    await user.delete(kinds.SERVICE, ObjectKey("shop", self.derived))

    def _body(self, name: str, spec: dict[str, Any]) -> dict[str, Any]:
        kind = kinds.SERVICE_IMPORT
        metadata = {"namespace": "shop", "name": name}
        return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, "spec": spec}

    def export(self) -> None:
        export = Export(
            cluster=OTHER,
            key=self.key,
            created=1_767_323_045.0,
            type=ServiceType.CLUSTER_SET_IP,
            ports=(Port(name="http", protocol=Protocol.TCP, port=80),),
        )
        self.world.tell(kinds.EXPORTED_SERVICE, exported_service(export))
        endpoint = Endpoint(
            id=EndpointId("pod"),
            cluster=OTHER,
            region="eu",
            zone="eu-a",
            addresses=("10.65.0.1",),
            ports=(EndpointPort(name="http", protocol=Protocol.TCP, port=8080),),
        )
        for body in exported_endpoints(self.key, OTHER, [endpoint]).values():
            self.world.tell(kinds.EXPORTED_ENDPOINTS, body)

    def unexport(self) -> None:
        for kind in (kinds.EXPORTED_SERVICE, kinds.EXPORTED_ENDPOINTS):
            writer = self.world.hub[kind.plural]
            for key in sorted(writer.keys()):
                if key.name.startswith(f"{self.key.name}."):
                    writer.drop(key)

    async def adopted(self) -> bool:
        """Whether import, status, address and slices are as of an import of our own."""
        found = await self.world.get(kinds.SERVICE_IMPORT, self.key.name)
        service = await self.world.get(kinds.SERVICE, self.derived)
        if found is None or service is None:
            return False
        ours = found["metadata"].get("labels", {}).get(labels.MANAGED_BY) == labels.MANAGER
        addressed = found["spec"].get("ips") == service["spec"]["clusterIPs"]
        told = found.get("status", {}).get("clusters") == [{"cluster": OTHER}]
        slices = await self.world.slices(f"{labels.IMPORT_NAME}={self.key.name}")
        return ours and addressed and told and slices == 1

    async def gone(self) -> bool:
        left = [
            await self.world.get(kinds.SERVICE_IMPORT, self.key.name),
            await self.world.get(kinds.SERVICE, self.derived),
        ]
        return not any(left) and not await self.world.slices(f"{labels.IMPORT_NAME}={self.key.name}")


@pytest.mark.parametrize("seed", range(2))
async def test_an_import_is_adopted_whatever_happens_first(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(applier, "RESYNC_SECONDS", 3_600.0)
    monkeypatch.setattr(applier, "LASTING_SECONDS", 1.0)
    Late.rng = rng = Random(seed)

    async def settles(condition: Callable[[], Awaitable[bool]], what: str) -> None:
        try:
            async with asyncio.timeout(SECONDS):
                while not await condition():
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"seed {seed}: {what}") from None

    async def tell(world: World, number: int) -> None:
        order = ORDERS[number]
        story = Story(world, f"web-{number}")
        for what in order:
            await story.step(what)
            await asyncio.sleep(rng.random() * 4 * LATE * rng.randint(0, 1))
        await settles(story.adopted, f"not adopted in time: {', '.join(order)}")
        story.unexport()
        await settles(story.gone, f"not gone in time: {', '.join(order)}")

    async with ApiServer([ClusterConfig(name="eu-1")]) as server:
        access = Access(name="eu-1", server=server.url("eu-1"), source=Files(where="eu-1", encrypted=False))
        async with Client(access) as user, Late(access) as agent:
            for crd in crds.member_crds():
                await user.create(kinds.CRD, crd)
            space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}
            await user.create(kinds.NAMESPACE, space)
            world = World(user, agent)
            tasks = [asyncio.create_task(work) for work in world.works()]  # type: ignore[arg-type]
            try:
                async with asyncio.TaskGroup() as stories:
                    for number in range(len(ORDERS)):
                        stories.create_task(tell(world, number))
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
