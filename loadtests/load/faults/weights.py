"""Traffic is moved from one cluster to another, in steps, as an operator does it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar

from isthmus.demo.world import World
from loadtests.load.clusterset import Clusterset
from loadtests.load.counters import planned
from loadtests.load.faults.fault import Fault, fault, meanwhile, no_cluster, no_services
from loadtests.load.marks import Phase, Trace

SETTLED_SECONDS = 0.8
"""After a change of policy; calls count towards a step's shares from then on."""
ROUNDED = 0.001
"""Shares of groups are whole basis points."""


@fault("weight-shift")
class WeightShift(Fault, frozen=True, kw_only=True):
    """The services' policies give `to` the weights of `steps` (0 to 100) in turn and `origin` the rest.

    Counted are the steps that all plans of all clusters followed (`steps planned`).
    """

    counts: ClassVar[tuple[str, ...]] = ("steps planned",)
    has_phases: ClassVar[bool] = True

    origin: str
    to: str
    steps: tuple[int, ...] = (0, 20, 50, 80, 100)
    each: float = 5.0
    services: tuple[str, ...] = ("front", "cart")

    def complaint(self, world: World) -> str:
        if not self.steps or not all(0 <= step <= 100 for step in self.steps):
            return "steps: must be weights from 0 to 100"
        if self.each <= SETTLED_SECONDS:
            return (
                f"each: must be more than {SETTLED_SECONDS:g} seconds, or no step can be told from the next"
            )
        if self.origin == self.to:
            return f"to: {self.to!r} is the origin itself; name another cluster"
        unknown = no_cluster(self.origin, world, "origin") or no_cluster(self.to, world, "to")
        return unknown or no_services(self.services)

    def least_seconds(self) -> float:
        return len(self.steps) * self.each

    def alone(self) -> tuple[str, ...]:
        return tuple(f"the policy of {service}" for service in self.services)

    @asynccontextmanager
    async def happen(self, bed: Clusterset) -> AsyncIterator[Trace]:
        trace = Trace()
        try:
            async with meanwhile(self._shift(bed, trace), name="weight-shift"):
                yield trace
                if trace.counts.get("steps planned") == len(self.steps):
                    trace.saw(
                        f"{len(self.steps)} steps of {', '.join(self.services)} from {self.origin} to "
                        f"{self.to}, each in all plans of all clusters"
                    )
        finally:
            for service in self.services:
                await bed.change_policy(service, {"targets": bed.policy_of(service).get("targets")})

    async def _shift(self, bed: Clusterset, trace: Trace) -> None:
        for step in self.steps:
            weights = {self.origin: 100 - step, self.to: step}
            targets = [{"cluster": cluster, "weight": weight} for cluster, weight in weights.items()]
            for service in self.services:
                await bed.change_policy(service, {"targets": targets})
            changed = time.monotonic()
            await asyncio.sleep(self.each)
            began, ended = changed + SETTLED_SECONDS, time.monotonic() - 0.1
            shares = {cluster: weight / 100 for cluster, weight in weights.items()}
            if all([await self._follows(bed, cluster, shares) for cluster in bed.clusters]):
                trace.counts["steps planned"] = trace.counts.get("steps planned", 0) + 1
            trace.phases.append(Phase(began=began, ended=ended, shares=shares))

    async def _follows(self, bed: Clusterset, cluster: str, shares: dict[str, float]) -> bool:
        """Whether all plans of these services in that cluster give these shares."""
        plans = [plan for service in self.services for plan in await planned(bed, cluster, service)]
        return bool(plans) and all(
            abs(plan.get(name, 0.0) - share) <= ROUNDED for plan in plans for name, share in shares.items()
        )
