"""What the agent of the measured cluster has written long ago: imports, derived Services, slices, statuses.

Sixty thousand writes of a real agent take minutes; here its own derivations run over the stored objects and
their results are stored as they are, until nothing more follows.
"""

from __future__ import annotations

import asyncio
from typing import Any

from isthmus.agent.chain import Chain, Place
from isthmus.agent.inputs import Hub, Member
from isthmus.agent.outputs import Outputs
from isthmus.agent.reports import Reports
from isthmus.api.meta import Kind, ObjectKey
from isthmus.apiserver.cluster import Cluster
from isthmus.apiserver.store import BucketId, Key
from isthmus.flow import Derived, Graph, Priority, Table, Writer
from isthmus.kube.applier import ObjectRef
from isthmus.kube.comparison import differs, stamped, with_fingerprint
from isthmus.kube.raw import Packed, head_of, unpack
from isthmus.model.health import Verdict
from isthmus.model.names import ClusterId
from isthmus.model.service import AddressFamily
from largeworld.objects import CREATED, region
from largeworld.store import put

PASSES = 8


class Imports:
    """The derivations of one agent over what `hub` and `member` store."""

    def __init__(self, cluster: str, hub: Cluster, member: Cluster) -> None:
        place = Place(cluster=ClusterId(cluster), region=region(0), network="")
        self._stores = {"hub": hub, "member": member}
        tables = {"hub": Hub(), "member": Member()}
        self._chain = chain = Chain(place, tables["member"], tables["hub"])
        callers = chain.vantages.partition("callers")
        self._outputs = outputs = Outputs(chain)
        self._graph = Graph([*outputs.tables, chain.service_checks])
        self._verdicts = chain.health.partition("everybody is up")
        self._verdicts.replace({})
        for table in (chain.membership, outputs.member_refused, outputs.hub_refused):
            table.partition("nothing").replace({})
        chain.session.partition("session").replace({"hub": True})
        callers.replace({place.vantage: 1})
        outputs.asked.partition("family").replace({"": (AddressFamily.IPV4,)})
        self._sources: list[tuple[Cluster, Kind[Any], Writer[ObjectKey, Any]]] = [
            (self._stores[name], kind, table.partition("store"))
            for name, one in tables.items()
            for kind, table in one.pairs()
        ]

    async def write(self) -> int:
        """Stores what follows; the number of passes that it took."""
        running = asyncio.create_task(self._graph.run())
        try:
            for number in range(1, PASSES + 1):
                for store, kind, writer in self._sources:
                    entries = store.store.bucket(BucketId(kind.group, kind.plural)).entries.values()
                    writer.replace({head_of(one.raw).metadata.key: kind.decode(one.raw) for one in entries})
                while any(_open(table) for table in self._graph.tables):
                    await asyncio.sleep(0.01)
                if not self._store():
                    self._tell()
                    return number
            raise RuntimeError("what the agent writes does not come to rest")
        finally:
            running.cancel()
            await asyncio.wait([running])

    def _tell(self) -> None:
        """The reports of an agent that has checked everything for long."""
        for key, target in self._chain.checks.items():
            self._verdicts.put(key, Verdict(up=True, canary=target.canary))
        reports = Reports(self._chain.place.cluster, self._chain.health, clock=lambda: CREATED)
        before = -1
        while len(reports.desired) > before:
            before = len(reports.desired)
            reports.renew()
        for ref, row in reports.desired.items():
            _put(self._stores["hub"], ref, row)

    def _store(self) -> int:
        desired = (
            (self._stores["hub"], self._outputs.hub),
            (self._stores["member"], self._outputs.member),
        )
        return sum(
            _put(store, ref, unpack(row))
            for store, table in desired
            for ref, row in sorted(_rows(table), key=lambda one: one[0].subresource)
        )


def _rows(table: Table[ObjectRef, Packed]) -> list[tuple[ObjectRef, Packed]]:
    return list(table.items())


def _open(table: Derived[Any, Any]) -> bool:
    return not table.synced or any(table.dirty(priority) for priority in Priority)


def _put(store: Cluster, ref: ObjectRef, wanted: dict[str, Any]) -> bool:
    """Stores one desired object or status; whether that changed anything."""
    resource = next(one for one in store.registry.versions(BucketId(ref.kind.group, ref.kind.plural)))
    entry = store.bucket(resource).entries.get(Key(ref.namespace, ref.name))
    found = entry.object() if entry is not None else None
    if ref.subresource:
        if found is None or not differs(wanted, found):
            return False
        found["status"] = stamped(wanted, found, CREATED)["status"]
        store.save(resource, entry, found)
        return True
    body = with_fingerprint(wanted)
    if found is None:
        put(store, body)
        return True
    if not differs(body, found):
        return False
    metadata = found["metadata"]
    metadata["annotations"] = {**(metadata.get("annotations") or {}), **body["metadata"]["annotations"]}
    for part in ("spec", "endpoints", "ports"):
        if part in body:
            found[part] = {**found[part], **body[part]} if isinstance(body[part], dict) else body[part]
    if resource.generation:
        metadata["generation"] = metadata.get("generation", 0) + 1
    store.save(resource, entry, found)
    return True
