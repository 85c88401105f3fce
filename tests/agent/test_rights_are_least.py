"""deploy/rbac grants what the processes ask for on real API servers, and nothing else."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

sys.path.append(str(Path(__file__).parent))  # test folders are not packages

from spine import Spine, active_active, answers, both_serve, thing
from spineservers import AGENT, ATTEMPTED, HUB, MEMBERS, Real, Request, granted, settles

from isthmus.api import kinds
from isthmus.api.labels import AUTO_EXPORT
from isthmus.api.meta import Kind, ObjectKey
from isthmus.errors import Forbidden
from isthmus.kube.client import Client
from isthmus.kube.config import load_access
from isthmus.mcs.hubobjects import hub_namespace
from isthmus.model.names import ClusterId

if TYPE_CHECKING:
    from control_plane import ControlPlanes

pytestmark = pytest.mark.realapi

Right = tuple[str, str, str]
"""API group, resource, verb."""

AFTER_A_CONFLICT = {
    ("multicluster.x-k8s.io", "serviceexports", "get"),
    ("traffic.isthmus.dev", "globaltrafficpolicies", "get"),
    ("hub.isthmus.dev", "clusters", "get"),
}
"""Asked for only when somebody replaced an object between a look and a write."""


def user(process: str, server: str) -> str:
    if process == "hub":
        return f"system:serviceaccount:isthmus-system:{HUB}"
    namespace = hub_namespace(ClusterId(process)) if server == "hub" else "isthmus-system"
    return f"system:serviceaccount:{namespace}:{AGENT}"


def rights(process: str, server: str) -> set[Right]:
    return {
        (group, resource, verb)
        for role in granted(process, server)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def used(requests: list[Request]) -> Iterator[Right]:
    for one in requests:
        if one.code == 403 or one.resource.startswith("selfsubject"):
            continue  # the tests ask with the processes' tokens what these may
        yield one.group, one.resource, one.verb
        if (one.verb, one.code) == ("patch", 201):
            yield one.group, one.resource, "create"  # an apply that made the object


async def all_leave(spine: Spine) -> None:
    """Every member leaves, told by the hub's operator."""

    async def left() -> bool:
        found = [await spine.everything(member, kinds.CLUSTER_PROPERTY) for member in MEMBERS]
        names = [one["metadata"]["name"] for properties in found for one in properties]
        return "clusterset.k8s.io" not in names and not await spine.everything("hub", kinds.CLUSTER)

    for member in MEMBERS:
        await spine.clients["hub"].patch(kinds.CLUSTER, ObjectKey("", member), {"spec": {"leave": True}})
    await settles(left, "the members have left", spine.agents["eu-1"].log)


async def test_what_is_granted_is_used_and_what_is_needed_is_granted(
    tmp_path: Path, control_planes: ControlPlanes
) -> None:
    servers = Real(control_planes)
    async with Spine(tmp_path, servers) as spine:
        await spine.start("hub")
        await spine.apply("eu-2", kinds.POLICY, active_active("web"))
        await spine.apply("hub", kinds.NAMESPACE, thing(kinds.NAMESPACE, "", "shop"))
        everywhere = thing(kinds.POLICY, "shop", "all", spec={"overridable": True})
        await spine.apply("hub", kinds.POLICY, everywhere)
        await both_serve(spine)

        async def judged() -> bool:
            found = await spine.everything("hub", kinds.CLUSTER)
            return {one.get("status", {}).get("state") for one in found} == {"Ready"}

        async def told() -> bool:
            found = [await spine.condition(one, kinds.POLICY, "web", "Accepted") for one in MEMBERS]
            return None not in found

        async def summed() -> bool:
            found = await spine.get("hub", kinds.POLICY, "all")
            return found is not None and len(found.get("status", {}).get("clusters", ())) == len(MEMBERS)

        async def renewed() -> bool:
            return all(
                any(one.verb == "update" and one.user == user(*pair) for one in servers.requests())
                for pair in (("hub", "hub"), *zip(MEMBERS, MEMBERS, strict=True))
            )

        async def reported() -> bool:
            found = await spine.everything("hub", kinds.HEALTH_REPORT)
            return {one["spec"]["cluster"] for one in found} == set(MEMBERS)

        async def annotated(value: str) -> None:
            spec, metadata = {"ports": [{"port": 80}]}, {"annotations": {AUTO_EXPORT: value}}
            for member in MEMBERS:
                body = thing(kinds.SERVICE, "shop", "auto", spec=spec, metadata=metadata)
                await spine.apply(member, kinds.SERVICE, body)

        async def made() -> bool:
            return all([await spine.get(one, kinds.SERVICE_EXPORT, "auto") for one in MEMBERS])

        async def warned() -> bool:
            found = [await spine.everything(one, kinds.EVENT) for one in MEMBERS]
            return all(any(event["reason"] == "InvalidAnnotation" for event in events) for events in found)

        async def gone() -> bool:
            left = [await spine.everything(member, kinds.SERVICE_EXPORT) for member in MEMBERS]
            left += [await spine.everything("hub", kinds.EXPORTED_SERVICE)]
            left += [await spine.everything("hub", kinds.HEALTH_REPORT)]
            left += [await spine.everything(member, kinds.SERVICE_IMPORT) for member in MEMBERS]
            left += [
                [one for one in await spine.everything(member, kind) if "applied" in str(one["metadata"])]
                for member in MEMBERS
                for kind in (kinds.SERVICE, kinds.ENDPOINT_SLICE)
            ]
            return not any(left)

        await settles(judged, "both clusters are Ready")
        await settles(told, "both policies have a status")
        await settles(summed, "the hub's policy has a status")
        await settles(renewed, "every lease was renewed")
        await settles(reported, "both tell what their probes say")
        await annotated("true")
        await settles(made, "exports that annotations ask for")
        await annotated("perhaps")
        await settles(warned, "events about a wrong annotation")
        await annotated("false")
        for member in MEMBERS:
            await spine.clients[member].delete(kinds.SERVICE_EXPORT, ObjectKey("shop", "web"))
        await answers(spine, "eu-1", [])
        await settles(gone, "nothing of an export is left")
        await all_leave(spine)
    requests = servers.requests()
    refused = {(one.verb, one.resource) for one in requests if one.code == 403}
    assert refused <= ATTEMPTED
    for process, server in [("hub", "hub"), *((m, s) for m in MEMBERS for s in (m, "hub"))]:
        own = [one for one in requests if (one.server, one.user) == (server, user(process, server))]
        asked = {right for right in used(own) if right[:2] != ("", "namespaces") or right[2] != "create"}
        assert rights(process, server) - asked <= AFTER_A_CONFLICT, f"never used by {process} on {server}"
        assert asked <= rights(process, server)


