"""The bed that scenarios lie in: the demo's clusterset with callers of our own.

A scenario has a bed to itself: what an earlier one did to a cluster (the prober holds back one that flaps)
would change what the next one sees.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    AsyncExitStack,
    asynccontextmanager,
)
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from isthmus.demo.httpcall import connect
from isthmus.demo.inside import build
from isthmus.demo.order import Order
from isthmus.demo.stage import Say, Stage
from isthmus.demo.world import CONSOLE_PORT, DNS_PORT, ENVOY_PORT, XDS_PORT, Member, World
from loadtests.load.clusterset import HUB, Clusterset
from loadtests.load.crowd import Crowd
from loadtests.load.errand import Place
from loadtests.load.ground import PODS, WORLD, hosts
from loadtests.load.marks import Trace
from loadtests.load.peers import PEERS

if TYPE_CHECKING:
    from loadtests.load.faults.fault import Fault

ROOT = Path(__file__).resolve().parents[2]
MANIFESTS = ROOT / "examples" / "shop"
POLICIES = ROOT / "loadtests" / "policies.yaml"
NAMESPACE = "shop"


class Prepared(Protocol):
    """What a bed knows of a fault."""

    def prepared(self, stage: Stage) -> AbstractContextManager[None]: ...


class Bed(Clusterset):
    """The demo's. `stage` has processes, API clients, populations."""

    def __init__(self, stage: Stage, crowd: Crowd) -> None:
        super().__init__(
            clusters=[m.name for m in stage.world.members],
            namespace=NAMESPACE,
            clients=stage.clients,
            policies=stage.policies,
            processes=stage.processes,
            crowd=crowd,
            consoles={
                **{m.name: (m.agent, CONSOLE_PORT) for m in stage.world.members},
                HUB: (stage.world.hub, CONSOLE_PORT),
            },
        )
        self.stage = stage

    @property
    def world(self) -> World:
        return self.stage.world

    def member(self, cluster: str) -> Member:
        return self.world.member(cluster)

    def happens(self, fault: Fault) -> AbstractAsyncContextManager[Trace]:
        return fault.happen(self)

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
                pods=PODS,
            )
            for m in WORLD.members
        ]
        crowd = Crowd(stage.processes, folder, places, NAMESPACE)
        await crowd.gather(rates)
        await stage.processes.unbroken(stage.raise_curtain(), "curtain")
        await stage.first_checks()
        try:
            yield Bed(stage, crowd)
        finally:
            await crowd.close()
