"""This agent's session with the hub: its heartbeat, and whether what it hears of the hub is current.

While the session is not live, cluster states stay as they were last seen: the silence may be ours.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import structlog

from isthmus.api import kinds, labels
from isthmus.api.meta import Kind
from isthmus.errors import Forbidden, NotFound
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
REGISTER_SECONDS = 60.0
"""How long a hub that forbids us to register is left in peace; whoever admits us may do it meanwhile."""
HUB = "hub"

log = structlog.get_logger()


class Session:
    """Registers the cluster on the hub, keeps its lease, and keeps the row `hub` of a table true.

    `on_registered` hears of each registration, the first one and those after the hub has forgotten us.
    """

    def __init__(
        self,
        client: Client,
        cluster: ClusterId,
        region: str,
        last_heard: Callable[[], float | None],
        writer: Writer[str, bool],
        *,
        on_registered: Callable[[], None] = lambda: None,
        beats: heartbeat.HeartbeatOptions | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._cluster = cluster
        self._region = region
        self._last_heard = last_heard
        self._writer = writer
        self._on_registered = on_registered
        self._beats = beats
        self._clock = clock
        self._wall = wall
        self._register_at = float("-inf")
        self._forbidden = ""
        self._writer.put(HUB, False)

    async def run(self) -> None:
        """Beats and looks until cancelled."""
        async with asyncio.TaskGroup() as group:
            beat = heartbeat.beat(self._renew, clock=self._clock, options=self._beats)
            group.create_task(beat, name="heartbeat")
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
        if self._clock() >= self._register_at:
            await self._register(namespace)
        lease = heartbeat.heartbeat_lease(cluster=self._cluster, namespace=namespace, wall=self._wall())
        try:
            await self._client.apply(kinds.LEASE, lease, manager=labels.MANAGER)
        except NotFound:
            self._register_at = float("-inf")
            raise

    async def _register(self, namespace: str) -> None:
        """Makes this cluster known: its namespace and its Cluster object (whose `drain` is people's).

        Where the hub's administrator admits clusters, both exist already and at most the region is ours to
        write; what is forbidden is theirs to do, and the heartbeat does not wait for it.
        """
        member = {
            "apiVersion": kinds.CLUSTER.api_version,
            "kind": kinds.CLUSTER.kind,
            "metadata": {"name": self._cluster},
            "spec": {"region": self._region},
        }
        space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
        await self._forbids(kinds.NAMESPACE, space)  # the lease tells where it is missing
        forbidden = await self._forbids(kinds.CLUSTER, member)
        self._register_at = self._clock() + REGISTER_SECONDS if forbidden else float("inf")
        if forbidden and not self._forbidden:
            log.warning("hub does not let this cluster register", error=forbidden)
        elif self._forbidden and not forbidden:
            log.info("registered on the hub")
        self._forbidden = forbidden
        self._on_registered()  # what could not be written into a namespace that was missing can be now

    async def _forbids(self, kind: Kind[Any], body: dict[str, Any]) -> str:
        """Applies an object; what the hub says where it forbids that, "" where it is done."""
        try:
            await self._client.apply(kind, body, manager=labels.MANAGER)
        except Forbidden as error:
            return str(error)
        return ""
