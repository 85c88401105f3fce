"""A clusterset for conformance tests: a hub and three members, and one namespace of them for each test.

The members differ on purpose: `AMS` and `FRA` have both address families, `NYC` has only IPv4 and an id of
two labels. Pods are EndpointSlices that the test writes. A `Space` reads what any client of the API sees.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import dns.message
import dns.rcode

from isthmus.api import kinds
from isthmus.api.meta import Kind, Object, ObjectKey
from isthmus.apiserver.faults import Fault
from isthmus.errors import NotFound
from isthmus.kube.raw import RawObject
from isthmus.mcs.hubobjects import hub_namespace
from isthmus.model.names import ClusterId

sys.path.append(str(Path(__file__).parents[1] / "agent"))  # test folders are not packages

import spinewaits
from spine import Spine, thing
from spineservers import Embedded, Real

T = TypeVar("T")

AMS, FRA, NYC = "ams-1", "fra-1", "nyc-1.lab"
MEMBERS = (AMS, FRA, NYC)
BOTH = "10.96.0.0/16,fd00:10:96::/112"
CIDRS = {AMS: BOTH, FRA: BOTH}
IPV4, IPV6 = "IPv4", "IPv6"
NET = {AMS: 65, FRA: 66, NYC: 67}
"""Third part of the members' pod addresses."""

HTTP: Mapping[str, Any] = {"name": "http", "port": 80, "targetPort": 8080}
IMPORT_NAME = "multicluster.kubernetes.io/service-name"
SOURCE_CLUSTER = "multicluster.kubernetes.io/source-cluster"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
SERVICE_NAME = "kubernetes.io/service-name"
DERIVED = "multicluster.kubernetes.io/derived-service"

QUOTA = Kind("", "v1", "ResourceQuota", "resourcequotas", True, Object)

_numbers = itertools.count(1)


def embedded() -> Embedded:
    """Servers of this process for the three members."""
    return Embedded(MEMBERS, cidrs=CIDRS)


def real(planes: Any) -> Real:
    """Real servers for the three members; each agent has the rights of deploy/rbac."""
    return Real(planes, members=MEMBERS, cidrs=CIDRS)


def pod(cluster: str, number: int, family: str = IPV4) -> str:
    """Address of a pod of a member."""
    return f"10.{NET[cluster]}.0.{number}" if family == IPV4 else f"fd00:{NET[cluster]}::{number:x}"


