"""Some pods of a cluster die: half of them at once, or one again and again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar, Literal

from isthmus.demo.world import World
from loadtests.load import packets, pods
from loadtests.load.bed import Bed
from loadtests.load.counters import told
from loadtests.load.faults.fault import OneCluster, fault, meanwhile, no_services
from loadtests.load.marks import Phase, Trace

OVERPROVISIONING = 1.4
"""The policy's default: a cluster takes its whole part while its health times this is 1."""
SETTLED_SECONDS = 2.0
VERDICTS = "isthmus_probes_changes_total"


@fault("half-unhealthy")
class HalfUnhealthy(OneCluster, frozen=True, kw_only=True):
    """Every other pod of these services in the cluster refuses or is silent; Kubernetes calls it ready."""

    has_phases: ClassVar[bool] = True

    services: tuple[str, ...] = ("front", "cart")
    how: Literal["refusing", "silent"] = "refusing"

    def complaint(self, world: World) -> str:
        return super().complaint(world) or no_services(self.services)

    @asynccontextmanager
    async def happen(self, bed: Bed) -> AsyncIterator[Trace]:
        trace, population = Trace(), bed.stage.populations[self.cluster]
        dead = [a for service in self.services for a in pods.addresses(population, service)[::2]]
        kind = packets.refusing if self.how == "refusing" else packets.dropping
        began = time.monotonic() + SETTLED_SECONDS
        with kind(dead) as wall:
            try:
                yield trace
            finally:
                shares = self._shares(bed)
                trace.phases.append(Phase(began=began, ended=time.monotonic(), shares=shares))
                if caught := wall.dropped():
                    trace.saw(f"{caught} packets to {len(dead)} pods of {self.cluster} {self.how}")

    def _shares(self, bed: Bed) -> dict[str, float]:
        """What each cluster is to serve of the first service: by its endpoints, this one by what lives."""
        sizes = {
            name: float(len(pods.addresses(population, self.services[0])))
            for name, population in bed.stage.populations.items()
        }
        whole = sizes[self.cluster]
        living = whole - len(range(0, int(whole), 2))
        sizes[self.cluster] = whole * min(1.0, OVERPROVISIONING * living / whole)
        return {name: size / sum(sizes.values()) for name, size in sizes.items()}


@fault("flapping-endpoint")
class FlappingEndpoint(OneCluster, frozen=True, kw_only=True):
    """One pod of the service refuses for `down` seconds, serves for `up` seconds, and so on.

    Counted as `verdicts` is how often an agent elsewhere changed its mind about anything.
    """

    counts: ClassVar[tuple[str, ...]] = ("verdicts",)

    service: str = "front"
    down: float = 1.2
    up: float = 1.2

    def complaint(self, world: World) -> str:
        if min(self.down, self.up) <= 0:
            return "down: and up: must be more than 0 seconds"
        return super().complaint(world) or no_services([self.service], "service")

    def least_seconds(self) -> float:
        return self.down

    @asynccontextmanager
    async def happen(self, bed: Bed) -> AsyncIterator[Trace]:
        trace = Trace()
        seen_by = next(m for m in bed.world.members if m.name != self.cluster)
        before = await told([seen_by], VERDICTS)
        trace.begins()
        async with meanwhile(self._flap(bed, trace), name="flapping"):
            yield trace
            trace.counts["verdicts"] = await told([seen_by], VERDICTS) - before

    async def _flap(self, bed: Bed, trace: Trace) -> None:
        address = pods.addresses(bed.stage.populations[self.cluster], self.service)[0]
        times, caught = 0, 0
        while True:
            with packets.refusing([address]) as wall:
                await asyncio.sleep(self.down)
                caught += wall.dropped()
            times += 1
            if caught:
                trace.saw(
                    f"a pod of {self.service} in {self.cluster} died {times} times, {caught} packets reset"
                )
            await asyncio.sleep(self.up)
