"""The hub withdraws the rights of all agents: it answers none of them until they are given back.

Watches that run go on until their server ends them, so that only what agents ask and write fails at once.
What shows it is that no heartbeat is renewed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from isthmus.api import kinds, meta
from isthmus.api.meta import Kind, ObjectKey
from isthmus.fleet.heartbeat import LEASE_NAME, HeartbeatOptions
from isthmus.kube.client import Client
from isthmus.kube.raw import raw
from isthmus.mcs.hubobjects import hub_namespace
from isthmus.model.names import ClusterId
from loadtests.load.clusterset import Clusterset
from loadtests.load.faults.hub import HubLost
from loadtests.load.marks import Trace

_RBAC = "rbac.authorization.k8s.io"
_ROLE_BINDINGS = raw(Kind(_RBAC, "v1", "RoleBinding", "rolebindings", True, meta.Object))
_CLUSTER_ROLE_BINDINGS = raw(
    Kind(_RBAC, "v1", "ClusterRoleBinding", "clusterrolebindings", False, meta.Object)
)
SETTLED_SECONDS = 2.0
"""After that no request of an agent is under way that was allowed before."""
TELLING_SECONDS = 2 * HeartbeatOptions().interval
"""No heartbeat in a shorter time says nothing."""


@asynccontextmanager
async def hub_lost(fault: HubLost, bed: Clusterset) -> AsyncIterator[Trace]:
    """All bindings that deploy/rbac/hub-agent.yaml makes bind nobody."""
    trace = Trace()
    bindings = [
        (kind, key, (await bed.hub.get(kind, key))["subjects"])
        for cluster in bed.clusters
        for kind, key in bindings_of(cluster)
    ]
    try:
        for kind, key, _ in bindings:
            await bed.hub.patch(kind, key, {"subjects": []})
        await asyncio.sleep(SETTLED_SECONDS)
        before, began = await _beats(bed.hub, bed.clusters), time.monotonic()
        yield trace
        seconds = time.monotonic() - began
        if seconds >= TELLING_SECONDS and await _beats(bed.hub, bed.clusters) == before:
            trace.saw(f"the hub took no heartbeat of {', '.join(bed.clusters)} in {seconds:.0f} s")
    finally:
        # What the hub says of one of them does not spare the others: each is somebody's right.
        patches = (bed.hub.patch(kind, key, {"subjects": subjects}) for kind, key, subjects in bindings)
        answers = await asyncio.gather(*patches, return_exceptions=True)
        if errors := [answer for answer in answers if isinstance(answer, BaseException)]:
            raise BaseExceptionGroup("agents have not all their rights back", errors)


def bindings_of(cluster: str) -> list[tuple[Kind[dict[str, Any]], ObjectKey]]:
    """Those that give the cluster's agent its rights on the hub."""
    namespace = hub_namespace(ClusterId(cluster))
    return [
        (_ROLE_BINDINGS, ObjectKey(namespace, "isthmus-agent")),
        (_CLUSTER_ROLE_BINDINGS, ObjectKey("", namespace)),
        (_CLUSTER_ROLE_BINDINGS, ObjectKey("", f"{namespace}-reads")),
    ]


async def _beats(hub: Client, clusters: tuple[str, ...]) -> list[str | None]:
    """When each cluster's heartbeat was renewed last."""
    keys = [ObjectKey(hub_namespace(ClusterId(cluster)), LEASE_NAME) for cluster in clusters]
    return [(await hub.get(kinds.LEASE, key)).spec.renew_time for key in keys]
