"""Objects that Isthmus is told to leave alone, and objects of others: detach, adopt and what is found."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parent))  # test folders are not packages

from clusterset import (
    AMS,
    DERIVED,
    FRA,
    NYC,
    SERVICE_NAME,
    Space,
    addresses,
    clusters_of,
    conditions,
    pod,
    ready,
    stays,
)
from spine import thing
from spinewaits import rests
from test_annotations_choose_exports import annotate, warned

from isthmus.api import kinds
from isthmus.api.meta import Kind
from isthmus.kube.raw import RawObject, raw
from isthmus.mcs.serviceimport import derived_name
from isthmus.model.names import ServiceKey

Versions = dict[str, str]


async def versions(space: Space, cluster: str, *wanted: Kind[Any]) -> Versions:
    """uid and resourceVersion of all objects of these kinds in the namespace (on the hub: about it)."""
    found = {}
    for kind in wanted:
        for one in await space.world.everything(cluster, kind):
            metadata = one["metadata"]
            if space.name in (metadata["namespace"], one.get("spec", {}).get("service", {}).get("namespace")):
                name = f"{kind.kind} {metadata['namespace']}/{metadata['name']}"
                found[name] = f"{metadata['uid']} {metadata['resourceVersion']}"
    return found


async def rested(space: Space, cluster: str, *wanted: Kind[Any]) -> Versions:
    """The same, once it does not change any more."""
    what = f"objects in {cluster} that rest (namespace {space.name})"
    return await rests(lambda: versions(space, cluster, *wanted), what)


ON_HUB = (kinds.EXPORTED_SERVICE, kinds.EXPORTED_ENDPOINTS)
OF_IMPORT = (kinds.SERVICE_IMPORT, kinds.ENDPOINT_SLICE)


async def test_a_detached_export_stays_on_the_hub_as_it_is(space: Space) -> None:
    """Rules: R4. Specs: -. Whatever happens to its Service; let in again, it follows its Service."""
    await space.offer(AMS)
    await space.slices(NYC)
    await space.told(AMS, "Ready", "True", "Exported")
    await rested(space, AMS, kinds.SERVICE_EXPORT)
    await annotate(space, AMS, kinds.SERVICE_EXPORT, "web", detach="true")
    before = await rested(space, "hub", *ON_HUB)
    export = await space.read(AMS, kinds.SERVICE_EXPORT)
    await space.endpoints(AMS, endpoints=[ready(pod(AMS, 9))])
    await space.service(AMS, ports=[{"name": "http", "port": 80}, {"name": "new", "port": 81}])
    await space.delete(AMS, kinds.SERVICE, "web")
    await space.offer(FRA)  # the agents go on with the rest
    await space.imported(NYC, good=lambda one: clusters_of(one) == [AMS, FRA])

    async def untouched() -> bool:
        now = await versions(space, "hub", *ON_HUB)
        assert {name: text for name, text in now.items() if AMS in name} == before
        return (await space.read(AMS, kinds.SERVICE_EXPORT))["metadata"]["resourceVersion"] == export[
            "metadata"
        ]["resourceVersion"]

    await stays(untouched)
    assert pod(AMS, 1) in addresses(await space.slices(NYC))
    await space.service(AMS)
    await space.endpoints(AMS, endpoints=[ready(pod(AMS, 9))])
    await annotate(space, AMS, kinds.SERVICE_EXPORT, "web", detach=None)
    wanted = sorted([pod(AMS, 9), pod(FRA, 1), pod(FRA, 2)])
    await space.slices(NYC, lambda found: addresses(found) == wanted)


async def test_a_detached_export_survives_its_agents_restart(space: Space) -> None:
    """Rules: R4. Specs: -. The agent that starts reads from the hub what it had offered."""
    await space.offer(AMS)
    await space.imported(FRA)
    await annotate(space, AMS, kinds.SERVICE_EXPORT, "web", detach="true")
    before = await rested(space, "hub", *ON_HUB)
    agent = space.world.agents[AMS]
    await agent.stop()
    await space.delete(AMS, kinds.SERVICE, "web")
    await agent.start()
    await space.offer(AMS, "other")
    found = await versions(space, "hub", *ON_HUB)
    assert {name: text for name, text in found.items() if "/web." in name} == before
    assert clusters_of(await space.imported(AMS)) == [AMS]


async def test_an_export_that_is_deleted_while_detached_is_withdrawn(space: Space) -> None:
    """Rules: R4. Specs: 1. The annotation goes with the object that it stands on."""
    await space.offer(AMS)
    await space.imported(FRA)
    await annotate(space, AMS, kinds.SERVICE_EXPORT, "web", detach="true")
    await rested(space, "hub", *ON_HUB)
    await space.unexport(AMS)
    await space.gone(kinds.SERVICE_IMPORT)


async def test_an_export_that_is_born_detached_is_not_exported(space: Space) -> None:
    """Rules: R1. Specs: -."""
    await space.service(AMS)
    await space.export(AMS, metadata={"annotations": {"isthmus.dev/detach": "true"}})
    await space.offer(AMS, "other")

    async def nothing() -> bool:
        assert not conditions(await space.get(AMS, kinds.SERVICE_EXPORT))
        return await space.get(AMS, kinds.SERVICE_IMPORT) is None

    await stays(nothing)


async def test_a_detached_import_and_all_of_it_stay_until_it_is_let_in_again(space: Space) -> None:
    """Rules: R4, R5. Specs: -. The import, its status, the derived Service and all slices."""
    await space.offer(AMS)
    derived = (await space.derived(NYC, lambda one: one["spec"].get("clusterIP")))["metadata"]["name"]
    await space.derived_slices(NYC)
    await space.slices(NYC)
    await rested(space, NYC, *OF_IMPORT, kinds.SERVICE)
    await annotate(space, NYC, kinds.SERVICE_IMPORT, "web", detach="true")
    before = await rested(space, NYC, *OF_IMPORT, kinds.SERVICE)
    await space.offer(FRA, ports=[{"name": "http", "port": 80}, {"name": "new", "port": 81}])
    await space.imported(AMS, good=lambda one: len(clusters_of(one)) == 2)
    for cluster in (AMS, FRA):
        await space.unexport(cluster)
    await space.gone(kinds.SERVICE_IMPORT, clusters=(AMS, FRA))

    async def untouched() -> bool:
        return await versions(space, NYC, *OF_IMPORT, kinds.SERVICE) == before

    await stays(untouched)
    await annotate(space, NYC, kinds.SERVICE_IMPORT, "web", detach="false")
    await space.gone(kinds.SERVICE_IMPORT, clusters=(NYC,))
    await space.gone(kinds.SERVICE, derived, clusters=(NYC,))

    async def clean() -> bool:
        return not await space.list(NYC, kinds.ENDPOINT_SLICE)

    await space.settles(clean, "no slice is left")


async def foreign(space: Space, cluster: str, name: str = "web") -> RawObject:
    """A ServiceImport that somebody else has made."""
    spec = {"type": "ClusterSetIP", "ports": [{"port": 1234}], "ips": ["192.0.2.1"]}
    body = thing(kinds.SERVICE_IMPORT, space.name, name, spec=spec)
    return await space.world.clients[cluster].apply(raw(kinds.SERVICE_IMPORT), body, manager="other-mcs")


async def test_an_import_of_somebody_else_is_left_alone_and_told(space: Space) -> None:
    """Rules: R4. Specs: -. The service can be called all the same: by name, by clusterset IP, by Envoy."""
    theirs = await foreign(space, FRA)
    await space.offer(AMS)
    told = await warned(space, FRA, "ImportHeld")
    assert "held by other-mcs" in told
    assert 'isthmus.dev/adopt: "true"' in told
    name = derived_name(ServiceKey(space.name, "web"))

    async def address() -> list[str] | None:
        found = await space.get(FRA, kinds.SERVICE, name)
        return found["spec"]["clusterIPs"] if found else None

    vip = await space.settles(address, "a derived Service")
    await space.records(FRA, space.host(), "A", [vip[0]])
    await space.settles(
        lambda: space.list(FRA, kinds.ENDPOINT_SLICE, f"kubernetes.io/service-name={name}"),
        "slices of the derived Service",
    )

    async def untouched() -> bool:
        found = await space.read(FRA, kinds.SERVICE_IMPORT)
        assert found["metadata"]["resourceVersion"] == theirs["metadata"]["resourceVersion"]
        return not await space.list(FRA, kinds.ENDPOINT_SLICE, "multicluster.kubernetes.io/service-name=web")

    await stays(untouched)
    await space.unexport(AMS)
    await space.gone(kinds.SERVICE, name, clusters=(FRA,))
    await stays(untouched)


async def test_an_import_is_adopted_on_request_and_ours_from_then_on(space: Space) -> None:
    """Rules: R4, R5. Specs: -. Its uid and the clusterset IP that callers use stay."""
    await foreign(space, FRA)
    await annotate(space, FRA, kinds.SERVICE_IMPORT, "web", adopt="perhaps")
    await space.offer(AMS)
    assert '"perhaps" must be' in await warned(space, FRA, "InvalidAnnotation")
    name = derived_name(ServiceKey(space.name, "web"))

    async def address() -> list[str] | None:
        found = await space.get(FRA, kinds.SERVICE, name)
        return found["spec"]["clusterIPs"] if found else None

    vip = await space.settles(address, "a derived Service")
    before = await space.read(FRA, kinds.SERVICE_IMPORT)
    await annotate(space, FRA, kinds.SERVICE_IMPORT, "web", adopt="true")
    found = await space.imported(FRA, good=lambda one: one["spec"].get("ips") == vip and clusters_of(one))
    assert found["metadata"]["uid"] == before["metadata"]["uid"]
    assert found["metadata"]["annotations"][DERIVED] == name
    assert [port["port"] for port in found["spec"]["ports"]] == [80]
    await space.slices(FRA)
    await space.unexport(AMS)
    await space.gone(kinds.SERVICE_IMPORT, clusters=(FRA,))


async def test_an_import_that_is_handed_over_for_nothing_stays(space: Space) -> None:
    """Rules: R4. Specs: -. While nobody exports the service there is nothing to take over."""
    await foreign(space, FRA)
    await annotate(space, FRA, kinds.SERVICE_IMPORT, "web", adopt="true")
    await space.offer(AMS, "other")
    await space.imported(FRA, "other")

    async def there() -> bool:
        found = await space.read(FRA, kinds.SERVICE_IMPORT)
        return found["spec"]["ips"] == ["192.0.2.1"]

    await stays(there)


async def test_a_users_service_of_the_derived_name_is_never_touched(space: Space) -> None:
    """Rules: R6. Specs: -. It is named, the import waits for an address, the other doors are open."""
    name = derived_name(ServiceKey(space.name, "web"))
    await space.service(FRA, name)
    await space.endpoints(FRA, name)
    before = await rested(space, FRA, kinds.SERVICE)
    policy = {"dns": {"answer": "Endpoints"}}
    await space.world.apply(FRA, kinds.POLICY, thing(kinds.POLICY, space.name, "web", spec=policy))
    await space.offer(AMS)
    assert name in await warned(space, FRA, "DerivedServiceTaken")
    await space.told(FRA, "Ready", "False", "Pending", kind=kinds.SERVICE_IMPORT)
    await space.records(FRA, space.host(), "A", [pod(AMS, 1), pod(AMS, 2)])

    async def untouched() -> bool:
        slices = await space.list(FRA, kinds.ENDPOINT_SLICE, f"{SERVICE_NAME}={name}")
        assert addresses(slices) == [pod(FRA, 1), pod(FRA, 2)], "nothing of ours is put behind it"
        return await versions(space, FRA, kinds.SERVICE) == before

    await stays(untouched)
    await space.delete(FRA, kinds.SERVICE, name)
    await space.told(FRA, "Ready", "True", kind=kinds.SERVICE_IMPORT)
