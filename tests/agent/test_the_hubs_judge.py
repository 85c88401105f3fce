"""The hub's judge: only a watch that lives tells that a cluster is silent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from isthmus.agent.hubprocess import Judge
from isthmus.api import core, hub
from isthmus.flow import Graph
from isthmus.kube.reflector import State
from isthmus.model.names import ClusterId


class Court:
    """A judge with a clock of its own, over the clusters eu-1 and eu-2."""

    def __init__(self) -> None:
        self.now = self.word = 1000.0
        self.judge = Judge(lambda: self.now)
        self.judge.last_word = lambda: self.word
        self.leases = self.judge.leases.partition("test")
        self.leases.replace({})
        clusters = [msgspec.convert({"metadata": {"name": name}}, hub.Cluster) for name in ("eu-1", "eu-2")]
        self.judge.clusters.partition("test").replace({one.metadata.key: one for one in clusters})

    @asynccontextmanager
    async def sitting(self) -> AsyncIterator[None]:
        task = asyncio.create_task(Graph([self.judge.statuses]).run())
        try:
            await self.until(lambda: self.judge.statuses.synced)
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    def beat(self, cluster: str) -> None:
        """The watch brings a renewal now."""
        self.word = self.now
        spec = {"holderIdentity": cluster, "renewTime": f"at {self.now}"}
        metadata = {"name": "heartbeat", "namespace": f"isthmus-{cluster}"}
        lease = msgspec.convert({"metadata": metadata, "spec": spec}, core.Lease)
        self.leases.put(lease.metadata.key, lease)

    async def state(self, cluster: str) -> str:
        """What is said of a cluster after it was judged again."""
        computed = self.judge.statuses.computed
        self.judge.statuses.invalidate([ClusterId(cluster)])
        await self.until(lambda: self.judge.statuses.computed > computed)
        found: Any = self.judge.statuses.get(ClusterId(cluster)) or {"status": {"state": ""}}
        return str(found["status"]["state"])

    async def until(self, condition: Any) -> None:
        async with asyncio.timeout(60):
            while not condition():
                await asyncio.sleep(0)


async def test_a_watch_that_has_fallen_silent_makes_nobody_unknown() -> None:
    court = Court()
    async with court.sitting():
        court.judge.listening(State(live=True))
        court.now += 20.0
        court.beat("eu-1")
        court.beat("eu-2")
        assert await court.state("eu-1") == "Ready"
        court.now += 25.0
        assert await court.state("eu-1") == "Ready"
        court.beat("eu-2")
        assert await court.state("eu-1") == "Unknown"
        assert await court.state("eu-2") == "Ready"


async def test_a_cluster_that_was_never_heard_is_judged_once_the_hub_has_listened() -> None:
    court = Court()
    async with court.sitting():
        computed = court.judge.statuses.computed
        court.judge.listening(State(live=True))
        await court.until(lambda: court.judge.statuses.computed == computed + 2)
        court.now = court.word = 1020.0
        assert await court.state("eu-1") == "Unknown"
