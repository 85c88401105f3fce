"""This agent's session with the hub: its heartbeat, and whether what it hears of the hub is current.

While the session is not live, cluster states stay as they were last seen: the silence may be ours.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from isthmus.agent.membership import Membership
from isthmus.api import kinds, labels
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
    """Keeps the cluster's lease for as long as it is a member, and the row `hub` of a table true."""

    def __init__(
        self,
        client: Client,
        cluster: ClusterId,
        membership: Membership,
        last_heard: Callable[[], float | None],
        writer: Writer[str, bool],
        *,
        beats: heartbeat.HeartbeatOptions | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._cluster = cluster
        self._membership = membership
        self._last_heard = last_heard
        self._writer = writer
        self._beats = beats
        self._clock = clock
        self._wall = wall
        self.begun = False
        """Whether it was live once, and what follows from that is known (the age of exports)."""
        self._writer.put(HUB, False)

    async def run(self) -> None:
        """Beats and looks until cancelled."""
        async with asyncio.TaskGroup() as group:
            beat = heartbeat.beat(
                self._renew, clock=self._clock, sleep=self._membership.sleep, options=self._beats
            )
            group.create_task(beat, name="heartbeat")
            group.create_task(self._membership.follow(), name="membership")
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
            live = self.live
            self._writer.put(HUB, live)
            await asyncio.sleep(LOOK_SECONDS)
            self.begun = self.begun or live

    async def _renew(self) -> None:
        try:
            if not await self._membership.step():
                # A hub that nothing is written to is still asked, or its silence would not be noticed.
                await self._client.list_page(kinds.CLUSTER, limit=1)
                return
            lease = heartbeat.heartbeat_lease(
                cluster=self._cluster, namespace=hub_namespace(self._cluster), wall=self._wall()
            )
            await self._client.apply(kinds.LEASE, lease, manager=labels.MANAGER)
        except BaseException:  # a timeout's cancellation too
            self._membership.doubt()
            raise
        self._membership.confirm()