class Space:
    """One namespace, of the same name in the members that have it."""

    def __init__(self, world: Spine, name: str = "") -> None:
        self.world = world
        self.name = name or f"t{next(_numbers)}"

    async def open(self, *clusters: str) -> None:
        """Makes the namespace (in every member unless told which)."""
        for cluster in clusters or MEMBERS:
            await self.world.apply(cluster, kinds.NAMESPACE, thing(kinds.NAMESPACE, "", self.name))

    async def close(self, *clusters: str) -> None:
        """Deletes the namespace, with all that is in it."""
        for cluster in clusters or MEMBERS:
            await self.delete(cluster, kinds.NAMESPACE, self.name)

    # Writing, as a user does.
    async def service(
        self,
        cluster: str,
        name: str = "web",
        *,
        ports: Sequence[Mapping[str, Any]] = (HTTP,),
        families: Sequence[str] = (),
        headless: bool = False,
        metadata: Mapping[str, Any] | None = None,
        **spec: Any,
    ) -> None:
        """A Service; families: asked for in that order."""
        whole: dict[str, Any] = {"selector": {"app": name}, "ports": [dict(port) for port in ports], **spec}
        if headless:
            whole["clusterIP"] = "None"
        if families:
            whole["ipFamilies"] = list(families)
            whole["ipFamilyPolicy"] = "RequireDualStack" if len(families) > 1 else "SingleStack"
        body = thing(kinds.SERVICE, self.name, name, spec=whole, metadata=dict(metadata or {}))
        await self.world.apply(cluster, kinds.SERVICE, body)

    async def endpoints(
        self,
        cluster: str,
        name: str = "web",
        endpoints: Sequence[Mapping[str, Any]] | None = None,
        *,
        ports: Sequence[Mapping[str, Any]] = (HTTP,),
        family: str = IPV4,
    ) -> None:
        """The slice of a Service: by default two ready pods; `ports` are the Service's."""
        if endpoints is None:
            endpoints = [ready(pod(cluster, number, family)) for number in (1, 2)]
        body = thing(
            kinds.ENDPOINT_SLICE,
            self.name,
            f"{name}-{family.lower()}",
            metadata={"labels": {SERVICE_NAME: name, MANAGED_BY: "endpointslice-controller.k8s.io"}},
            addressType=family,
            ports=[
                {
                    "name": port.get("name", ""),
                    "port": port.get("targetPort", port["port"]),
                    "protocol": port.get("protocol", "TCP"),
                }
                for port in ports
            ],
            endpoints=[dict(endpoint) for endpoint in endpoints],
        )
        await self.world.apply(cluster, kinds.ENDPOINT_SLICE, body)

    async def export(
        self,
        cluster: str,
        name: str = "web",
        *,
        labels: Mapping[str, str] | None = None,
        annotations: Mapping[str, str] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """A ServiceExport with these exported labels and annotations."""
        spec: dict[str, Any] = {}
        if labels is not None:
            spec["exportedLabels"] = dict(labels)
        if annotations is not None:
            spec["exportedAnnotations"] = dict(annotations)
        body = thing(kinds.SERVICE_EXPORT, self.name, name, spec=spec, metadata=dict(metadata or {}))
        await self.world.apply(cluster, kinds.SERVICE_EXPORT, body)

    async def offer(self, cluster: str, name: str = "web", **service: Any) -> None:
        """A Service with two pods and its export, accepted: the next cluster's export is younger."""
        ports = service.get("ports", (HTTP,))
        await self.service(cluster, name, **service)
        for family in service.get("families") or (IPV4,):
            await self.endpoints(cluster, name, ports=ports, family=family)
        await self.export(cluster, name)
        await self.imported(cluster, name, lambda found: cluster in clusters_of(found))
        await self.aged(cluster, name)

    async def aged(self, cluster: str, name: str = "web") -> None:
        """Waits until an export of any member made from now on has a later creationTimestamp."""
        made = (await self.read(cluster, kinds.SERVICE_EXPORT, name))["metadata"]["creationTimestamp"]
        probe = thing(kinds.SERVICE_EXPORT, self.name, "clock")

        async def passed() -> bool:
            seen = await self.world.apply(cluster, kinds.SERVICE_EXPORT, probe)
            await self.delete(cluster, kinds.SERVICE_EXPORT, "clock")
            return bool(seen["metadata"]["creationTimestamp"] > made)

        await self.settles(passed, f"a second passes in {cluster}")

    async def unexport(self, cluster: str, name: str = "web") -> None:
        await self.delete(cluster, kinds.SERVICE_EXPORT, name)

    async def delete(self, cluster: str, kind: Kind[Any], name: str) -> None:
        key = ObjectKey(self.name if kind.namespaced else "", name)
        with suppress(NotFound):
            await self.world.clients[cluster].delete(kind, key)

    # Reading.
    async def get(self, cluster: str, kind: Kind[Any], name: str = "web") -> RawObject | None:
        return await self.world.get(cluster, kind, name, self.name)

    async def read(self, cluster: str, kind: Kind[Any], name: str = "web") -> RawObject:
        """The object, which must be there."""
        found = await self.get(cluster, kind, name)
        assert found is not None, f"{kind.kind} {name} in {cluster}"
        return found

    async def list(self, cluster: str, kind: Kind[Any], selector: str = "") -> list[RawObject]:
        """All objects of a kind in this namespace."""
        client = self.world.clients[cluster]
        page = await client.list_page(kind, namespace=self.name, label_selector=selector)
        return [json.loads(bytes(item)) for item in page.items]

    async def imported(
        self, cluster: str, name: str = "web", good: Callable[[RawObject], Any] = bool
    ) -> RawObject:
        """The ServiceImport, once there is one that is `good`."""

        async def look() -> RawObject | None:
            found = await self.get(cluster, kinds.SERVICE_IMPORT, name)
            return found if found is not None and good(found) else None

        return await self.settles(look, f"a ServiceImport {name} as it should be in {cluster}")

    async def everywhere(self, good: Callable[[RawObject], Any] = bool, name: str = "web") -> list[RawObject]:
        """The ServiceImports of all members, once all are `good`."""
        return [await self.imported(cluster, name, good) for cluster in MEMBERS]

    async def gone(self, kind: Kind[Any], name: str = "web", clusters: Sequence[str] = MEMBERS) -> None:
        """Waits until no member has the object."""

        async def look() -> bool:
            return not any([await self.get(cluster, kind, name) for cluster in clusters])

        await self.settles(look, f"no {kind.kind} {name} is left")

    async def slices(
        self, cluster: str, good: Callable[[list[RawObject]], Any] = bool, name: str = "web"
    ) -> list[RawObject]:
        """The imported EndpointSlices of a service, once they are `good`."""

        async def look() -> tuple[list[RawObject]] | None:
            found = await self.list(cluster, kinds.ENDPOINT_SLICE, f"{IMPORT_NAME}={name}")
            return (found,) if good(found) else None

        return (await self.settles(look, f"imported slices of {name} as they should be in {cluster}"))[0]

    async def derived(
        self, cluster: str, good: Callable[[RawObject], Any] = bool, name: str = "web"
    ) -> RawObject:
        """The derived Service of an import, once it is `good`."""
        found = await self.imported(
            cluster, name, lambda one: DERIVED in one["metadata"].get("annotations", {})
        )
        own = found["metadata"]["annotations"][DERIVED]

        async def look() -> RawObject | None:
            service = await self.get(cluster, kinds.SERVICE, own)
            return service if service is not None and good(service) else None

        return await self.settles(look, f"a derived Service of {name} as it should be in {cluster}")

    async def derived_slices(
        self, cluster: str, good: Callable[[list[RawObject]], Any] = bool, name: str = "web"
    ) -> list[RawObject]:
        """The slices that kube-proxy reads for an import, once they are `good`."""
        own = (await self.derived(cluster, name=name))["metadata"]["name"]

        async def look() -> tuple[list[RawObject]] | None:
            found = await self.list(cluster, kinds.ENDPOINT_SLICE, f"{SERVICE_NAME}={own}")
            return (found,) if good(found) else None

        return (await self.settles(look, f"slices of the derived Service of {name} in {cluster}"))[0]

    async def told(
        self,
        cluster: str,
        condition: str,
        status: str,
        reason: str = "",
        *,
        kind: Kind[Any] = kinds.SERVICE_EXPORT,
        name: str = "web",
    ) -> dict[str, Any]:
        """A condition of an object, once it has that status (and reason)."""
        last: list[Any] = []

        async def look() -> dict[str, Any] | None:
            found = conditions(await self.get(cluster, kind, name)).get(condition)
            last[:] = [found]
            fits = found is not None and found["status"] == status and reason in ("", found["reason"])
            return found if fits else None

        try:
            return await self.settles(
                look, f"{condition}={status} {reason} on {kind.kind} {name} in {cluster}"
            )
        except AssertionError as error:
            raise AssertionError(f"{error}; it is {last}") from None

    async def no_conflict(self, cluster: str) -> None:
        """Waits until nothing is said of conflicts on an export that counts for nothing."""

        async def silent() -> bool:
            return "Conflict" not in conditions(await self.get(cluster, kinds.SERVICE_EXPORT))

        await self.settles(silent, f"no condition Conflict in {cluster}")

    async def settles(self, look: Callable[[], Awaitable[T | None]], what: str) -> T:
        return await spinewaits.settles(look, f"{what} (namespace {self.name})")

    # DNS, asked of a member's agent.
    def host(self, name: str = "web") -> str:
        return f"{name}.{self.name}.svc.clusterset.local"

    async def ask(self, cluster: str, name: str, kind: str = "A") -> dns.message.Message | None:
        """The answer of an agent to a question, None while it gives none."""
        with suppress(OSError, dns.exception.Timeout):
            return await self.world.agents[cluster].resolve(name, kind)
        return None

    async def records(
        self, cluster: str, name: str, kind: str, wanted: Sequence[str] | Callable[[list[str]], Any]
    ) -> list[str]:
        """The records of a name as sorted texts, once they are the wanted ones."""
        last: list[Any] = []

        async def look() -> tuple[list[str]] | None:
            answer = await self.ask(cluster, name, kind)
            last[:] = [answer]
            if answer is None:
                return None
            found = sorted(str(one) for rrset in answer.answer for one in rrset)
            good = wanted(found) if callable(wanted) else found == sorted(wanted)
            return (found,) if good else None

        try:
            return (await self.settles(look, f"{kind} {name} at {cluster}: {wanted}"))[0]
        except AssertionError as error:
            raise AssertionError(f"{error}; it is {last}") from None

    async def rcode(self, cluster: str, name: str, kind: str = "A") -> str:
        """What the answer's code is, e.g. `NXDOMAIN`."""

        async def look() -> dns.message.Message | None:
            return await self.ask(cluster, name, kind)

        return dns.rcode.to_text((await self.settles(look, f"an answer from {cluster}")).rcode())


@asynccontextmanager
async def refusing(world: Spine, member: str) -> AsyncIterator[None]:
    """The hub takes no new ExportedService of a member meanwhile: it is full, or forbids it."""
    namespace = hub_namespace(ClusterId(member))
    hub = world.clients["hub"]
    if isinstance(world.servers, Embedded):
        path = f"*/namespaces/{namespace}/exportedservices/*"
        fault = Fault(kind="error", code=403, verbs=frozenset({"patch"}), paths=(path,))
        faults = world.servers.server.cluster("hub").faults
        faults.set(fault)
        try:
            yield
        finally:
            faults.clear()
        return
    count = {"count/exportedservices.hub.isthmus.dev": "0"}
    body = thing(QUOTA, namespace, "full", spec={"hard": count})
    await world.apply("hub", QUOTA, body)
    # No controller counts here; what stands in the status is what the server goes by.
    await hub.patch(
        QUOTA, ObjectKey(namespace, "full"), {"status": {"hard": count, "used": count}}, subresource="status"
    )
    try:
        yield
    finally:
        await hub.delete(QUOTA, ObjectKey(namespace, "full"))


def ready(*addresses: str, **fields: Any) -> dict[str, Any]:
    """An endpoint that Kubernetes calls ready."""
    return {"addresses": list(addresses), "conditions": {"ready": True}, **fields}


def conditions(found: Mapping[str, Any] | None) -> dict[str, dict[str, Any]]:
    """The conditions of an object by type."""
    return {one["type"]: one for one in (found or {}).get("status", {}).get("conditions", ())}


def clusters_of(found: Mapping[str, Any]) -> list[str]:
    """status.clusters of a ServiceImport."""
    return [one["cluster"] for one in found.get("status", {}).get("clusters", ())]


def addresses(slices: Sequence[Mapping[str, Any]]) -> list[str]:
    """All addresses of EndpointSlices, sorted."""
    return sorted(text for one in slices for entry in one["endpoints"] or () for text in entry["addresses"])


def ports_of(found: Mapping[str, Any]) -> list[tuple[str, str, int]]:
    """The ports of a ServiceImport, a Service or an EndpointSlice, sorted."""
    listed = found["spec"]["ports"] if "spec" in found else found["ports"]
    return sorted((port.get("name", ""), port.get("protocol", "TCP"), port["port"]) for port in listed)


async def stays(look: Callable[[], Awaitable[bool]], times: int = 20) -> None:
    """Asserts that something is so at every one of many looks."""
    for _ in range(times):
        assert await look()
        await asyncio.sleep(0.05)
