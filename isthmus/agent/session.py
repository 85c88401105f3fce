"""This agent's session with the hub: its heartbeat, and whether what it hears of the hub is current.

While the session is not live, cluster states stay as they were last seen: the silence may be ours.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from isthmus.api import kinds, labels
from isthmus.errors import NotFound
from isthmus.fleet import heartbeat
from isthmus.flow import Writer
from isthmus.kube.client import Client
from isthmus.mcs.hubobjects import hub_namespace
from isthmus.model.names import ClusterId

ANSWER_SECONDS = 12.0
"""A hub that has answered nothing for two heartbeats and a bit is away."""
HEARD_SECONDS = 120.0
"""Its watches bring a bookmark about once a minute even when nothing happens."""
LOOK_SECONDS = 0.5
HUB = "hub"


class Session:
    """Registers the cluster on the hub, keeps its lease, and keeps the row `hub` of a table true."""

    def __init__(
        self,
        client: Client,
        cluster: ClusterId,
        region: str,
        last_heard: Callable[[], float | None],
        writer: Writer[str, bool],
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._cluster = cluster
        self._region = region
        self._last_heard = last_heard
        self._writer = writer
        self._clock = clock
        self._wall = wall
        self._registered = False
        self._writer.put(HUB, False)

    async def run(self) -> None:
        """Beats and looks until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(heartbeat.beat(self._renew, clock=self._clock), name="heartbeat")
            group.create_task(self._look(), name="hub-session")

    @property
    def live(self) -> bool:
        """Whether the hub has answered and its watches have spoken within their bounds."""
        now = self._clock()
        answered, heard = self._client.last_answer, self._last_heard()
        return (
            answered is not None
            and heard is not None
            and now - answered < ANSWER_SECONDS
            and now - heard < HEARD_SECONDS
        )

    async def _look(self) -> None:
        while True:
            self._writer.put(HUB, self.live)
            await asyncio.sleep(LOOK_SECONDS)

    async def _renew(self) -> None:
        namespace = hub_namespace(self._cluster)
        if not self._registered:
            await self._register(namespace)
        lease = heartbeat.heartbeat_lease(cluster=self._cluster, namespace=namespace, wall=self._wall())
        try:
            await self._client.apply(kinds.LEASE, lease, manager=labels.MANAGER)
        except NotFound:
            self._registered = False
            raise

    async def _register(self, namespace: str) -> None:
        """Makes this cluster known: its namespace and its Cluster object (whose `drain` is people's)."""
        space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
        member = {
            "apiVersion": kinds.CLUSTER.api_version,
            "kind": kinds.CLUSTER.kind,
            "metadata": {"name": self._cluster},
            "spec": {"region": self._region},
        }
        await self._client.apply(kinds.NAMESPACE, space, manager=labels.MANAGER)
        await self._client.apply(kinds.CLUSTER, member, manager=labels.MANAGER)
        self._registered = True
