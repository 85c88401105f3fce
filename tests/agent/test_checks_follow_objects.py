"""From objects to checks: what policies ask for, port by port, and what no neighbour can make us ask."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest

from isthmus.agent.chain import Chain, Place
from isthmus.agent.inputs import Hub, Member
from isthmus.api import hub
from isthmus.api.meta import ObjectKey
from isthmus.api.policy import GlobalTrafficPolicy
from isthmus.flow import Graph, Table, Writer
from isthmus.model.health import CheckProtocol, CheckTarget
from isthmus.model.names import ClusterId

EU, US = ClusterId("eu-1"), ClusterId("us-1")
API_SERVER = "10.9.9.9"
PODS = [f"10.65.0.{n}" for n in range(1, 7)]


class World:
    """A chain in cluster eu-1 that hears of shop/web in us-1: two ports, six endpoints."""

    def __init__(self) -> None:
        member, others = Member(), Hub()
        self.writers: dict[str, Writer[Any, Any]] = {}
        for _kind, table in (*member.pairs(), *others.pairs()):
            self.writers[table.name] = table.partition("test")
            self.writers[table.name].replace({})
        place = Place(cluster=EU, region="eu", network="", api_servers=frozenset({API_SERVER}))
        self.chain = Chain(place, member, others)
        for name, found in vars(self.chain).items():
            if type(found) is Table and not found.synced and name != "checks":
                found.partition("test").replace({})
        self.graph = Graph([self.chain.service_checks])
        self.put("hub/clusters", hub.Cluster, ObjectKey("", US), {})
        ports = [{"name": "http", "port": 80}, {"name": "grpc", "port": 9000}]
        self.hear("exportedservices", hub.ExportedService, ports=ports, ipFamilies=["IPv4"])
        self.endpoints(*PODS)

    def put(self, table: str, kind: Any, key: ObjectKey, body: dict[str, Any]) -> None:
        whole = {"metadata": {"namespace": key.namespace, "name": key.name}} | body
        self.writers[table].put(key, msgspec.convert(whole, kind))

    def hear(self, table: str, kind: Any, **spec: Any) -> None:
        name = "web.shop" if table == "exportedservices" else "web.shop.0-0"
        told = {"cluster": US, "service": {"namespace": "shop", "name": "web"}, **spec}
        if table == "exportedservices":
            told["exportedAt"] = "2026-01-01T00:00:00Z"
        self.put(f"hub/{table}", kind, ObjectKey(f"isthmus-{US}", name), {"spec": told})

    def endpoints(self, *addresses: str) -> None:
        ports = [{"name": "http", "port": 8080}, {"name": "grpc", "port": 9090}]
        entries = [{"id": address, "addresses": [address]} for address in addresses]
        self.hear("exportedendpoints", hub.ExportedEndpoints, ports=ports, endpoints=entries)

    def policy(self, section: str, health: dict[str, Any]) -> None:
        target = {"group": "multicluster.x-k8s.io", "kind": "ServiceImport", "name": "web"}
        body = {
            "metadata": {"namespace": "shop", "name": "web"},
            "spec": {"targetRefs": [target | {"sectionName": section}], "health": health},
        }
        key = ObjectKey("shop", "web")
        found = msgspec.json.decode(msgspec.json.encode(body), type=GlobalTrafficPolicy)
        self.writers["member/globaltrafficpolicies"].put(key, found)

    def of(self, port: str) -> list[CheckTarget]:
        return [target for key, target in self.chain.checks.items() if key.port == port]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                await asyncio.sleep(0.005)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    running = asyncio.create_task(made.graph.run())
    yield made
    running.cancel()
    await asyncio.wait([running])


async def test_a_policy_for_one_port_decides_the_checks_of_that_port_alone(world: World) -> None:
    await world.until(lambda: len(world.of("TCP/80")) == len(world.of("TCP/9000")) == 3)
    assert all(target.canary for target in (*world.of("TCP/80"), *world.of("TCP/9000")))
    world.policy("grpc", {"protocol": "GRPC", "interval": "2s"})
    await world.until(lambda: len(world.of("TCP/9000")) == len(PODS))
    assert {(target.check.effective, target.check.interval) for target in world.of("TCP/9000")} == {
        (CheckProtocol.GRPC, 2.0)
    }
    assert [(target.check.effective, target.canary) for target in world.of("TCP/80")] == [
        (CheckProtocol.TCP, True)
    ] * 3


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "169.254.169.254", "224.0.0.1", "0.0.0.0", API_SERVER, "::1", "::ffff:127.0.0.1"]
)
async def test_what_a_neighbour_may_not_name_is_never_checked(world: World, address: str) -> None:
    world.policy("http", {"path": "/delete-everything"})
    await world.until(lambda: len(world.of("TCP/80")) == len(PODS))
    world.endpoints(*PODS[:2], address)
    await world.until(lambda: {target.address for target in world.of("TCP/80")} == set(PODS[:2]))
