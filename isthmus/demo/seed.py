"""What people would have applied before anything starts: CRDs, clusters, namespaces, Services, policies."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from isthmus.api import crds, kinds
from isthmus.api.meta import Kind
from isthmus.demo.population import Population
from isthmus.demo.world import Member
from isthmus.kube.client import Client
from isthmus.mcs.hubobjects import hub_namespace
from isthmus.model.names import ClusterId

_KINDS: Mapping[str, Kind[Any]] = {
    "Node": kinds.NODE,
    "Namespace": kinds.NAMESPACE,
    "Service": kinds.SERVICE,
    "EndpointSlice": kinds.ENDPOINT_SLICE,
    "ServiceExport": kinds.SERVICE_EXPORT,
}


async def seed(
    clients: Mapping[str, Client], populations: Sequence[Population], policies: Sequence[dict[str, Any]]
) -> None:
    """Fill the hub and every cluster; `clients` are by cluster name, and "hub"."""
    async with asyncio.TaskGroup() as group:
        group.create_task(_hub(clients["hub"], [p.member for p in populations]), name="seed-hub")
        for population in populations:
            name = population.member.name
            group.create_task(_member(clients[name], population, policies), name=f"seed-{name}")


async def _hub(hub: Client, members: Sequence[Member]) -> None:
    for crd in crds.hub_crds():
        await hub.create(kinds.CRD, crd)
    for member in members:
        space = hub_namespace(ClusterId(member.name))
        await hub.create(
            kinds.NAMESPACE, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space}}
        )
        await hub.create(
            kinds.CLUSTER,
            {
                "apiVersion": kinds.CLUSTER.api_version,
                "kind": "Cluster",
                "metadata": {"name": member.name},
                "spec": {"region": member.region},
            },
        )


async def _member(client: Client, population: Population, policies: Sequence[dict[str, Any]]) -> None:
    for crd in crds.member_crds():
        await client.create(kinds.CRD, crd)
    for kind, body in population.objects:
        await client.create(_KINDS[kind], body)
    for policy in policies:
        await client.create(kinds.POLICY, policy)
