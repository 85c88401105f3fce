"""An API server that answers with errors, resets connections, or falls silent.

The servers of the bed suffer on demand (`isthmus.apiserver.faults`); what shows that it bit is that agents
have counted it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

import aiohttp

from isthmus.demo.reach import answers
from isthmus.demo.world import API_PORT, FAULTS_PORT, HUB_PORT, Member, World
from loadtests.load.bed import Bed
from loadtests.load.clusterset import HUB
from loadtests.load.counters import told
from loadtests.load.faults.fault import Fault, fault, no_cluster
from loadtests.load.marks import Trace

REQUESTS = "isthmus_kube_requests_total"


class _ApiFault(Fault, frozen=True, kw_only=True):
    """`server`: a cluster, or `hub`."""

    server: str

    def complaint(self, world: World) -> str:
        return "" if self.server == HUB else no_cluster(self.server, world, "server")

    def alone(self) -> tuple[str, ...]:
        return (f"the API server of {self.server}",)

    def _agents(self, bed: Bed) -> list[Member]:
        return list(bed.world.members) if self.server == HUB else [bed.member(self.server)]

    async def _suffer(self, bed: Bed, *faults: dict[str, Any]) -> None:
        url = f"http://{bed.world.hub}:{FAULTS_PORT}/faults"
        body = {"cluster": self.server, "faults": faults}
        async with aiohttp.ClientSession(raise_for_status=True) as session, session.post(url, json=body):
            pass

    async def _suffered(self, bed: Bed) -> int:
        """How many requests have met a fault of this server so far, by its own count."""
        url = f"http://{bed.world.hub}:{FAULTS_PORT}/suffered"
        async with aiohttp.ClientSession(raise_for_status=True) as session, session.get(url) as answer:
            return int((await answer.json())[self.server])

    def _label(self) -> str:
        return HUB if self.server == HUB else "member"


@fault("api-errors")
class ApiErrors(_ApiFault, frozen=True, kw_only=True):
    """Every request is answered with `code`; 410 ends the watches that run, too."""

    code: Literal[401, 403, 410, 429, 500, 503, 504]
    retry_after: int | None = None
    """Seconds, as the server asks for with 429."""

    @asynccontextmanager
    async def happen(self, bed: Bed) -> AsyncIterator[Trace]:
        trace, agents = Trace(), self._agents(bed)
        labels = {"server": self._label(), "code": str(self.code)}
        before = await told(agents, REQUESTS, **labels)
        suffering = {"kind": "error", "code": self.code, "retry_after": self.retry_after}
        trace.begins()
        # Watches that run are cut first: nobody else would have to ask again while this lasts.
        await self._suffer(bed, {"kind": "cut"})
        await self._suffer(bed, suffering)
        try:
            yield trace
            count = await told(agents, REQUESTS, **labels) - before
            if count > 0:
                trace.saw(f"the API server of {self.server} answered agents {count:g} times with {self.code}")
        finally:
            await self._suffer(bed)


@fault("api-lost")
class ApiLost(_ApiFault, frozen=True, kw_only=True):
    """Connections are reset as soon as they are there (`cut`), or requests never answered (`silence`)."""

    how: Literal["cut", "silence"] = "cut"

    @asynccontextmanager
    async def happen(self, bed: Bed) -> AsyncIterator[Trace]:
        trace, agents = Trace(), self._agents(bed)
        before = await self._suffered(bed)
        trace.begins()
        await self._suffer(bed, {"kind": self.how})
        try:
            yield trace
            count = await self._suffered(bed) - before
            address, port = (bed.world.hub, HUB_PORT) if self.server == HUB else (agents[0].api, API_PORT)
            if count and await answers(address, port, "/readyz"):
                how = "reset" if self.how == "cut" else "left without an answer"
                trace.saw(f"{count} requests of agents to the API server of {self.server} {how}")
        finally:
            await self._suffer(bed)
