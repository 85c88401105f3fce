"""What control reads: one table per kind and source, each filled by one reflector.

The tables exist before any connection does, so that everything can be derived from them by name; `reflect`
gives each its reflector and its place in the last-good store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from isthmus.agent.lastgood import LastGood, seed
from isthmus.agent.lean import lean
from isthmus.api import core, hub, kinds, labels, mcs
from isthmus.api.meta import Kind, ObjectKey
from isthmus.api.policy import GlobalTrafficPolicy
from isthmus.flow import Table, Writer
from isthmus.kube.client import Client
from isthmus.kube.raw import Packed, compact
from isthmus.kube.reflector import Linger, Reflector, State

SEED_SECONDS = 2.0
"""How long a source may be silent before the last-good rows serve in its place."""
LIST_SECONDS = 20.0
"""How long it may take for its list, page by page: a large one is slower than that to read twice."""
LINGER_SECONDS = 150.0
"""How long what a hub has lost stays. Every cluster has exported again by then, also where the hub was
restored with older versions, so that its watches say nothing: agents mistrust those after some 75 s, and read
anew within `reflector.LONGEST_SPREAD_SECONDS` more."""
SELECTORS: Mapping[Kind[Any], str] = {
    kinds.ENDPOINT_SLICE: f"{labels.SLICE_MANAGED_BY}!={labels.SLICE_MANAGER}"
}
"""What is not read at all: of a large clusterset's EndpointSlices nearly all are those that we write."""

COMPACT_SERVICE = compact(kinds.EXPORTED_SERVICE)
COMPACT_ENDPOINTS = compact(kinds.EXPORTED_ENDPOINTS)

Pairs = Iterator[tuple[Kind[Any], Table[ObjectKey, Any]]]


class Member:
    """Objects of this cluster."""

    def __init__(self) -> None:
        self.services: Table[ObjectKey, core.Service] = Table("member/services")
        self.slices: Table[ObjectKey, core.EndpointSlice] = Table("member/endpointslices")
        self.nodes: Table[ObjectKey, core.Node] = Table("member/nodes")
        self.namespaces: Table[ObjectKey, core.Namespace] = Table("member/namespaces")
        self.exports: Table[ObjectKey, mcs.ServiceExport] = Table("member/serviceexports")
        self.imports: Table[ObjectKey, mcs.ServiceImport] = Table("member/serviceimports")
        self.policies: Table[ObjectKey, GlobalTrafficPolicy] = Table("member/globaltrafficpolicies")
        self.properties: Table[ObjectKey, mcs.ClusterProperty] = Table("member/clusterproperties")

    def pairs(self) -> Pairs:
        yield kinds.SERVICE, self.services
        yield kinds.ENDPOINT_SLICE, self.slices
        yield kinds.NODE, self.nodes
        yield kinds.NAMESPACE, self.namespaces
        yield kinds.SERVICE_EXPORT, self.exports
        yield kinds.SERVICE_IMPORT, self.imports
        yield kinds.POLICY, self.policies
        yield kinds.CLUSTER_PROPERTY, self.properties


class Hub:
    """Objects of the hub. Those of which there are most are compact (see `raw.opened`)."""

    def __init__(self) -> None:
        self.clusters: Table[ObjectKey, hub.Cluster] = Table("hub/clusters")
        self.exported_services: Table[ObjectKey, hub.ExportedService | Packed] = Table("hub/exportedservices")
        self.exported_endpoints: Table[ObjectKey, hub.ExportedEndpoints | Packed] = Table(
            "hub/exportedendpoints"
        )
        self.policies: Table[ObjectKey, GlobalTrafficPolicy] = Table("hub/globaltrafficpolicies")

    def pairs(self) -> Pairs:
        yield kinds.CLUSTER, self.clusters
        yield COMPACT_SERVICE, self.exported_services
        yield COMPACT_ENDPOINTS, self.exported_endpoints
        yield kinds.POLICY, self.policies

    def nobody(self) -> None:
        """There is no hub: each table is complete and empty."""
        for _kind, table in self.pairs():
            table.partition("no hub").replace({})


@dataclass(frozen=True, slots=True)
class Source:
    """One reflector, its table and writer; `heard` is set by its first success or failure."""

    name: str
    kind: Kind[Any]
    table: Table[ObjectKey, Any]
    writer: Writer[ObjectKey, Any]
    reflector: Reflector[Any]
    heard: asyncio.Event


def sources(client: Client, pairs: Pairs, gate: asyncio.Semaphore, *, linger: float = 0.0) -> list[Source]:
    """One reflector for each table, not yet running; `gate` bounds concurrent lists.

    `linger`: seconds that objects stay which the server has lost (see `Linger`).
    """
    return [_source(client, kind, table, gate, linger) for kind, table in pairs]


def _source(
    client: Client, kind: Kind[Any], table: Table[ObjectKey, Any], gate: asyncio.Semaphore, linger: float
) -> Source:
    writer, heard = table.partition("reflector"), asyncio.Event()

    def on_state(_state: State) -> None:
        heard.set()

    kind = lean(kind)
    lingering = Linger(seconds=linger, group=_whole(kind)) if linger else None
    reflector = Reflector(
        client,
        kind,
        writer,
        label_selector=SELECTORS.get(kind, ""),
        gate=gate,
        on_state=on_state,
        linger=lingering,
    )
    return Source(table.name, kind, table, writer, reflector, heard)


def _whole(kind: Kind[Any]) -> Callable[[ObjectKey], ObjectKey]:
    """What an object is a part of: endpoints come in chunks, `<service>.<namespace>.<chunk>`."""
    if kind is not COMPACT_ENDPOINTS:
        return lambda key: key
    return lambda key: ObjectKey(key.namespace, key.name.rpartition(".")[0])


async def follow(source: Source, store: LastGood, broken: asyncio.Task[bool] | None = None) -> None:
    """Runs the reflector for ever, with the last-good rows in its place while it has nothing.

    Where `broken` says so they come first, and what the server does not have of them lingers.
    """
    if broken is not None and await broken:
        await seed(store, source.name, source.kind, source.table, source.writer)
    async with asyncio.TaskGroup() as group:
        group.create_task(source.reflector.run(), name=f"reflect-{source.name}")
        group.create_task(_seed_if_late(source, store), name=f"seed-{source.name}")
        group.create_task(store.follow(source.name, source.table), name=f"lastgood-{source.name}")


async def _seed_if_late(source: Source, store: LastGood) -> None:
    """Waits for the source's own rows; its first failure, or its silence, brings the last-good ones."""
    with suppress(TimeoutError):
        async with asyncio.timeout(LIST_SECONDS):
            while not source.heard.is_set():
                before = source.reflector.last_event()
                with suppress(TimeoutError):
                    async with asyncio.timeout(SEED_SECONDS):
                        await source.heard.wait()
                if source.reflector.last_event() == before:
                    break
    if not source.writer.synced:
        await seed(store, source.name, source.kind, source.table, source.writer)


def last_heard(found: list[Source]) -> float | None:
    """When (monotonic clock) any of these reflectors last heard its server, None: never."""
    return max((at for source in found if (at := source.reflector.last_event()) is not None), default=None)


def failing(found: Iterable[Source]) -> dict[str, str]:
    """The last failure of each source that fails now."""
    return {source.name: source.reflector.state.error for source in found if source.reflector.state.error}
