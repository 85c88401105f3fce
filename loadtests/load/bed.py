"""The bed that scenarios lie in: the demo's clusterset with callers of our own.

A scenario has a bed to itself: what an earlier one did to a cluster (the prober holds back one that flaps)
would change what the next one sees.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

from isthmus.api import kinds
from isthmus.api.meta import ObjectKey
from isthmus.demo.httpcall import connect
from isthmus.demo.inside import build
from isthmus.demo.order import Order
from isthmus.demo.stage import Say, Stage
from isthmus.demo.world import DNS_PORT, ENVOY_PORT, XDS_PORT, Member, World
from loadtests.load.crowd import Crowd
from loadtests.load.errand import Place
from loadtests.load.ground import WORLD, hosts
from loadtests.load.peers import PEERS
from loadtests.load.samples import Death, Samples

ROOT = Path(__file__).resolve().parents[2]
MANIFESTS = ROOT / "examples" / "shop"
POLICIES = ROOT / "loadtests" / "policies.yaml"
NAMESPACE = "shop"
CALLER_GRACE = 1.0
"""Seconds that callers of a returned cluster have to find their feet before they count."""


class Prepared(Protocol):
    """What a bed knows of a fault."""

    def prepared(self, stage: Stage) -> AbstractContextManager[None]: ...


class Bed:
    """A running clusterset and its callers. `stage` has processes, API clients, populations.

    `samples` grow while the load runs; `deaths` say whose callers were dead when.
    """

    def __init__(self, stage: Stage, crowd: Crowd) -> None:
        self.stage = stage
        self.crowd = crowd
        self.deaths: list[Death] = []
        self._dying: dict[str, float] = {}

    @property
    def world(self) -> World:
        return self.stage.world

    @property
    def samples(self) -> Samples:
        return self.crowd.samples

    def member(self, cluster: str) -> Member:
        return self.world.member(cluster)

    # -- callers

    def callers_die(self, cluster: str) -> None:
        """From now on the callers of this cluster are dead and not counted."""
        self._dying[cluster] = time.monotonic()
        self.crowd.mute(self._dying)

    def callers_return(self, cluster: str) -> None:
        """They live again; what they see counts after CALLER_GRACE seconds."""
        began = self._dying.pop(cluster)
        self.deaths.append(Death(cluster=cluster, began=began, ended=time.monotonic() + CALLER_GRACE))
        self.crowd.mute(self._dying)

    # -- what faults need

    async def refuses(self, address: str, port: int) -> bool:
        """Whether a connection there is refused."""
        try:
            async with asyncio.timeout(1.0):
                (await connect(address, port)).close()
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
        return False

    async def change_policy(self, service: str, spec: dict[str, Any]) -> None:
        """Merge this into the spec of the service's policy in every cluster, as people would patch it."""
        key = ObjectKey(NAMESPACE, service)
        for member in self.world.members:
            await self.stage.clients[member.name].patch(kinds.POLICY, key, {"spec": spec})

    def policy_of(self, service: str) -> dict[str, Any]:
        """The spec that the bed starts with."""
        return next(p["spec"] for p in self.stage.policies if p["metadata"]["name"] == service)


@asynccontextmanager
async def made(
    envoy: str, folder: Path, rates: Mapping[str, float], faults: Iterable[Prepared], say: Say
) -> AsyncIterator[Bed]:
    """A bed whose services all answer, and callers who wait; inside the demo's namespaces, furnished before.

    `faults` are prepared before anything starts.
    Raises IsthmusError for what this machine lacks, and for a process that ends although nobody asked it to.
    """
    order = Order(
        manifests=str(MANIFESTS),
        policy=str(POLICIES),
        clusters=len(WORLD.members),
        rate=1,
        duration=45,
        keep=False,
        json=False,
        view=False,
        interactive=False,
        envoy=envoy,
        export_all=False,
        lenient=False,
        folder=str(folder),
        began=time.monotonic(),
        doors=[],
    )
    _, stage = build(order, WORLD, say)
    async with AsyncExitStack() as around:
        for fault in faults:
            around.enter_context(fault.prepared(stage))
        await around.enter_async_context(stage)
        places = [
            Place(
                cluster=m.name,
                region=m.region,
                zone=m.nodes[0][1],
                envoy=(m.envoy, ENVOY_PORT),
                dns=(m.agent, DNS_PORT),
                xds=(m.agent, XDS_PORT),
                peers={peer.name: (peer.address(m), peer.port) for peer in PEERS.values()},
                hosts=hosts(m),
            )
            for m in WORLD.members
        ]
        crowd = Crowd(stage.processes, folder, places)
        await crowd.gather(rates)
        rising = asyncio.create_task(stage.raise_curtain(), name="curtain")
        try:
            await asyncio.wait({rising, stage.processes.broken}, return_when=asyncio.FIRST_COMPLETED)
            if not rising.done():
                stage.processes.broken.result()
        finally:
            rising.cancel()
            await asyncio.wait({rising})
        rising.result()
        await stage.first_checks()
        try:
            yield Bed(stage, crowd)
        finally:
            await crowd.close()
