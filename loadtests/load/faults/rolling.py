"""A rolling restart: every pod of some services is replaced, one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from typing import ClassVar

from isthmus.api.meta import ObjectKey
from isthmus.demo.world import World
from loadtests.load import packets, pods
from loadtests.load.bed import Bed
from loadtests.load.counters import endpoints
from loadtests.load.doors import SERVICES
from loadtests.load.faults.fault import OneCluster, fault, meanwhile, no_services
from loadtests.load.marks import Trace

SURGE_SECONDS = 0.5
"""Between a new pod's readiness and the end of the old one's, as a Deployment with a surge of one has it."""


@fault("rolling-restart")
class RollingRestart(OneCluster, frozen=True, kw_only=True):
    """Each old pod terminates for `grace` seconds, serving still, then refuses; services go in parallel.

    Undone, the old pods are back at once and the new ones serve until the bed ends.
    """

    counts: ClassVar[tuple[str, ...]] = ("pods replaced",)

    services: tuple[str, ...] = SERVICES
    grace: float = 6.0

    def complaint(self, world: World) -> str:
        if self.grace < 0:
            return f"grace: {self.grace:g} is less than 0 seconds"
        return super().complaint(world) or no_services(self.services)

    def least_seconds(self) -> float:
        return SURGE_SECONDS + self.grace

    @asynccontextmanager
    async def happen(self, bed: Bed) -> AsyncIterator[Trace]:
        stage, member, trace = bed.stage, bed.member(self.cluster), Trace()
        population = stage.populations[self.cluster]
        slices = {key: list(e) for service in self.services for key, e in pods.slices(population, service)}
        twins = await pods.start_twins(stage, member)
        new = {twins[endpoint["addresses"][0]] for each in slices.values() for endpoint in each}
        trace.begins()
        with ExitStack() as gone:
            rolling = [self._roll(bed, key, each, twins, gone, trace) for key, each in slices.items()]
            try:
                async with meanwhile(*rolling, name="rolling-restart"):
                    yield trace
                    known = set[str]()
                    for service in self.services:
                        known |= await endpoints(bed, self.cluster, service)
                    if known == new:
                        names = ", ".join(self.services)
                        trace.saw(f"{self.cluster} plans with the {len(known)} new pods of {names} only")
            finally:
                gone.close()
                for key, each in slices.items():
                    await pods.write(stage, member, key, each)

    async def _roll(
        self,
        bed: Bed,
        key: ObjectKey,
        before: pods.Endpoints,
        twins: dict[str, str],
        gone: ExitStack,
        trace: Trace,
    ) -> None:
        stage, member, now = bed.stage, bed.member(self.cluster), list(before)
        for old in before:
            address = old["addresses"][0]
            reference = {**old["targetRef"], "name": f"{old['targetRef']['name']}-new"}
            now.append({**old, "addresses": [twins[address]], "targetRef": reference})
            await pods.write(stage, member, key, now)
            await asyncio.sleep(SURGE_SECONDS)
            leaving = {"ready": False, "serving": True, "terminating": True}
            now[now.index(old)] = {**old, "conditions": leaving}
            await pods.write(stage, member, key, now)
            await asyncio.sleep(self.grace)
            gone.enter_context(packets.refusing([address]))
            now = [e for e in now if e["addresses"][0] != address]
            await pods.write(stage, member, key, now)
            trace.counts["pods replaced"] = trace.counts.get("pods replaced", 0) + 1
