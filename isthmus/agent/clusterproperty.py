"""The ClusterProperties of this cluster (about.k8s.io, KEP-2149), written as its membership goes.

A member has `cluster.clusterset.k8s.io` and `clusterset.k8s.io`; one that has left has only the first, which
may outlive the membership and says since when (`isthmus.dev/left`), so that no restart makes it join again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import structlog

from isthmus.agent.chain import OWN, Chain
from isthmus.agent.membership import said
from isthmus.api import kinds, labels
from isthmus.api.meta import ObjectKey
from isthmus.errors import ConfigError, Conflict, KubeError, NotFound
from isthmus.fleet.membership import ID_PROPERTY, SET_PROPERTY
from isthmus.kube.client import Client
from isthmus.model.cluster import Phase
from isthmus.model.timestamp import format_time

LOOK_SECONDS = 2.0

log = structlog.get_logger()


class ClusterProperties:
    """Writes them while `gate()` is open; what people wrote is kept as it is."""

    def __init__(
        self,
        client: Client,
        chain: Chain,
        clusterset: str,
        gate: Callable[[], bool],
        *,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._chain = chain
        self._clusterset = clusterset
        self._gate = gate
        self._wall = wall
        self._failing = ""

    async def run(self) -> None:
        """Looks until cancelled."""
        while True:
            try:
                if self._gate():
                    await self._converge()
            except (KubeError, ConfigError) as error:
                if not self._failing:
                    log.warning("cluster properties not written", error=str(error))
                self._failing = str(error)
            else:
                self._failing = ""
            await asyncio.sleep(LOOK_SECONDS)

    async def _converge(self) -> None:
        standing, now = self._chain.membership.get(OWN), said(self._chain)
        phase = Phase.UNDECIDED if standing is None else standing.phase
        if phase is Phase.MEMBER:
            if now.cluster is None:
                await self._create(ID_PROPERTY, self._chain.place.cluster)
            if now.clusterset is None:
                await self._create(SET_PROPERTY, self._clusterset)
        elif phase is Phase.LEAVING and not now.left:
            await self._record()
        elif phase is Phase.LEFT and now.clusterset == self._clusterset:
            with suppress(NotFound):
                await self._client.delete(kinds.CLUSTER_PROPERTY, ObjectKey("", SET_PROPERTY))

    async def _create(self, name: str, value: str) -> None:
        with suppress(Conflict):  # somebody was first: what it says is read next
            await self._client.create(kinds.CLUSTER_PROPERTY, _property(name, value), manager=labels.MANAGER)

    async def _record(self) -> None:
        """Notes that the cluster is leaving, where a restart finds it."""
        mark = {"metadata": {"annotations": {labels.LEFT: format_time(self._wall())}}}
        key = ObjectKey("", ID_PROPERTY)
        try:
            await self._client.patch(kinds.CLUSTER_PROPERTY, key, mark, manager=labels.MANAGER)
        except NotFound:
            await self._create(ID_PROPERTY, self._chain.place.cluster)  # and noted at the next look


def _property(name: str, value: str) -> dict[str, Any]:
    return {
        "apiVersion": kinds.CLUSTER_PROPERTY.api_version,
        "kind": kinds.CLUSTER_PROPERTY.kind,
        "metadata": {"name": name, "labels": {labels.MANAGED_BY: labels.MANAGER}},
        "spec": {"value": value},
    }
