"""A cluster is drained, as its operator would."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from isthmus.api import kinds
from isthmus.api.meta import ObjectKey
from loadtests.load.clusterset import Clusterset
from loadtests.load.counters import planned
from loadtests.load.doors import SERVICES
from loadtests.load.faults.fault import WholeCluster, fault
from loadtests.load.marks import Trace


@fault("drain")
class Drain(WholeCluster, frozen=True, kw_only=True):
    """`spec.drain` of the Cluster is set on the hub, and taken back after it.

    What shows it are the plans of the others.
    """

    @asynccontextmanager
    async def happen(self, bed: Clusterset) -> AsyncIterator[Trace]:
        trace, key, hub = Trace(), ObjectKey("", self.cluster), bed.hub
        await hub.patch(kinds.CLUSTER, key, {"spec": {"drain": True}})
        try:
            yield trace
            plans = {
                cluster: [plan for name in SERVICES for plan in await planned(bed, cluster, name)]
                for cluster in bed.clusters
                if cluster != self.cluster
            }
            if all(mine and not any(self.cluster in plan for plan in mine) for mine in plans.values()):
                count = sum(map(len, plans.values()))
                trace.saw(f"no share for {self.cluster} in any of {count} plans of {', '.join(plans)}")
        finally:
            await hub.patch(kinds.CLUSTER, key, {"spec": {"drain": False}})
