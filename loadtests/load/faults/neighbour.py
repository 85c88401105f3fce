"""A neighbour that says what is wrong: objects on the hub, written where its cluster may write."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from isthmus.api import kinds
from isthmus.api.meta import Kind, ObjectKey
from isthmus.demo.world import Member, World
from isthmus.errors import KubeError
from isthmus.mcs.hubobjects import API_VERSION, hub_namespace
from isthmus.model.names import ClusterId
from loadtests.load.bed import NAMESPACE, Bed
from loadtests.load.counters import told
from loadtests.load.faults.fault import OneCluster, fault
from loadtests.load.marks import Trace

MANAGER = "neighbour"
REFUSED = "isthmus_mcs_refused"
MOST_SERVICES = 2_000
CHUNK = 500
AT_ONCE = 20
KINDS: dict[str, Kind[Any]] = {
    "ExportedService": kinds.EXPORTED_SERVICE,
    "ExportedEndpoints": kinds.EXPORTED_ENDPOINTS,
}
Said = tuple[Kind[Any], ObjectKey]
T = TypeVar("T")


@fault("garbage")
class Garbage(OneCluster, frozen=True, kw_only=True):
    """The cluster tells of forbidden addresses, stolen endpoints, impossible ports, and `services` services.

    Its own objects stay as they are, so its pods go on serving.
    """

    services: int = 200

    def complaint(self, world: World) -> str:
        if not 0 <= self.services <= MOST_SERVICES:
            return f"services: {self.services} is not from 0 to {MOST_SERVICES}"
        return super().complaint(world)

    @asynccontextmanager
    async def happen(self, bed: Bed) -> AsyncIterator[Trace]:
        trace = Trace()
        others = [m for m in bed.world.members if m.name != self.cluster]
        before = await told(others, REFUSED, cluster=self.cluster)
        bodies = list(garbage(bed.member(self.cluster), others, self.services))
        written: list[Said] = []
        trace.begins()
        try:
            # All but at once, so that there is one moment at which it was said.
            for some in batched(bodies):
                written += filter(None, await asyncio.gather(*(_said_to(bed, body) for body in some)))
            took, turned_away = time.monotonic() - (trace.began or 0.0), len(bodies) - len(written)
            yield trace
            refused = await told(others, REFUSED, cluster=self.cluster) - before
            if refused > 0:
                trace.saw(
                    f"{len(written)} objects written in {took:.1f} s, {turned_away} turned away by the hub; "
                    f"others refuse {refused:g} of what it says"
                )
        finally:
            for gone in batched(written):
                await asyncio.gather(*(bed.hub.delete(kind, key) for kind, key in gone))


async def _said_to(bed: Bed, body: dict[str, Any]) -> Said | None:
    """Write it to the hub; None where the schema knows it for what it is."""
    kind, metadata = KINDS[body["kind"]], body["metadata"]
    try:
        await bed.hub.apply(kind, body, manager=MANAGER)
    except KubeError:
        return None
    return kind, ObjectKey(metadata["namespace"], metadata["name"])


def batched(whole: Sequence[T]) -> Iterator[Sequence[T]]:
    """Parts of at most AT_ONCE."""
    return (whole[start : start + AT_ONCE] for start in range(0, len(whole), AT_ONCE))


def garbage(member: Member, others: list[Member], services: int) -> Iterator[dict[str, Any]]:
    """Hub objects of a member, each wrong in a way of its own, and services that nobody asked for."""
    pods = [f"{member.pod_address(0)[:-1]}{number}" for number in range(1, 9)]
    forbidden = ["127.0.0.1", "169.254.169.254", "224.0.0.1", "0.0.0.0", "255.255.255.255", "nonsense", ""]
    stolen = [other.api for other in others] + [other.pod_address(0) for other in others]
    # Behind the service that everybody calls, where only this neighbour's endpoints may stand.
    yield _chunk(member, "front", [*forbidden, *stolen], 90)
    yield _chunk(member, "front", pods, 91, cluster=others[0].name)
    yield _chunk(member, "front", pods, 92, ports=[{"name": "http", "port": 0}])
    yield _chunk(member, "front", pods, 93, ports=[{"name": "x" * 300, "port": 70_000}])
    yield _chunk(member, "nowhere", pods, 0)
    ports = [{"name": f"p{number}", "port": number + 1} for number in range(101)]
    yield _export(member, "wide", ports=ports)
    yield _export(member, "twice", ports=[ports[0], ports[0]])
    yield _export(member, "loud", annotations={"a": "x" * 20_000})
    yield _export(member, "late", exportedAt="yesterday")
    yield _export(member, "future", algorithm=9, shiny={"new": True})
    yield _export(member, "familiar", ipFamilies=["IPv5"])
    crowd = [f"10.{64 + member.index}.{100 + (n >> 8)}.{n & 255}" for n in range(CHUNK * 4)]
    yield _export(member, "crowd")
    for number in range(4):
        yield _chunk(member, "crowd", crowd[number * CHUNK : (number + 1) * CHUNK], number)
    for number in range(services):
        yield _export(member, f"spam-{number}")


def _export(member: Member, service: str, **spec: Any) -> dict[str, Any]:
    whole = {
        "exportedAt": "2020-01-01T00:00:00Z",
        "ports": [{"name": "http", "port": 80}],
        "ipFamilies": ["IPv4"],
        "type": "ClusterSetIP",
    }
    return _said(member, "ExportedService", service, f"{service}.{NAMESPACE}", whole | spec)


def _chunk(member: Member, service: str, addresses: list[str], number: int, **spec: Any) -> dict[str, Any]:
    listed = [{"id": f"g-{number}-{at}", "addresses": [each]} for at, each in enumerate(addresses)]
    whole = {"ports": [{"name": "http", "port": 8080}], "endpoints": listed}
    name = f"{service}.{NAMESPACE}.0-{number}"
    return _said(member, "ExportedEndpoints", service, name, whole | spec)


def _said(member: Member, kind: str, service: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = {"namespace": hub_namespace(ClusterId(member.name)), "name": name}
    base = {"cluster": member.name, "service": {"namespace": NAMESPACE, "name": service}}
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": base | spec}
