"""The hub is lost: nobody reaches it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from loadtests.load import packets
from loadtests.load.bed import Bed
from loadtests.load.faults.fault import Fault, fault
from loadtests.load.marks import Trace


@fault("hub-lost")
class HubLost(Fault, frozen=True, kw_only=True):
    """All that goes between members and the hub is dropped."""

    @asynccontextmanager
    async def happen(self, bed: Bed) -> AsyncIterator[Trace]:
        trace = Trace()
        with packets.dropping([m.hub for m in bed.world.members]) as wall:
            try:
                yield trace
            finally:
                if dropped := wall.dropped():
                    trace.saw(f"{dropped} packets between members and hub dropped")
