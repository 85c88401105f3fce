"""A Service that goes before its export, and after: what is told, and that nothing stays behind."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))  # test folders are not packages

from clusterset import (
    AMS,
    FRA,
    IMPORT_NAME,
    MEMBERS,
    NYC,
    Space,
    addresses,
    clusters_of,
    pod,
)

from isthmus.api import kinds
from isthmus.mcs.serviceimport import derived_name
from isthmus.model.names import ServiceKey


async def nothing_is_left(space: Space, *clusters: str) -> None:
    """Waits until these clusters and the hub have nothing of the service any more."""
    name = derived_name(ServiceKey(space.name, "web"))
    await space.gone(kinds.SERVICE_IMPORT, clusters=clusters)
    await space.gone(kinds.SERVICE, name, clusters=clusters)

    async def no_slices() -> bool:
        found = [
            one
            for cluster in clusters
            for selector in (f"{IMPORT_NAME}=web", f"kubernetes.io/service-name={name}")
            for one in await space.list(cluster, kinds.ENDPOINT_SLICE, selector)
        ]
        return not found

    async def not_on_hub() -> bool:
        found = [
            one
            for kind in (kinds.EXPORTED_SERVICE, kinds.EXPORTED_ENDPOINTS)
            for one in await space.world.everything("hub", kind)
            if one["spec"]["service"] == {"namespace": space.name, "name": "web"}
        ]
        return not found

    await space.settles(no_slices, "no slice is left")
    await space.settles(not_on_hub, "nothing is left on the hub")


async def test_a_service_that_goes_before_its_export_takes_everything_with_it(space: Space) -> None:
    """Rules: R1, R4, C6. Specs: 1. The export stays, says why, and works again when the Service is back."""
    await space.offer(AMS)
    await space.everywhere(lambda one: clusters_of(one) == [AMS])
    await space.slices(NYC)
    await space.told(AMS, "Valid", "True")
    await space.delete(AMS, kinds.SERVICE, "web")
    await space.told(AMS, "Valid", "False", "NoService")
    await space.told(AMS, "Ready", "False")
    await space.no_conflict(AMS)
    await nothing_is_left(space, *MEMBERS)
    await space.service(AMS)
    await space.told(AMS, "Valid", "True")
    await space.slices(NYC, lambda found: addresses(found) == [pod(AMS, 1), pod(AMS, 2)])
    await space.delete(AMS, kinds.SERVICE, "web")
    await space.told(AMS, "Valid", "False", "NoService")
    await space.unexport(AMS)
    await nothing_is_left(space, *MEMBERS)


async def test_a_service_that_outlives_its_export_is_left_alone(space: Space) -> None:
    """Rules: R1, R4, R6. Specs: 1. It contributes nothing, and its end is nobody's business."""
    await space.offer(AMS)
    await space.offer(FRA)
    both = sorted(pod(cluster, number) for cluster in (AMS, FRA) for number in (1, 2))
    await space.slices(NYC, lambda found: addresses(found) == both)
    uid = (await space.imported(NYC))["metadata"]["uid"]
    before = await space.read(AMS, kinds.SERVICE)
    await space.unexport(AMS)
    await space.slices(NYC, lambda found: addresses(found) == [pod(FRA, 1), pod(FRA, 2)])
    kept = await space.imported(NYC, good=lambda one: clusters_of(one) == [FRA])
    assert kept["metadata"]["uid"] == uid
    after = await space.read(AMS, kinds.SERVICE)
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
    await space.delete(AMS, kinds.SERVICE, "web")
    await space.unexport(FRA)
    await nothing_is_left(space, *MEMBERS)
    assert await space.get(FRA, kinds.SERVICE) is not None


async def test_of_two_exports_the_one_whose_service_goes_leaves_the_merge(space: Space) -> None:
    """Rules: C6, R4. Specs: -. The older one: what it alone said is over, and so is the conflict."""
    await space.offer(AMS, ports=[{"name": "http", "port": 80}, {"name": "own", "port": 81}])
    await space.offer(FRA)
    for cluster in (AMS, FRA):
        await space.told(cluster, "Conflict", "True", "PortConflict")
    await space.delete(AMS, kinds.SERVICE, "web")
    await space.told(AMS, "Valid", "False", "NoService")
    await space.told(FRA, "Conflict", "False", "NoConflicts")
    kept = await space.imported(NYC, good=lambda one: clusters_of(one) == [FRA])
    assert [port["port"] for port in kept["spec"]["ports"]] == [80]
    await space.slices(NYC, lambda found: addresses(found) == [pod(FRA, 1), pod(FRA, 2)])