@pytest.mark.parametrize(
    ("role", "resource", "process"),
    [
        (AGENT, "endpointslices", "eu-1"),
        (AGENT, "exportedservices", "eu-1"),
        ("isthmus-member", "clusters", "eu-1"),
        (HUB, "clusters/status", "hub"),
    ],
)
async def test_a_right_that_is_taken_away_is_missed_and_named(
    tmp_path: Path, control_planes: ControlPlanes, role: str, resource: str, process: str
) -> None:
    servers = Real(control_planes, without=[(role, resource)])
    async with Spine(tmp_path, servers) as spine:
        await spine.serve("eu-1", "web")
        await spine.start("eu-1", "hub")

        async def refused() -> bool:
            found = [one for one in servers.requests() if one.code == 403]
            return any(one.resource == resource for one in found)

        async def told() -> bool:
            log = (spine.hub if process == "hub" else spine.agents[process]).log.read_text()
            return "forbidden" in log and resource.partition("/")[0] in log

        await settles(refused, f"a refusal of {resource}")
        await settles(told, f"the log of {process} names {resource}")


async def test_a_member_speaks_for_itself_alone(tmp_path: Path, control_planes: ControlPlanes) -> None:
    secrets = Kind("", "v1", "Secret", "secrets", True, dict)
    async with (
        Spine(tmp_path, Real(control_planes)),
        Client(load_access(tmp_path / "eu-1.kubeconfig", "hub")) as hub,
        Client(load_access(tmp_path / "eu-1.kubeconfig", "eu-1")) as member,
    ):

        async def writes(kind: Kind[Any], namespace: str, name: str, **parts: Any) -> None:
            subresource = "status" if "status" in parts else ""
            body = thing(kind, namespace, name, **parts)
            await hub.apply(kind, body, manager="isthmus", subresource=subresource)

        await writes(kinds.CLUSTER, "", "eu-1", spec={"region": "eu"})
        await writes(kinds.LEASE, "isthmus-eu-1", "heartbeat", spec={"holderIdentity": "eu-1"})
        for kind, namespace, name, parts in (
            (kinds.CLUSTER, "", "eu-2", {"spec": {"region": "us"}}),
            (kinds.CLUSTER, "", "eu-9", {"spec": {"region": "eu"}}),
            (kinds.CLUSTER, "", "eu-1", {"status": {"state": "Ready"}}),
            (kinds.LEASE, "isthmus-eu-2", "heartbeat", {"spec": {"holderIdentity": "eu-2"}}),
            (kinds.LEASE, "isthmus-eu-1", "other", {"spec": {"holderIdentity": "eu-1"}}),
            (kinds.LEASE, "isthmus-system", "isthmus-hub", {"spec": {"holderIdentity": "eu-1"}}),
            (kinds.EXPORTED_SERVICE, "isthmus-eu-2", "web.shop", {"spec": {}}),
            (kinds.EXPORTED_ENDPOINTS, "isthmus-eu-2", "web.shop-0", {"spec": {}}),
            (kinds.POLICY, "shop", "web", {"spec": {}}),
        ):
            with pytest.raises(Forbidden):
                await writes(kind, namespace, name, **parts)
        for client in (hub, member):
            with pytest.raises(Forbidden):
                await client.list_page(secrets)
