"""From objects to checks: what policies ask for, port by port, and what no neighbour can make us ask."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from fedtables import HERE, Fed, settles

from isthmus.api import kinds
from isthmus.api.meta import Kind, ObjectKey
from isthmus.flow import Graph
from isthmus.model.health import CheckProtocol, CheckTarget
from isthmus.model.names import ClusterId

EU, US = ClusterId("eu-1"), ClusterId("us-1")
API_SERVER = "10.9.9.9"
PODS = [f"10.65.0.{n}" for n in range(1, 7)]


class World(Fed):
    """A chain in cluster eu-1 that hears of shop/web in us-1: two ports, six endpoints."""

    def __init__(self) -> None:
        super().__init__(replace(HERE, api_servers=frozenset({API_SERVER})))
        self.graph = Graph([self.chain.service_checks])
        self.put("hub", kinds.CLUSTER, ObjectKey("", US))
        ports = [{"name": "http", "port": 80}, {"name": "grpc", "port": 9000}]
        self.hear(kinds.EXPORTED_SERVICE, ports=ports, ipFamilies=["IPv4"])
        self.endpoints(*PODS)

    def hear(self, kind: Kind[Any], **spec: Any) -> None:
        told = {"cluster": US, "service": {"namespace": "shop", "name": "web"}, **spec}
        offer = kind is kinds.EXPORTED_SERVICE
        if offer:
            told["exportedAt"] = "2026-01-01T00:00:00Z"
        self.put("hub", kind, ObjectKey(f"isthmus-{US}", "web.shop" if offer else "web.shop.0-0"), spec=told)

    def endpoints(self, *addresses: str) -> None:
        ports = [{"name": "http", "port": 8080}, {"name": "grpc", "port": 9090}]
        entries = [{"id": address, "addresses": [address]} for address in addresses]
        self.hear(kinds.EXPORTED_ENDPOINTS, ports=ports, endpoints=entries)

    def check(self, section: str, health: dict[str, Any]) -> None:
        """A policy that asks for these checks of one port."""
        target = {"group": "multicluster.x-k8s.io", "kind": "ServiceImport", "name": "web"}
        self.policy("member", {"targetRefs": [target | {"sectionName": section}], "health": health})

    def of(self, port: str) -> list[CheckTarget]:
        return [target for key, target in self.chain.checks.items() if key.port == port]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    async with made.running():
        yield made


async def test_a_policy_for_one_port_decides_the_checks_of_that_port_alone(world: World) -> None:
    await settles(lambda: len(world.of("TCP/80")) == len(world.of("TCP/9000")) == 3)
    assert all(target.canary for target in (*world.of("TCP/80"), *world.of("TCP/9000")))
    world.check("grpc", {"protocol": "GRPC", "interval": "2s"})
    await settles(lambda: len(world.of("TCP/9000")) == len(PODS))
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
    world.check("http", {"path": "/delete-everything"})
    await settles(lambda: len(world.of("TCP/80")) == len(PODS))
    world.endpoints(*PODS[:2], address)
    await settles(lambda: {target.address for target in world.of("TCP/80")} == set(PODS[:2]))
