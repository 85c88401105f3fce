"""A cluster is drained, as its operator would."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from isthmus.api import kinds
from isthmus.api.meta import ObjectKey
from loadtests.load.bed import Bed
from loadtests.load.faults.fault import WholeCluster, fault
from loadtests.load.marks import Trace


@fault("drain")
class Drain(WholeCluster, frozen=True, kw_only=True):
    """`spec.drain` of the Cluster is set on the hub, and taken back after it."""

    @asynccontextmanager
    async def happen(self, bed: Bed) -> AsyncIterator[Trace]:
        trace, key, hub = Trace(), ObjectKey("", self.cluster), bed.stage.clients["hub"]
        await hub.patch(kinds.CLUSTER, key, {"spec": {"drain": True}})
        try:
            yield trace
            drained = (await hub.get(kinds.CLUSTER, key)).spec.drain
            if drained:
                trace.saw(f"spec.drain of {self.cluster} was set on the hub")
        finally:
            await hub.patch(kinds.CLUSTER, key, {"spec": {"drain": False}})
