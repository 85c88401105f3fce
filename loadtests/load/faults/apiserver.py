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
from loadtests.load.counters import logged, told
from loadtests.load.faults.fault import Fault, fault, no_cluster
from loadtests.load.marks import Trace

HUB = "hub"
REQUESTS = "isthmus_kube_requests_total"
LEASE = "lease unreachable"
"""What an agent logs of a request that it gives up itself, which is counted nowhere."""


class _ApiFault(Fault, frozen=True, kw_only=True):
    """`server`: a cluster, or `hub`."""

    server: str

    def complaint(self, world: World) -> str:
        return "" if self.server == HUB else no_cluster(self.server, world, "server")

    def _agents(self, bed: Bed) -> list[Member]:
        return list(bed.world.members) if self.server == HUB else [bed.member(self.server)]

    async def _suffer(self, bed: Bed, *faults: dict[str, Any]) -> None:
        url = f"http://{bed.world.hub}:{FAULTS_PORT}/faults"
        body = {"cluster": self.server, "faults": faults}
        async with aiohttp.ClientSession(raise_for_status=True) as session, session.post(url, json=body):
            pass

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
        labels = {"server": self._label(), "code": "0"}
        before = await self._unanswered(bed, agents, labels)
        await self._suffer(bed, {"kind": self.how})
        try:
            yield trace
            count = await self._unanswered(bed, agents, labels) - before
            # A request that its caller gives up is counted nowhere, so ask ourselves too.
            address, port = (bed.world.hub, HUB_PORT) if self.server == HUB else (agents[0].api, API_PORT)
            if await answers(address, port, "/readyz"):
                trace.saw(
                    f"the API server of {self.server} did not answer, {count:g} requests of agents failed"
                )
        finally:
            await self._suffer(bed)

    async def _unanswered(self, bed: Bed, agents: list[Member], labels: dict[str, str]) -> float:
        given_up = 0 if self.server == HUB else logged(bed.stage, agents, LEASE)
        return given_up + await told(agents, REQUESTS, **labels)
