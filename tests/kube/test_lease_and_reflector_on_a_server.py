"""Lease holders, heartbeats and reflectors on the embedded API server, through its accidents."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from isthmus.api import kinds
from isthmus.api.core import Lease, Service
from isthmus.api.meta import ObjectKey
from isthmus.apiserver import ApiServer, ClusterConfig, Fault
from isthmus.flow import Table
from isthmus.kube.backoff import Backoff
from isthmus.kube.client import Client
from isthmus.kube.config import Access
from isthmus.kube.credentials import Files
from isthmus.kube.lease import LeaseHolder, Terms, renew_heartbeat
from isthmus.kube.reflector import Reflector, Timing
from isthmus.model.timestamp import parse_time
from loadtests.ports import free_port

WRITER = ObjectKey("shop", "writer")
SHORT = Terms(duration=0.6, renew_within=0.4, period=0.05)
PATIENT = Terms(duration=3600.0, renew_within=1800.0, period=0.02)
"""Terms that no pause of this process breaks."""
FAST = Timing(page=3, backoff=Backoff(first=0.002, longest=0.02))


def service(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"ports": [{"port": 80}]},
    }


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    async with ApiServer([ClusterConfig(name="eu-1", clock_offset_seconds=120.0)]) as made:
        yield made


@pytest.fixture
async def clients(server: ApiServer) -> AsyncIterator[list[Client]]:
    async with AsyncExitStack() as stack:
        made = []
        for name in ("a", "b"):
            access = Access(name=name, server=server.url("eu-1"), source=Files(where=name, encrypted=False))
            made.append(await stack.enter_async_context(Client(access, timeout=10.0)))
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}
        await made[0].create(kinds.NAMESPACE, namespace)
        yield made


class Candidates:
    """Two candidates for one lease, and what each was told."""

    def __init__(self, clients: list[Client], terms: Terms = SHORT) -> None:
        self.told: dict[str, list[bool]] = {"a": [], "b": []}
        self.a, self.b = (
            LeaseHolder(client, WRITER, name, terms=terms, on_change=self.told[name].append, rng=Random(name))
            for name, client in zip("ab", clients, strict=True)
        )


def mirror_of(table: Table[ObjectKey, Service], client: Client) -> Reflector[Service]:
    writer = table.partition("eu-1")
    return Reflector(client, kinds.SERVICE, writer, namespace="shop", timing=FAST, rng=Random(3))


async def stored(client: Client) -> Lease:
    return await client.get(kinds.LEASE, WRITER)


async def test_the_lease_is_handed_over_at_once_when_its_holder_stops(
    clients: list[Client], running: Any, until: Any
) -> None:
    both = Candidates(clients, PATIENT)
    async with running(both.a.run()):
        await until(lambda: both.a.holds)
        async with running(both.b.run()):
            await until(lambda: both.b.holder == "a")
            assert not both.b.holds
    assert not both.a.holds
    assert (await stored(clients[0])).spec.holder_identity == ""
    async with running(both.b.run()):
        await until(lambda: both.b.holds)
        spec = (await stored(clients[0])).spec
        assert (spec.holder_identity, spec.lease_transitions, spec.lease_duration_seconds) == ("b", 1, 3600)
        assert parse_time(spec.renew_time or "") is not None
    assert both.told == {"a": [True, False], "b": [True, False]}


async def test_a_holder_that_cannot_renew_stops_before_another_starts(
    clients: list[Client], server: ApiServer, running: Any, until: Any
) -> None:
    both = Candidates(clients)
    async with running(both.a.run()):
        await until(lambda: both.a.holds)
        server.cluster("eu-1").faults.set(Fault(kind="silence"))
        await until(lambda: not both.a.holds)
        async with running(both.b.run()):
            assert not both.b.holds
            server.cluster("eu-1").faults.clear()
            await until(lambda: both.a.holds or both.b.holds)
            assert not (both.a.holds and both.b.holds)


async def test_errors_of_the_server_do_not_end_a_candidate(
    clients: list[Client], server: ApiServer, running: Any, until: Any
) -> None:
    server.cluster("eu-1").faults.set(Fault(kind="error", code=500, count=3))
    both = Candidates(clients)
    async with running(both.a.run()):
        await until(lambda: both.a.holds)


async def test_a_deleted_lease_is_made_again(clients: list[Client], running: Any, until: Any) -> None:
    both = Candidates(clients, PATIENT)
    async with running(both.a.run()):
        await until(lambda: both.a.holds)
        await clients[1].delete(kinds.LEASE, WRITER)
        await until(lambda: both.told["a"] == [True, False, True])


async def test_any_replica_renews_a_heartbeat(clients: list[Client]) -> None:
    key = ObjectKey("shop", "heartbeat")
    moments = iter([1_700_000_000.0, 1_700_000_005.5])
    for client in clients:
        await renew_heartbeat(client, key, "eu-1", duration=20.0, wall=lambda: next(moments))
    spec = (await clients[0].get(kinds.LEASE, key)).spec
    assert (spec.holder_identity, spec.lease_duration_seconds) == ("eu-1", 20)
    assert parse_time(spec.renew_time or "") == 1_700_000_005.5


async def test_the_servers_clock_offset_is_known_after_a_request(clients: list[Client]) -> None:
    assert clients[0].clock_offset == pytest.approx(120.0, abs=10.0)


async def test_a_mirror_follows_its_server_through_every_accident(
    clients: list[Client], server: ApiServer, running: Any, until: Any
) -> None:
    cluster = server.cluster("eu-1")
    table: Table[ObjectKey, Service] = Table("services")
    reflector = mirror_of(table, clients[0])
    made = set()

    async def create(name: str) -> None:
        await clients[1].create(kinds.SERVICE, service(name))
        made.add(ObjectKey("shop", name))

    for name in "abcdefgh":
        await create(name)
    async with running(reflector.run()):
        await until(lambda: set(table.keys()) == made)
        await create("more")
        await until(lambda: set(table.keys()) == made)
        for fault in (
            Fault(kind="cut", verbs=frozenset({"list", "watch"})),
            Fault(kind="error", code=503, verbs=frozenset({"list", "watch"}), retry_after=1),
            Fault(kind="error", code=410, count=1, verbs=frozenset({"watch"})),
        ):
            cluster.faults.set(fault)
            await clients[1].delete(kinds.SERVICE, sorted(made)[0])
            made.discard(sorted(made)[0])
            await create(f"after-{fault.kind}-{fault.code}")
            cluster.faults.clear()
            await until(lambda: set(table.keys()) == made)
            await until(lambda: reflector.state.live)
        assert table.stale == {}


async def test_history_that_is_gone_costs_a_list_and_no_object(
    clients: list[Client], server: ApiServer, running: Any, until: Any
) -> None:
    table: Table[ObjectKey, Service] = Table("services")
    reflector = mirror_of(table, clients[0])
    await clients[1].create(kinds.SERVICE, service("old"))
    async with running(reflector.run()):
        await until(lambda: len(table) == 1)
        cluster = server.cluster("eu-1")
        cluster.faults.set(Fault(kind="cut", verbs=frozenset({"watch"})))
        await until(lambda: not reflector.state.live)
        await clients[1].delete(kinds.SERVICE, ObjectKey("shop", "old"))
        await clients[1].create(kinds.SERVICE, service("new"))
        cluster.compact()
        cluster.faults.clear()
        await until(lambda: set(table.keys()) == {ObjectKey("shop", "new")})
        assert reflector.state.lists == 2


async def test_a_server_restored_from_an_old_backup_is_read_anew(until: Any, running: Any) -> None:
    """Its versions lie behind those that were seen, and what is gone from it is told by nobody."""
    table: Table[ObjectKey, Service] = Table("services")
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}

    async def fill(url: str, *names: str) -> None:
        access = Access(name="test", server=url, source=Files(where="test", encrypted=False))
        async with Client(access) as client:
            await client.create(kinds.NAMESPACE, namespace)
            for name in names:
                await client.create(kinds.SERVICE, service(name))

    def held() -> set[str]:
        return {key.name for key in table if key.namespace == "shop"}

    port = free_port()  # who asks there while nobody listens never meets itself
    async with ApiServer([ClusterConfig(name="eu-1", port=port, bookmark_seconds=0.1)]) as before:
        url = before.url("eu-1")
        await fill(url, "kept", "later")
        access = Access(name="hub", server=url, source=Files(where="hub", encrypted=False))
        client = await Client(access, timeout=10.0).__aenter__()
        timing = replace(FAST, mute=0.5, watch_doubtful=1)
        reflector = Reflector(client, kinds.SERVICE, table.partition("hub"), timing=timing)
        following = running(reflector.run())
        await following.__aenter__()
        await until(lambda: held() == {"kept", "later"} and reflector.state.live)
    restored = ApiServer([ClusterConfig(name="eu-1", port=port, bookmark_seconds=0.1)])
    store = restored.cluster("eu-1").state.store
    store.revision = store._first_revision = 1_000
    store.buckets.clear()
    async with restored:
        await fill(restored.url("eu-1"), "kept")
        await until(lambda: held() == {"kept"})
        await following.__aexit__(None, None, None)
        await client.__aexit__(None, None, None)
