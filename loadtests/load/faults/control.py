"""The control process of an agent is killed, again and again."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from isthmus.demo.world import World
from loadtests.load.bed import Bed
from loadtests.load.faults.fault import Fault, fault, no_cluster
from loadtests.load.marks import Trace

POLL_SECONDS = 0.05


@fault("control-killed")
class ControlKilled(Fault, frozen=True, kw_only=True):
    """SIGKILL whenever the process has lived for `every` seconds; its supervisor brings it back each time."""

    cluster: str
    every: float = 1.5

    def complaint(self, world: World) -> str:
        if self.every <= 0:
            return "every: must be more than 0 seconds"
        return no_cluster(self.cluster, world)

    @asynccontextmanager
    async def happen(self, bed: Bed) -> AsyncIterator[Trace]:
        trace = Trace()
        killing = asyncio.create_task(self._kill(bed, trace), name="kill-control")
        try:
            yield trace
        finally:
            killing.cancel()
            await asyncio.gather(killing, return_exceptions=True)

    async def _kill(self, bed: Bed, trace: Trace) -> None:
        member, killed = bed.member(self.cluster), 0
        while True:
            before = bed.stage.control_pid(member)
            if before:
                os.kill(before, signal.SIGKILL)
                killed += 1
            while (now := bed.stage.control_pid(member)) in (0, before):
                await asyncio.sleep(POLL_SECONDS)
            trace.saw(f"control of {self.cluster} killed {killed} times, back each time (process {now})")
            await asyncio.sleep(self.every)
