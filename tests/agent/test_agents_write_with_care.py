"""What an agent writes when the hub has forgotten it, and what it never brings back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import msgspec
import pytest

from isthmus.agent.chain import Chain, Place
from isthmus.agent.inputs import Hub, Member
from isthmus.agent.membership import Membership
from isthmus.agent.records import Records
from isthmus.agent.session import Session
from isthmus.agent.writing import compete
from isthmus.api import core, crds, hub, kinds, mcs
from isthmus.api.labels import EXPORTED_AT, LEFT
from isthmus.api.meta import ObjectKey
from isthmus.apiserver import ApiServer, ClusterConfig, Fault
from isthmus.errors import NotFound
from isthmus.fleet.heartbeat import HeartbeatOptions
from isthmus.fleet.membership import ID_PROPERTY
from isthmus.flow import Graph, Table
from isthmus.kube.client import Client
from isthmus.kube.config import Access
from isthmus.kube.credentials import Files
from isthmus.kube.lease import LeaseHolder
from isthmus.kube.raw import raw
from isthmus.model.names import ClusterId

WEB = ObjectKey("shop", "web")
METADATA = {"name": "web", "namespace": "shop", "creationTimestamp": "2026-01-01T00:00:00Z"}
QUICK = HeartbeatOptions(interval=0.02, retry=0.02)


async def until(condition: Callable[[], Awaitable[bool]] | Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while True:
            found = condition()
            if found if isinstance(found, bool) else await found:
                return
            await asyncio.sleep(0.005)


@asynccontextmanager
async def api_server(definitions: list[dict[str, Any]]) -> AsyncIterator[tuple[Client, ApiServer]]:
    async with ApiServer([ClusterConfig(name="eu-1")]) as server:
        access = Access(name="eu-1", server=server.url("eu-1"), source=Files(where="eu-1", encrypted=False))
        async with Client(access) as client:
            for definition in definitions:
                await client.apply(kinds.CRD, definition, manager="test")
            namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}
            await client.create(kinds.NAMESPACE, namespace)
            yield client, server


@asynccontextmanager
async def running(*works: Any) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(work) for work in works]
    try:
        yield
        assert not any(task.done() for task in tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def test_a_cluster_registers_again_when_its_namespace_is_deleted() -> None:
    async with api_server(crds.hub_crds()) as (client, _):
        registered: list[None] = []
        chain = known_chain()
        membership = Membership(
            client,
            chain,
            "default",
            chain.membership.partition("test"),
            hub_read=lambda: True,
            may_write=lambda: True,
            withdrawn=lambda: False,
            leftovers=lambda: None,
            on_claimed=lambda: registered.append(None),
        )
        session = Session(
            client,
            ClusterId("eu-1"),
            membership,
            lambda: None,
            Table[str, bool]("session").partition("session"),
            beats=QUICK,
        )
        async with running(session.run()):
            await until(lambda: len(registered) == 1)

            async def deleted() -> bool:
                with suppress(NotFound):
                    await client.delete(kinds.NAMESPACE, ObjectKey("", "isthmus-eu-1"))
                return len(registered) > 1

            await until(deleted)


async def test_a_start_claims_nothing_that_is_ours_already_until_a_heartbeat_fails() -> None:
    async with api_server(crds.hub_crds()) as (client, _):
        chain = known_chain()
        membership = Membership(
            client,
            chain,
            "default",
            chain.membership.partition("test"),
            hub_read=lambda: True,
            may_write=lambda: True,
            withdrawn=lambda: False,
            leftovers=lambda: None,
        )
        before = client.requests.copy()
        assert await membership.step(), "the heartbeat may follow"
        assert client.requests == before
        assert not membership.speaks, "before the hub has taken a heartbeat"
        membership.confirm()
        assert membership.speaks
        membership.doubt()
        assert await membership.step()
        written = client.requests - before
        assert {resource for verb, resource, _status in written if verb == "patch"} == {
            "clusters",
            "namespaces",
        }


async def test_only_the_writer_beats_while_the_cluster_leaves() -> None:
    async with api_server(crds.hub_crds()) as (client, _):
        chain, writes = known_chain(), False
        entry = {"metadata": {"name": "eu-1"}, "spec": {"uid": "a", "region": "eu", "leave": True}}
        leaving = known_chain_clusters(entry)
        chain.hub.clusters = leaving
        membership = Membership(
            client,
            chain,
            "default",
            chain.membership.partition("test"),
            hub_read=lambda: True,
            may_write=lambda: writes,
            withdrawn=lambda: False,
            leftovers=lambda: None,
        )
        assert not await membership.step()
        writes = True
        assert await membership.step()


async def test_a_membership_ends_only_when_the_hub_has_nothing_of_the_cluster_any_more() -> None:
    async with api_server(crds.hub_crds()) as (client, _):
        chain, left = known_chain(), [None, 2, 1, 0]
        entry = {"metadata": {"name": "eu-1"}, "spec": {"uid": "a", "region": "eu", "leave": True}}
        chain.hub.clusters = known_chain_clusters(entry)
        said = {"metadata": {"name": ID_PROPERTY, "annotations": {LEFT: "true"}}, "spec": {"value": "eu-1"}}
        chain.member.properties = Table("member/clusterproperties")
        rows = {ObjectKey("", ID_PROPERTY): msgspec.convert(said, mcs.ClusterProperty)}
        chain.member.properties.partition("test").replace(rows)
        membership = Membership(
            client,
            chain,
            "default",
            chain.membership.partition("test"),
            hub_read=lambda: True,
            may_write=lambda: True,
            withdrawn=lambda: True,
            leftovers=lambda: left[0],
        )
        await client.create(
            kinds.CLUSTER, {"apiVersion": kinds.CLUSTER.api_version, "kind": "Cluster", **entry}
        )
        while left[0] != 0:
            assert await membership.step(), "it beats on"
            assert (await client.get(kinds.CLUSTER, ObjectKey("", "eu-1"))).spec.uid == "a"
            left.pop(0)
        assert not await membership.step()
        with pytest.raises(NotFound):
            await client.get(kinds.CLUSTER, ObjectKey("", "eu-1"))


def known_chain_clusters(entry: dict[str, Any]) -> Table[ObjectKey, hub.Cluster]:
    """The hub's Cluster objects, of which there is one."""
    table: Table[ObjectKey, hub.Cluster] = Table("hub/clusters")
    table.partition("test").replace({ObjectKey("", "eu-1"): msgspec.convert(entry, hub.Cluster)})
    return table


