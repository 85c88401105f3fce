"""Clusterset IPs and address families: KEP-1645, clusterset IP and dual stack."""

from __future__ import annotations

import ipaddress
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))  # test folders are not packages

from clusterset import (
    AMS,
    CIDRS,
    FRA,
    IPV4,
    IPV6,
    MEMBERS,
    NYC,
    Space,
    addresses,
    clusters_of,
    pod,
    stays,
)

from isthmus.api import kinds
from isthmus.api.meta import ObjectKey
from isthmus.kube.raw import RawObject


def families(ips: list[str]) -> list[str]:
    return [f"IPv{ipaddress.ip_address(ip).version}" for ip in ips]


def owners(found: RawObject) -> list[str]:
    return [owner["uid"] for owner in found["metadata"].get("ownerReferences", ())]


@pytest.mark.parametrize("asked", [(IPV4,), (IPV6,), (IPV4, IPV6), (IPV6, IPV4)])
async def test_an_import_has_one_address_of_each_family_in_their_order(
    space: Space, asked: tuple[str, ...]
) -> None:
    """Rules: R5, R7. Specs: 6. A cluster that lacks a family does without it, and says so if it has none."""
    await space.offer(AMS, families=asked)
    for cluster in MEMBERS:
        usable = [one for one in asked if cluster in CIDRS or one == IPV4]
        if not usable:
            told = await space.told(
                cluster, "Ready", "False", "IPFamilyNotSupported", kind=kinds.SERVICE_IMPORT
            )
            assert "IPv6" in told["message"]
            assert not (await space.imported(cluster))["spec"].get("ips")
            continue
        found = await space.imported(cluster, good=lambda one: one["spec"].get("ips"))
        assert found["spec"]["ipFamilies"] == usable
        assert families(found["spec"]["ips"]) == usable
        assert (await space.derived(cluster))["spec"]["clusterIPs"] == found["spec"]["ips"]
        await space.told(cluster, "Ready", "True", "Ready", kind=kinds.SERVICE_IMPORT)


async def test_the_oldest_export_decides_the_families_and_nobody_loses_an_address(space: Space) -> None:
    """Rules: C2, C5. Specs: -. A newcomer that lacks a family raises the conflict and takes nothing away."""
    await space.offer(AMS, families=(IPV4, IPV6))
    before = [one["spec"]["ips"] for one in await space.everywhere(lambda one: one["spec"].get("ips"))]
    await space.offer(NYC)
    for cluster in (AMS, NYC):
        told = await space.told(cluster, "Conflict", "True", "IPFamilyConflict")
        assert told["message"] == (
            'Conflicting IP families. Using "IPv4,IPv6" from oldest service export in "ams-1". '
            "1/2 clusters disagree."
        )
    after = [one["spec"]["ips"] for one in await space.everywhere(lambda one: len(clusters_of(one)) == 2)]
    assert after == before
    slices = await space.slices(FRA, lambda found: len(found) == 3)
    assert {one["addressType"] for one in slices} == {IPV4, IPV6}


async def test_a_newcomer_with_more_families_changes_nothing_and_is_no_conflict(space: Space) -> None:
    """Rules: C5. Specs: -."""
    await space.offer(AMS)
    await space.offer(FRA, families=(IPV6, IPV4))
    for found in await space.everywhere(lambda one: len(clusters_of(one)) == 2):
        assert found["spec"]["ipFamilies"] == [IPV4]
    await space.told(AMS, "Conflict", "False", "NoConflicts")
    assert {one["addressType"] for one in await space.slices(NYC, lambda found: len(found) == 2)} == {IPV4}


async def test_an_address_stays_when_the_families_of_the_exports_change(space: Space) -> None:
    """Rules: R5, C2. Specs: -. Kubernetes cannot change a Service's first family, and need not."""
    await space.offer(AMS)
    first = (await space.imported(FRA, good=lambda one: one["spec"].get("ips")))["spec"]["ips"]
    await space.offer(FRA, families=(IPV6,))
    await space.unexport(AMS)
    only_v6 = await space.imported(
        FRA, good=lambda one: one["spec"]["ipFamilies"] == [IPV6] and one["spec"].get("ips")
    )
    assert families(only_v6["spec"]["ips"]) == [IPV6]
    await space.told(NYC, "Ready", "False", "IPFamilyNotSupported", kind=kinds.SERVICE_IMPORT)
    await space.offer(AMS)
    await space.unexport(FRA)
    again = await space.imported(FRA, good=lambda one: one["spec"]["ipFamilies"] == [IPV4])
    assert again["spec"]["ips"] == first
    await space.told(NYC, "Ready", "True", "Ready", kind=kinds.SERVICE_IMPORT)


