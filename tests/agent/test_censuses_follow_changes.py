"""The censuses that are kept by cluster are those that would be taken anew, and cost what changed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.agent.censuses import Censuses, SourceKey
from isthmus.agent.followers import Named
from isthmus.flow import Graph, Priority, Table
from isthmus.mcs import conflict
from isthmus.model.cluster import ClusterView
from isthmus.model.health import CheckKey, Verdict
from isthmus.model.names import ClusterId, EndpointId, ServiceKey
from isthmus.model.plan import port_id
from isthmus.model.service import (
    Endpoint,
    EndpointPort,
    Export,
    Port,
    Protocol,
    Service,
    ServiceType,
)
from isthmus.traffic.endpointstate import Census, take_census

KEY = ServiceKey("shop", "web")
CLUSTERS = tuple(ClusterId(f"c{number}") for number in range(4))
HTTP = Port(name="http", protocol=Protocol.TCP, port=80)
GRPC = Port(name="grpc", protocol=Protocol.TCP, port=9000)
SYSLOG = Port(name="syslog", protocol=Protocol.UDP, port=514)
UP, DOWN = Verdict(up=True, canary=True), Verdict(up=False, canary=True)


class World:
    """The tables that censuses follow, for one service."""

    def __init__(self) -> None:
        self.services: Table[ServiceKey, Service] = Table("services")
        self.endpoints: Table[SourceKey, tuple[Endpoint, ...]] = Table("endpoints")
        self.views: Table[ClusterId, ClusterView] = Table("views")
        self.health: Table[CheckKey, Verdict] = Table("health")
        self.named = Named(self.views, lambda key: key)
        self.censuses = Censuses(self.services, self.endpoints, self.views, self.named, self.health)
        self.graph = Graph([self.censuses.table])
        self.write_services = self.services.partition("test")
        self.write_endpoints = self.endpoints.partition("test")
        self.write_views = self.views.partition("test")
        self.write_health = self.health.partition("test")
        for writer in (self.write_services, self.write_endpoints, self.write_views, self.write_health):
            writer.replace({})

    def export(self, ports: dict[ClusterId, tuple[Port, ...]], draining: ClusterId | None = None) -> None:
        exports = [
            Export(
                cluster=cluster,
                key=KEY,
                created=1.7e9,
                type=ServiceType.CLUSTER_SET_IP,
                ports=own,
                draining=cluster == draining,
            )
            for cluster, own in ports.items()
        ]
        if exports:
            self.write_services.put(KEY, conflict.merge(exports))
        else:
            self.write_services.drop(KEY)

    def offer(self, cluster: ClusterId, ready: list[bool], networks: tuple[str, ...] = ("",)) -> None:
        ports = tuple(EndpointPort(name=p.name, protocol=p.protocol, port=8080) for p in (GRPC, HTTP, SYSLOG))
        found = tuple(
            Endpoint(
                id=EndpointId(f"pod-{at}"),
                cluster=cluster,
                region="r",
                zone=f"z{at % 2}",
                addresses=(f"10.0.0.{at + 1}",),
                ports=ports,
                ready=is_ready,
                serving=is_ready,
                network=networks[at % len(networks)],
            )
            for at, is_ready in enumerate(ready)
        )
        self.write_endpoints.put((KEY, cluster), found)

    def verdict(self, cluster: ClusterId, at: int, port: Port, verdict: Verdict | None) -> None:
        key = CheckKey(KEY, cluster, EndpointId(f"pod-{at}"), port_id(port))
        if verdict is None:
            self.write_health.drop(key)
        else:
            self.write_health.put(key, verdict)

    def anew(self, port: Port | None) -> Census:
        service = self.services.get(KEY)
        assert service is not None
        return take_census(
            service=service,
            port=port,
            endpoints={
                export.cluster: self.endpoints.get((KEY, export.cluster)) or () for export in service.exports
            },
            clusters=self.named,
            verdict=self.health.get,
        )

    def agrees(self) -> bool:
        service = self.services.get(KEY)
        if service is None:
            return True
        return all(self.censuses.census(service, port) == self.anew(port) for port in (None, *service.ports))

    async def rest(self) -> None:
        async with asyncio.timeout(60):
            await asyncio.sleep(0)
            while any(not table.synced or any(map(table.dirty, Priority)) for table in self.graph.tables):
                await asyncio.sleep(0)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    made.export(dict.fromkeys(CLUSTERS, (HTTP,)))
    for cluster in CLUSTERS:
        made.offer(cluster, [True] * 5)
    running = asyncio.create_task(made.graph.run())
    await made.rest()
    yield made
    running.cancel()
    await asyncio.wait([running])


async def test_an_endpoint_that_changes_costs_its_own_clusters_part(world: World) -> None:
    before = world.censuses.table.computed
    world.offer(CLUSTERS[2], [False, True, True, True, True])
    await world.rest()
    assert world.censuses.table.computed == before + 1
    assert world.agrees()


async def test_first_verdicts_cost_nothing_where_nothing_is_down(world: World) -> None:
    before = world.censuses.table.computed
    for cluster in CLUSTERS:
        for at in range(3):
            world.verdict(cluster, at, HTTP, Verdict(up=None, canary=True))
            world.verdict(cluster, at, HTTP, UP)
    await world.rest()
    assert world.censuses.table.computed == before
    assert world.agrees()
    world.verdict(CLUSTERS[0], 0, HTTP, DOWN)
    await world.rest()
    assert world.censuses.table.computed == before + 1
    assert world.agrees()


async def test_a_canary_that_goes_leaves_the_word_to_one_that_is_down(world: World) -> None:
    world.verdict(CLUSTERS[0], 0, HTTP, DOWN)
    world.verdict(CLUSTERS[0], 1, HTTP, Verdict(up=None, canary=True))
    await world.rest()
    assert world.agrees()
    before = world.censuses.table.computed
    world.verdict(CLUSTERS[0], 1, HTTP, None)
    await world.rest()
    assert world.censuses.table.computed == before + 1
    assert world.agrees()


async def test_a_view_that_says_nothing_new_of_endpoints_costs_nothing(world: World) -> None:
    world.write_views.put(CLUSTERS[1], ClusterView(id=CLUSTERS[1], region="r"))
    await world.rest()
    before = world.censuses.table.computed
    world.write_views.put(CLUSTERS[1], ClusterView(id=CLUSTERS[1], region="r", unknown=True))
    await world.rest()
    assert world.censuses.table.computed == before
    world.write_views.put(CLUSTERS[1], ClusterView(id=CLUSTERS[1], region="r", draining=True))
    await world.rest()
    assert world.censuses.table.computed == before + 1
    assert world.agrees()


cluster_ids = st.sampled_from(CLUSTERS)
some_ports = st.lists(st.sampled_from([HTTP, GRPC, SYSLOG]), min_size=1, unique=True).map(tuple)
verdicts = st.one_of(
    st.none(),
    st.builds(Verdict, up=st.sampled_from([None, True, False]), canary=st.booleans(), wavering=st.booleans()),
)
changes = st.one_of(
    st.tuples(st.just("export"), st.dictionaries(cluster_ids, some_ports), st.one_of(st.none(), cluster_ids)),
    st.tuples(
        st.just("offer"),
        cluster_ids,
        st.lists(st.booleans(), max_size=5),
        st.sampled_from([("",), ("", "other")]),
    ),
    st.tuples(
        st.just("verdict"), cluster_ids, st.integers(0, 4), st.sampled_from([HTTP, GRPC, SYSLOG]), verdicts
    ),
    st.tuples(st.just("view"), cluster_ids, st.booleans(), st.booleans()),
)


@given(st.lists(st.tuples(changes, st.booleans()), max_size=25))
def test_whatever_changes_a_census_is_as_if_taken_anew(
    history: list[tuple[tuple[object, ...], bool]],
) -> None:
    async def live() -> None:
        made = World()
        running = asyncio.create_task(made.graph.run())
        for (what, *rest), pause in history:
            if what == "view":
                cluster, unknown, draining = rest
                view = ClusterView(id=cluster, region="r", unknown=unknown, draining=draining)  # type: ignore[arg-type]
                made.write_views.put(cluster, view)  # type: ignore[arg-type]
            else:
                getattr(made, str(what))(*rest)
            if pause:
                await made.rest()
                assert made.agrees()
        await made.rest()
        assert made.agrees()
        running.cancel()
        await asyncio.wait([running])

    asyncio.run(live())
