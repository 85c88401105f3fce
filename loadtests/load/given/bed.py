"""The bed on given clusters: a shop in a namespace of its own, callers and Envoys on this machine.

Everything goes through API servers, doors of agents and addresses of pods: all must be reached from here.
When the bed is left, its namespace has gone from every cluster.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import yaml

from isthmus.api import kinds
from isthmus.api.meta import ObjectKey
from isthmus.demo.envoy import envoy_with
from isthmus.demo.processes import Processes
from isthmus.demo.stage import Say
from isthmus.errors import NotFound, PlatformError
from isthmus.kube.client import Client
from isthmus.kube.raw import RawObject, raw
from isthmus.model.names import ClusterId, Vantage
from isthmus.xds.bootstrap import envoy_bootstrap
from loadtests.load.bed import POLICIES
from loadtests.load.clusterset import HUB, Clusterset
from loadtests.load.crowd import Crowd
from loadtests.load.errand import Place
from loadtests.load.faults.fault import Fault
from loadtests.load.faults.rolling import RollingRestart
from loadtests.load.given import namespace, shop
from loadtests.load.given.clusters import Clusters, Given, access, address, identity
from loadtests.load.given.faults import happening
from loadtests.load.ground import HOSTS
from loadtests.load.marks import Trace
from loadtests.load.order import Order
from loadtests.ports import free_port

LOCAL = "127.0.0.1"
READY_SECONDS = 300.0
"""Until pods run; images may have to be pulled."""
_DEPLOYMENTS = raw(shop.DEPLOYMENTS)


class GivenBed(Clusterset):
    """Clusters that somebody has. What happens to their pods goes through their Deployments."""

    def happens(self, fault: Fault) -> AbstractAsyncContextManager[Trace]:
        return happening(fault, self)

    async def pods(self, cluster: str, service: str) -> list[RawObject]:
        """The pods of a service that are there, those too that are to go."""
        chosen = f"app={service}"
        page = await self.clients[cluster].list_page(
            shop.PODS, namespace=self.namespace, label_selector=chosen
        )
        return [msgspec.json.decode(item, type=RawObject) for item in page.items]

    async def deployment(self, cluster: str, service: str) -> RawObject:
        return await self.clients[cluster].get(_DEPLOYMENTS, ObjectKey(self.namespace, service))

    async def patch_deployment(self, cluster: str, service: str, spec: dict[str, Any]) -> None:
        key = ObjectKey(self.namespace, service)
        await self.clients[cluster].patch(shop.DEPLOYMENTS, key, {"spec": spec})


@asynccontextmanager
async def made(
    given: Clusters, order: Order, faults: Iterable[Fault], rates: Mapping[str, float], say: Say
) -> AsyncIterator[GivenBed]:
    """A bed whose services answer, and callers who wait; its pods serve on as long as `faults` say.

    Raises IsthmusError for what the clusters or this machine lack.
    """
    if shutil.which("setpriv") is None:
        raise PlatformError("there is no setpriv on PATH: install util-linux")
    beside, folder, grace = Path(order.clusters), Path(order.folder), _longest_grace(faults)
    async with AsyncExitStack() as around:
        apis = {cluster.name: access(cluster, beside) for cluster in given.clusters} | {
            HUB: access(given.hub, beside)
        }
        clients = {
            name: await around.enter_async_context(Client(api, timeout=30.0)) for name, api in apis.items()
        }
        members = {cluster.name: clients[cluster.name] for cluster in given.clusters}
        places = [await _place(cluster, given, clients[HUB], beside) for cluster in given.clusters]
        processes = await around.enter_async_context(Processes(folder, os.environ))
        policies = _policies()
        around.push_async_callback(namespace.remove_from, members)
        for client in members.values():
            await namespace.claim(client)
        say("the shop is set up in every cluster")
        for name, client in members.items():
            for kind, body in shop.objects(name, given.image, grace):
                await client.apply(kind, body, manager=namespace.MANAGER)
            for policy in policies:
                await client.apply(kinds.POLICY, policy, manager=namespace.MANAGER)
        for place, cluster in zip(places, given.clusters, strict=True):
            name = f"envoy-{place.cluster}"
            # No namespace ends with this process, and so nobody else would end an Envoy of a killed one.
            processes.wrap(name, "setpriv", "--pdeathsig", "KILL", "--")
            await processes.start(name, _envoy_command(Path(order.envoy), place, cluster.xds, folder))
        crowd = Crowd(processes, folder, places, shop.NAMESPACE)
        await crowd.gather(rates)
        bed = GivenBed(
            clusters=list(members),
            namespace=shop.NAMESPACE,
            clients=clients,
            policies=policies,
            processes=processes,
            crowd=crowd,
            consoles={cluster.name: address(cluster.console) for cluster in given.clusters},
        )
        await bed.until("pods of every cluster are ready", lambda: _unready(bed), READY_SECONDS)
        say("pods of every cluster are ready")
        try:
            yield bed
        finally:
            await crowd.close()
            say("the shop is taken away")


async def _place(cluster: Given, given: Clusters, hub: Client, beside: Path) -> Place:
    """Where callers of a cluster stand; its region is as the hub knows it."""
    try:
        known = await hub.get(kinds.CLUSTER, ObjectKey("", cluster.name))
    except NotFound as error:
        raise PlatformError(f"the hub ({hub.access.name}) knows no cluster {cluster.name!r}") from error
    dns = address(cluster.dns)
    return Place(
        cluster=cluster.name,
        region=known.spec.region,
        zone="",
        envoy=(LOCAL, free_port()),
        dns=dns,
        xds=address(cluster.xds),
        hosts=("::" if ":" in dns[0] else "0.0.0.0",) * HOSTS,
        identity=identity(cluster.certificates, beside) if cluster.certificates else None,
        pods={prefix: one.name for one in given.clusters for prefix in one.pods},
    )


def _policies() -> list[dict[str, Any]]:
    """Those of the demo's bed, for the shop's namespace."""
    found = list(yaml.safe_load_all(POLICIES.read_text(encoding="utf-8")))
    return [{**one, "metadata": {**one["metadata"], "namespace": shop.NAMESPACE}} for one in found]


async def _unready(bed: GivenBed) -> str:
    """The first Deployment whose pods are not all ready."""
    for cluster in bed.clusters:
        for service, size in shop.SIZES.items():
            status = (await bed.deployment(cluster, service)).get("status", {})
            if status.get("availableReplicas", 0) < size:
                return f"{service} of {cluster} has {status.get('availableReplicas', 0)} of {size}"
    return ""


def _envoy_command(program: Path, place: Place, xds: str, folder: Path) -> list[str]:
    """A standalone Envoy on this machine, as `isthmus bootstrap envoy` makes one for that cluster."""
    bootstrap = envoy_bootstrap(
        f"load-{place.cluster}",
        Vantage(place.region, place.zone, ClusterId(place.cluster)),
        xds,
        f"{LOCAL}:{free_port()}",
        f"{LOCAL}:{place.envoy[1]}",
        identity=place.identity,
    )
    return envoy_with(program, bootstrap, folder / f"envoy-{place.cluster}.json")


def _longest_grace(faults: Iterable[Fault]) -> float:
    """Seconds that pods must serve on when they are to go, for the most patient of these faults."""
    return max((fault.grace for fault in faults if isinstance(fault, RollingRestart)), default=0.0)