async def test_an_address_outlives_its_service_and_its_agent(space: Space) -> None:
    """Rules: R5. Specs: -. The derived Service is deleted by hand, and the agent is started again."""
    await space.offer(AMS, families=(IPV4, IPV6))
    ips = (await space.imported(FRA, good=lambda one: one["spec"].get("ips")))["spec"]["ips"]
    derived = await space.derived(FRA)

    async def kept() -> bool:
        return bool((await space.read(FRA, kinds.SERVICE_IMPORT))["spec"]["ips"] == ips)

    for _ in range(8):  # a server tells that a Service has gone a moment before its addresses are free
        await space.delete(FRA, kinds.SERVICE, derived["metadata"]["name"])
        made = await space.derived(
            FRA, lambda one, old=derived["metadata"]["uid"]: one["metadata"]["uid"] != old
        )
        assert made["spec"]["clusterIPs"] == ips
        derived = made
    await stays(kept)
    agent = space.world.agents[FRA]
    await agent.stop()
    try:
        await space.delete(FRA, kinds.SERVICE, made["metadata"]["name"])
    finally:
        await agent.start()
    made = await space.derived(FRA, lambda one: one["metadata"]["uid"] != made["metadata"]["uid"])
    assert made["spec"]["clusterIPs"] == ips
    await stays(kept)
    own = await space.derived_slices(FRA, lambda found: len(found) == 2)
    assert all(owners(one) == [made["metadata"]["uid"]] for one in own)
    await space.told(FRA, "Ready", "True", "Ready", kind=kinds.SERVICE_IMPORT)


async def test_an_import_that_is_deleted_comes_back_with_its_address(space: Space) -> None:
    """Rules: R5. Specs: -. Its derived Service goes with it, by our hand or the garbage collector's."""
    await space.offer(AMS, families=(IPV4, IPV6))
    found = await space.imported(FRA, good=lambda one: one["spec"].get("ips"))
    ips = found["spec"]["ips"]
    for _ in range(8):
        await space.delete(FRA, kinds.SERVICE_IMPORT, "web")
        found = await space.imported(
            FRA, good=lambda one, old=found["metadata"]["uid"]: one["metadata"]["uid"] != old
        )
        derived = await space.derived(FRA, lambda one, uid=found["metadata"]["uid"]: owners(one) == [uid])
        assert derived["spec"]["clusterIPs"] == ips
        await space.told(FRA, "Ready", "True", "Ready", kind=kinds.SERVICE_IMPORT)
        assert (await space.read(FRA, kinds.SERVICE_IMPORT))["spec"]["ips"] == ips


async def test_an_address_that_somebody_took_is_given_up(space: Space) -> None:
    """Rules: R5. Specs: -."""
    await space.offer(AMS)
    ips = (await space.imported(FRA, good=lambda one: one["spec"].get("ips")))["spec"]["ips"]
    agent = space.world.agents[FRA]
    await agent.stop()
    try:
        await space.delete(FRA, kinds.SERVICE, (await space.derived(FRA))["metadata"]["name"])

        async def taken() -> bool:
            await space.service(FRA, "thief", clusterIP=ips[0])
            return True

        await space.settles(taken, "the address is another Service's")
    finally:
        await agent.start()
    found = await space.imported(FRA, good=lambda one: one["spec"].get("ips") not in (None, ips))
    assert (await space.derived(FRA))["spec"]["clusterIPs"] == found["spec"]["ips"]
    await space.told(FRA, "Ready", "True", "Ready", kind=kinds.SERVICE_IMPORT)
    await space.world.clients[FRA].delete(kinds.SERVICE, ObjectKey(space.name, "thief"))


async def test_endpoints_of_both_families_are_imported_under_their_own(space: Space) -> None:
    """Rules: E1. Specs: 17. One slice for each family of the import and each exporting cluster."""
    await space.offer(AMS, families=(IPV4, IPV6))
    for cluster in (AMS, FRA):
        found = await space.slices(cluster, lambda found: len(found) == 2)
        assert {one["addressType"]: addresses([one]) for one in found} == {
            family: sorted(pod(AMS, number, family) for number in (1, 2)) for family in (IPV4, IPV6)
        }
