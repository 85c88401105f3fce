"""A cluster dies: its packets vanish, or its ports refuse."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

from loadtests.load import packets
from loadtests.load.bed import Bed
from loadtests.load.faults.fault import WholeCluster, fault
from loadtests.load.marks import Trace


@fault("cluster-silent")
class ClusterSilent(WholeCluster, frozen=True, kw_only=True):
    """All that goes to the cluster is dropped, in connections that exist too; nobody is told.

    `part: all` takes API server, agent, Envoy and callers with it, and its way to the hub.
    """

    part: Literal["all", "pods"] = "all"

    @asynccontextmanager
    async def happen(self, bed: Bed) -> AsyncIterator[Trace]:
        member, trace = bed.member(self.cluster), Trace()
        whole = self.part == "all"
        addresses = [member.slice, member.hub] if whole else [member.pod_slice]
        if whole:
            bed.callers_die(self.cluster)
        try:
            with packets.dropping(addresses) as wall:
                try:
                    yield trace
                finally:
                    if dropped := wall.dropped():
                        trace.saw(f"{dropped} packets to {self.cluster} dropped")
        finally:
            if whole:
                bed.callers_return(self.cluster)


@fault("cluster-refusing")
class ClusterRefusing(WholeCluster, frozen=True, kw_only=True):
    """All pods of the cluster are killed: connections are reset, new ones refused. Then they start again."""

    @asynccontextmanager
    async def happen(self, bed: Bed) -> AsyncIterator[Trace]:
        member, trace = bed.member(self.cluster), Trace()
        await bed.stage.processes.kill(f"pods-{self.cluster}")
        try:
            yield trace
            pods = bed.stage.populations[self.cluster].listeners
            refusing = sum([await bed.refuses(pod.address, pod.port) for pod in pods])
            if refusing:
                trace.saw(f"{refusing} of {len(pods)} ports of {self.cluster} refused")
        finally:
            await bed.stage.start_pods(member)
