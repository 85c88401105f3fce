"""The control process of an agent is killed, again and again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar

from isthmus.demo.world import World
from loadtests.load.bed import Bed
from loadtests.load.counters import serves_again
from loadtests.load.faults.fault import OneCluster, fault, meanwhile
from loadtests.load.marks import Trace

POLL_SECONDS = 0.05
BACK_SECONDS = 15.0


@fault("control-killed")
class ControlKilled(OneCluster, frozen=True, kw_only=True):
    """SIGKILL whenever the process has lived for `every` seconds; its supervisor brings it back each time.

    Counted are `killed` and `back`, who came in the place of one that was killed; the last must be ready too.
    """

    counts: ClassVar[tuple[str, ...]] = ("killed", "back")

    every: float = 1.5

    def complaint(self, world: World) -> str:
        if self.every <= 0:
            return "every: must be more than 0 seconds"
        return super().complaint(world)

    @asynccontextmanager
    async def happen(self, bed: Bed) -> AsyncIterator[Trace]:
        trace, member = Trace(), bed.member(self.cluster)
        killed: list[int] = []
        async with meanwhile(self._kill(bed, killed), name="kill-control"):
            yield trace
        ready = await serves_again(member, BACK_SECONDS)
        last = bed.stage.control_pid(member)
        # Each but the last was killed in its turn, so it had come in the place of the one before.
        back = len(killed) - (not ready or last in (0, *killed[-1:]))
        trace.counts |= {"killed": len(killed), "back": back}
        if killed and back == len(killed):
            trace.saw(
                f"control of {self.cluster} killed {back} times, back each time (process {last} is ready)"
            )

    async def _kill(self, bed: Bed, killed: list[int]) -> None:
        member = bed.member(self.cluster)
        while True:
            pid = bed.stage.control_pid(member)
            if pid in (0, *killed[-1:]):
                await asyncio.sleep(POLL_SECONDS)
                continue
            if killed:
                await asyncio.sleep(self.every)
            with contextlib.suppress(ProcessLookupError):  # it has ended by itself
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
