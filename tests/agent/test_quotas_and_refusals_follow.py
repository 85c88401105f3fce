"""The chain keeps count of what neighbours say: too much of it, and what is wrong with it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import msgspec
import pytest
import structlog
from fedtables import HERE, Fed, settles

from isthmus.agent import refusals
from isthmus.api import hub, kinds
from isthmus.api.meta import ObjectKey
from isthmus.flow import Graph, Table
from isthmus.mcs.quota import Quota
from isthmus.model.names import ClusterId, ServiceKey
from isthmus.model.refusal import Refused

EU, US = ClusterId("eu-1"), ClusterId("us-1")
SMALL = Quota(services=2, endpoints=4, bytes=1 << 20)


class World(Fed):
    """A chain in cluster eu-1 that hears what the test writes on the hub."""

    def __init__(self, quota: Quota = SMALL) -> None:
        super().__init__(replace(HERE, quota=quota), hub_live=False)
        self.callers.replace({self.chain.place.vantage: 1})
        self.graph = Graph([self.chain.services, self.chain.endpoints])
        for name in (EU, US, ClusterId("us-2")):
            self.put("hub", kinds.CLUSTER, ObjectKey("", name))

    def export(self, name: str, year: int = 2026, cluster: ClusterId = US, **spec: Any) -> ObjectKey:
        key = ObjectKey(f"isthmus-{cluster}", f"{name}.shop")
        whole = {
            "cluster": cluster,
            "service": {"namespace": "shop", "name": name},
            "exportedAt": f"{year}-01-01T00:00:00Z",
            "ports": [{"name": "http", "port": 80}],
            "ipFamilies": ["IPv4"],
        }
        self.put("hub", kinds.EXPORTED_SERVICE, key, spec=whole | spec)
        return key

    def endpoints(self, name: str, *addresses: str, chunk: str = "0-0", cluster: ClusterId = US) -> ObjectKey:
        key = ObjectKey(f"isthmus-{cluster}", f"{name}.shop.{chunk}")
        spec = {
            "cluster": cluster,
            "service": {"namespace": "shop", "name": name},
            "ports": [{"name": "http", "port": 8080}],
            "endpoints": [{"id": f"{name}-{address}", "addresses": [address]} for address in addresses],
        }
        self.put("hub", kinds.EXPORTED_ENDPOINTS, key, spec=spec)
        return key

    def names(self) -> set[str]:
        return {key.name for key in self.chain.services}


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    running = asyncio.create_task(made.graph.run())
    yield made
    running.cancel()


async def test_one_clusters_surplus_is_refused_and_everybody_else_is_heard(world: World) -> None:
    for number, name in enumerate(("a", "b", "c", "d")):
        world.export(name, 2026 - number)
    world.export("mine", cluster=ClusterId("us-2"))
    await settles(lambda: world.names() == {"c", "d", "mine"})
    assert world.chain.refusals.by_cluster() == {US: {"services": {"QuotaExceeded": 2}}}
    (told,) = world.chain.refusals.of_service(ServiceKey("shop", "a"))
    assert (told.cluster, told.what, told.refused.reason) == (US, "services", "QuotaExceeded")
    # What makes room lets the next one in, without anybody writing it again.
    world.writers["hub/exportedservices"].drop(ObjectKey("isthmus-us-1", "d.shop"))
    await settles(lambda: world.names() == {"b", "c", "mine"})
    world.writers["hub/exportedservices"].drop(ObjectKey("isthmus-us-1", "c.shop"))
    await settles(lambda: world.names() == {"a", "b", "mine"} and not world.chain.refusals.counts)


async def test_endpoints_fill_a_quota_too_and_what_was_refused_comes_back(world: World) -> None:
    world.export("old", 2020)
    world.export("new", 2021)
    world.endpoints("old", "10.1.0.1", "10.1.0.2")
    world.endpoints("new", "10.1.1.1", "10.1.1.2")
    await settles(lambda: world.names() == {"old", "new"})
    key = world.endpoints("old", "10.1.0.3", chunk="0-1")
    await settles(lambda: world.names() == {"old"})
    world.writers["hub/exportedendpoints"].drop(key)
    await settles(lambda: world.names() == {"old", "new"})


async def test_counts_return_to_nothing_when_a_cluster_is_gone(world: World) -> None:
    keys = [world.export("a"), world.export("b")]
    chunk = world.endpoints("a", "10.1.0.1", "10.1.0.2")
    await settles(lambda: US in world.chain.quotas.loads and len(world.chain.services) == 2)
    assert world.chain.quotas.loads[US][:2] == (2, 2)
    for key in keys:
        world.writers["hub/exportedservices"].drop(key)
    world.writers["hub/exportedendpoints"].drop(chunk)
    await settles(lambda: US not in world.chain.quotas.loads)


async def test_endpoints_that_weigh_nothing_may_outlive_their_export(world: World) -> None:
    key, chunk = world.export("a"), world.endpoints("a")
    await settles(lambda: US in world.chain.quotas.loads and len(world.chain.heard_endpoints) == 1)
    with structlog.testing.capture_logs() as lines:
        world.writers["hub/exportedservices"].drop(key)
        await settles(lambda: US not in world.chain.quotas.loads)
        world.writers["hub/exportedendpoints"].drop(chunk)
        await settles(lambda: not len(world.chain.heard_endpoints))
    assert not lines


async def test_endpoints_without_an_export_are_no_offer_until_it_comes(world: World) -> None:
    ordered: list[ClusterId] = []
    offers = world.chain.quotas._offers

    def noting(cluster: ClusterId) -> Any:
        ordered.append(cluster)
        return offers(cluster)

    world.chain.quotas._offers = noting  # type: ignore[method-assign]
    world.export("old", 2020)
    world.endpoints("old", "10.1.0.1")
    world.endpoints("new", "10.1.1.1", "10.1.1.2")
    chunk = world.endpoints("new", "10.1.1.3", "10.1.1.4", chunk="0-1")
    await settles(lambda: world.names() == {"old"} and len(world.chain.heard_endpoints) == 3)
    assert world.chain.quotas.loads[US][:2] == (1, 1)
    assert not ordered
    late = world.export("new", 2021)
    await settles(lambda: bool(world.chain.refusals.counts))
    assert world.chain.quotas.loads[US][:2] == (2, 5)
    assert world.names() == {"old"}
    world.writers["hub/exportedendpoints"].drop(chunk)
    await settles(lambda: world.names() == {"old", "new"})
    world.writers["hub/exportedservices"].drop(late)
    await settles(lambda: world.chain.quotas.loads[US][:2] == (1, 1))


async def test_a_cluster_that_offers_too_much_is_put_in_order_at_most_once_a_second(world: World) -> None:
    ordered = 0
    offers = world.chain.quotas._offers

    def counting(cluster: ClusterId) -> Any:
        nonlocal ordered
        ordered += 1
        return offers(cluster)

    world.chain.quotas._offers = counting  # type: ignore[method-assign]
    began = time.monotonic()
    for number in range(50):
        world.export(f"s{number:02}", 2000 + number % 20)
        await asyncio.sleep(0.001)
    await settles(lambda: len(world.names()) == 2)
    assert 1 <= ordered <= 5 + time.monotonic() - began, "not fifty times"


async def test_what_a_cluster_says_wrong_is_counted_by_reason_and_its_siblings_live(world: World) -> None:
    world.export("good")
    world.export("bad", type="ExternalName")
    world.endpoints("good", "10.1.0.1", "127.0.0.1", "169.254.169.254")
    chunk = world.endpoints("lonely", "10.1.0.2")  # a chunk without its service
    world.writers["hub/exportedendpoints"].put(
        ObjectKey("isthmus-us-1", "good.shop.0-9"), hub.ExportedEndpoints()
    )
    await settles(lambda: world.names() == {"good"} and len(world.chain.endpoints) == 2)
    assert world.chain.refusals.by_cluster() == {
        US: {
            "chunks": {"WrongSpeaker": 1},
            "endpoints": {"ForbiddenAddress": 2},
            "services": {"InvalidType": 1},
        }
    }
    endpoints = world.chain.endpoints.get((ServiceKey("shop", "good"), US))
    assert endpoints is not None
    assert [one.addresses for one in endpoints] == [("10.1.0.1",)]
    world.endpoints("good", "10.1.0.1")
    world.export("bad")
    world.writers["hub/exportedendpoints"].drop(chunk)
    world.writers["hub/exportedendpoints"].drop(ObjectKey("isthmus-us-1", "good.shop.0-9"))
    await settles(lambda: not world.chain.refusals.counts)
    assert list(world.chain.refusals.of_service(ServiceKey("shop", "good"))) == []


async def test_an_address_becomes_ours_and_a_neighbour_may_not_name_it_any_more(world: World) -> None:
    world.export("web")
    world.endpoints("web", "10.64.3.9", "10.65.0.1", "172.18.0.2")

    def heard() -> list[str]:
        found = world.chain.endpoints.get((ServiceKey("shop", "web"), US)) or ()
        return sorted(address for one in found for address in one.addresses)

    await settles(lambda: heard() == ["10.64.3.9", "10.65.0.1", "172.18.0.2"])
    world.put("member", kinds.NODE, ObjectKey("", "n1"), spec={"podCIDRs": ["10.64.3.0/24"]})
    await settles(lambda: heard() == ["10.65.0.1", "172.18.0.2"])
    servers: dict[str, Any] = {
        "metadata": {
            "namespace": "default",
            "name": "kubernetes",
            "labels": {"kubernetes.io/service-name": "kubernetes"},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["172.18.0.2"]}],
    }
    world.put("member", kinds.ENDPOINT_SLICE, ObjectKey("default", "kubernetes"), **servers)
    await settles(lambda: heard() == ["10.65.0.1"])
    world.writers["member/nodes"].drop(ObjectKey("", "n1"))
    world.writers["member/endpointslices"].drop(ObjectKey("default", "kubernetes"))
    await settles(lambda: len(heard()) == 3)


async def test_another_networks_addresses_may_be_like_ours(world: World) -> None:
    world.put("member", kinds.NODE, ObjectKey("", "n1"), spec={"podCIDRs": ["10.64.3.0/24"]})
    world.export("web")
    key = world.endpoints("web", "10.64.3.9")
    found = world.hub.exported_endpoints.get(key)
    assert found is not None
    elsewhere = msgspec.structs.replace(found, spec=msgspec.structs.replace(found.spec, network="lab"))
    world.writers["hub/exportedendpoints"].put(key, elsewhere)
    await settles(lambda: bool(world.chain.endpoints.get((ServiceKey("shop", "web"), US))))


async def test_this_clusters_own_surplus_is_told_to_its_owner_and_not_offered(world: World) -> None:
    for number, name in enumerate(("a", "b", "c")):
        key = ObjectKey("shop", name)
        since = {"creationTimestamp": f"202{number}-01-01T00:00:00Z"}
        spec = {"clusterIP": "10.0.0.1", "ports": [{"name": "http", "port": 80}]}
        world.put("member", kinds.SERVICE, key, spec=spec)
        world.put("member", kinds.SERVICE_EXPORT, key, metadata=since)
    await settles(lambda: world.names() == {"a", "b"})
    answer = world.chain.own_exports.get(ServiceKey("shop", "c"))
    assert isinstance(answer, Refused)
    assert answer.reason == "QuotaExceeded"


def test_the_log_hears_of_the_first_and_the_last_and_of_flapping_once_a_minute() -> None:
    now = 0.0
    exports: Table[ObjectKey, Any] = Table("exports")
    writer = exports.partition("test")
    followed = refusals.Refusals(Table("clusters"), exports, Table("endpoints"), Table("joined"), lambda: now)
    keys = [ObjectKey("isthmus-us-1", f"s{number}.shop") for number in range(3)]
    with structlog.testing.capture_logs() as lines:
        for key in keys:
            writer.put(key, Refused(reason="InvalidPorts", message=str(key)))
        writer.put(keys[0], Refused(reason="InvalidPorts", message="still"))
        assert [line["event"] for line in lines] == ["refused"]
        for key in keys:
            writer.drop(key)
        assert [line["event"] for line in lines] == ["refused", "nothing refused any more"]
        for _ in range(10):
            writer.put(keys[0], Refused(reason="InvalidPorts", message="again"))
            writer.drop(keys[0])
        assert len(lines) == 2
        now = refusals.QUIET_SECONDS
        writer.put(keys[0], Refused(reason="InvalidPorts", message="again"))
        assert len(lines) == 3
    assert followed.by_cluster() == {refusals.UNKNOWN: {"services": {"InvalidPorts": 1}}}


def test_the_log_hears_of_what_came_back_within_the_minute_and_stayed() -> None:
    now = 0.0
    exports: Table[ObjectKey, Any] = Table("exports")
    writer = exports.partition("test")
    followed = refusals.Refusals(Table("clusters"), exports, Table("endpoints"), Table("joined"), lambda: now)
    key, other = (ObjectKey("isthmus-us-1", f"{name}.shop") for name in ("web", "other"))
    with structlog.testing.capture_logs() as lines:
        writer.put(key, Refused(reason="InvalidPorts", message="first"))
        writer.drop(key)
        writer.put(key, Refused(reason="InvalidPorts", message="again"))
        writer.put(other, Refused(reason="InvalidPorts", message="another"))
        writer.drop(key)
        followed.remind()
        assert [line["event"] for line in lines] == ["refused", "nothing refused any more"]
        now = refusals.QUIET_SECONDS
        for _ in range(2):
            followed.remind()
        assert [line["event"] for line in lines[2:]] == ["refused"]
        assert (lines[2]["object"], lines[2]["first"]) == (str(other), "another")
        writer.drop(other)
        assert [line["event"] for line in lines[3:]] == ["nothing refused any more"]
