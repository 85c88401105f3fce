"""An agent's tables with one exported service, for tests that need no process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from isthmus.agent.acceptance import PolicyKey
from isthmus.agent.chain import Chain, Place
from isthmus.agent.inputs import Hub, Member
from isthmus.agent.outputs import Outputs
from isthmus.api import kinds
from isthmus.api.meta import Kind, ObjectKey
from isthmus.api.policy import GlobalTrafficPolicy
from isthmus.flow import Graph, Table
from isthmus.kube.applier import ObjectRef
from isthmus.kube.raw import unpack
from isthmus.mcs.hubobjects import hub_namespace
from isthmus.model.names import ClusterId

ME = ClusterId("eu-1")
WEB = ObjectKey("shop", "web")
STATUS = ObjectRef(kinds.POLICY, *WEB, "status")


def report(origin: str, name: str = "web") -> ObjectRef:
    return ObjectRef(kinds.POLICY_REPORT, hub_namespace(ME), f"{origin}.shop.{name}")


class World:
    """An agent's tables with one exported service; objects are put as Kubernetes writes them."""

    def __init__(self, remembered: Table[PolicyKey, GlobalTrafficPolicy] | None = None) -> None:
        self.member, self.hub = Member(), Hub()
        place = Place(cluster=ME, region="eu", network="")
        self.chain = Chain(place, self.member, self.hub, remembered)
        self.outputs = Outputs(self.chain)
        self.writers: dict[tuple[str, Kind[Any]], Any] = {}
        for origin, source in (("member", self.member), ("hub", self.hub)):
            for kind, table in source.pairs():
                self.writers[origin, kind] = table.partition("test")
                self.writers[origin, kind].replace({})
        self.health = self.chain.health.partition("test")
        self.health.replace({})
        self.callers = self.chain.vantages.partition("test")
        self.callers.replace({})
        self.outputs.asked.partition("test").replace({})
        self.standing = self.chain.membership.partition("test")
        self.standing.replace({})
        for refused in (self.outputs.member_refused, self.outputs.hub_refused):
            refused.partition("test").replace({})
        self.chain.session.partition("test").replace({"hub": True})
        self.graph = Graph(self.outputs.tables)
        self.put("member", kinds.NAMESPACE, ObjectKey("", "shop"))
        self.put("hub", kinds.CLUSTER, ObjectKey("", ME), spec={"region": "eu"})
        ports = [{"port": 80, "name": "http"}]
        self.put("member", kinds.SERVICE, WEB, spec={"clusterIP": "10.0.0.1", "ports": ports})
        self.put("member", kinds.SERVICE_EXPORT, WEB)

    def put(
        self,
        origin: str,
        kind: Kind[Any],
        key: ObjectKey,
        *,
        generation: int = 1,
        uid: str = "u",
        **rest: Any,
    ) -> None:
        metadata = {
            "name": key.name,
            "namespace": key.namespace,
            "uid": uid,
            "generation": generation,
            "creationTimestamp": "2026-01-01T00:00:00Z",
        }
        self.writers[origin, kind].put(key, msgspec.convert({"metadata": metadata, **rest}, kind.type))

    def policy(self, origin: str, spec: dict[str, Any], *, generation: int = 1, uid: str = "u") -> None:
        body = {
            "metadata": {"namespace": "shop", "name": "web", "uid": uid, "generation": generation},
            "spec": spec,
        }
        self.writers[origin, kinds.POLICY].put(WEB, kinds.POLICY.decode(msgspec.json.encode(body)))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.graph.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    def status(self) -> dict[str, Any]:
        return wanted(self.outputs.member, STATUS).get("status", {})

    def spec(self, origin: str) -> dict[str, Any]:
        return wanted(self.outputs.policies.desired, report(origin)).get("spec", {})

    def says(self, kind: str) -> str:
        """Status and reason of a condition on the member's policy."""
        return condition(self.status(), kind)


def wanted(table: Table[ObjectRef, Any], ref: ObjectRef) -> dict[str, Any]:
    row = table.get(ref)
    return unpack(row) if row is not None else {}


def condition(told: dict[str, Any], kind: str) -> str:
    return next((f"{c['status']} {c['reason']}" for c in told.get("conditions", ()) if c["type"] == kind), "")


async def settles(look: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not look():
            await asyncio.sleep(0.001)