def known_chain() -> Chain:
    """A chain of a cluster that knows who it is, whose hub knew it, too."""
    place = Place(cluster=ClusterId("eu-1"), region="eu", network="", clock_offset=lambda: 60.0)
    chain = Chain(place, Member(), Hub())
    system = {"metadata": {"name": "kube-system", "uid": "a"}}
    rows = {ObjectKey("", "kube-system"): msgspec.convert(system, core.Namespace)}
    chain.member.namespaces.partition("test").replace(rows)
    chain.member.properties.partition("test").replace({})
    entry = {"metadata": {"name": "eu-1"}, "spec": {"uid": "a", "region": "eu"}}
    clusters = {ObjectKey("", "eu-1"): msgspec.convert(entry, hub.Cluster)}
    chain.hub.clusters.partition("test").replace(clusters)
    return chain


def chain_of(export: dict[str, Any]) -> tuple[Chain, Graph]:
    """A chain that has read one Service and its export, with a live session."""
    chain = known_chain()
    member = chain.member
    chain.membership.partition("test").replace({})
    for table in (member.slices, member.nodes, chain.hub.exported_services, chain.hub.exported_endpoints):
        table.partition("test").replace({})
    service = {"metadata": METADATA, "spec": {"clusterIP": "10.0.0.1", "ports": [{"port": 80}]}}
    member.services.partition("test").replace({WEB: msgspec.convert(service, core.Service)})
    member.exports.partition("test").replace({WEB: msgspec.convert(export, mcs.ServiceExport)})
    chain.session.partition("session").replace({"hub": True})
    return chain, Graph([chain.own_exports])


async def test_the_time_of_an_export_is_recorded_in_the_hubs_clock() -> None:
    async with api_server(crds.member_crds()) as (client, _):
        body = {
            "apiVersion": kinds.SERVICE_EXPORT.api_version,
            "kind": "ServiceExport",
            "metadata": {"name": "web", "namespace": "shop"},
        }
        made = await client.create(raw(kinds.SERVICE_EXPORT), body)
        chain, graph = chain_of({"metadata": {**METADATA, "uid": made["metadata"]["uid"]}})

        async def recorded() -> bool:
            found = await client.get(kinds.SERVICE_EXPORT, WEB)
            return found.metadata.annotations.get(EXPORTED_AT, "").startswith("2026-01-01T00:01:00")

        async with running(graph.run(), Records(client, chain, lambda: True).run()):
            await until(recorded)


async def test_an_export_that_its_owner_has_deleted_does_not_come_back() -> None:
    async with api_server(crds.member_crds()) as (client, _):
        chain, graph = chain_of({"metadata": {**METADATA, "uid": "gone"}})
        looked: list[None] = []

        def gate() -> bool:
            looked.append(None)
            return True

        async with running(graph.run(), Records(client, chain, gate).run()):
            await until(lambda: len(looked) >= 2)  # the first try has failed
            page = await client.list_page(kinds.SERVICE_EXPORT)
            assert page.items == []


async def test_a_namespace_that_may_not_be_made_yet_is_made_when_it_may() -> None:
    async with api_server([]) as (client, server):
        forbidden = Fault(
            kind="error", code=403, count=2, verbs=frozenset({"create"}), paths=("*/namespaces",)
        )
        server.cluster("eu-1").faults.set(forbidden)
        lease = LeaseHolder(client, ObjectKey("isthmus-system", "isthmus-agent"), "one")
        async with running(compete(client, "isthmus-system", lease)):
            await until(lambda: lease.holds)


async def test_a_namespace_that_others_made_is_not_asked_for_for_ever() -> None:
    async with api_server([]) as (client, server):
        system = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "isthmus-system"}}
        await client.create(kinds.NAMESPACE, system)
        server.cluster("eu-1").faults.set(
            Fault(kind="error", code=403, verbs=frozenset({"create"}), paths=("*/namespaces",))
        )
        lease = LeaseHolder(client, ObjectKey("isthmus-system", "isthmus-agent"), "one")
        async with running(compete(client, "isthmus-system", lease)):
            await until(lambda: lease.holds)
            await until(lambda: not any(task.get_name() == "namespace" for task in asyncio.all_tasks()))
