"""EndpointSlices of imports and of their derived Services: KEP-1645, tracking endpoints."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parent))  # test folders are not packages

from clusterset import (
    AMS,
    FRA,
    IMPORT_NAME,
    MANAGED_BY,
    MEMBERS,
    NYC,
    SERVICE_NAME,
    SOURCE_CLUSTER,
    Space,
    addresses,
    clusters_of,
    pod,
    ready,
)

from isthmus.api import kinds


async def test_imported_slices_are_labelled_owned_and_of_one_cluster_each(space: Space) -> None:
    """Rules: E1. Specs: 17. In every cluster, the exporting ones included; gone with the export."""
    for cluster in MEMBERS:
        await space.offer(cluster)
    for cluster in MEMBERS:
        found = await space.slices(cluster, lambda found: len(found) == 3)
        owner = await space.read(cluster, kinds.SERVICE_IMPORT)
        for one in found:
            labels = one["metadata"]["labels"]
            assert labels[IMPORT_NAME] == "web"
            assert labels[MANAGED_BY] == "isthmus.dev"
            assert SERVICE_NAME not in labels
            source = labels[SOURCE_CLUSTER]
            assert addresses([one]) == [pod(source, 1), pod(source, 2)]
            (reference,) = one["metadata"]["ownerReferences"]
            assert (reference["kind"], reference["name"]) == ("ServiceImport", "web")
            assert reference["uid"] == owner["metadata"]["uid"]
            assert not reference.get("controller")
        assert {one["metadata"]["labels"][SOURCE_CLUSTER] for one in found} == set(MEMBERS)
    await space.unexport(FRA)
    for cluster in MEMBERS:
        left = await space.slices(cluster, lambda found: len(found) == 2)
        assert {one["metadata"]["labels"][SOURCE_CLUSTER] for one in left} == {AMS, NYC}


async def test_only_ready_endpoints_are_imported_with_what_callers_need(space: Space) -> None:
    """Rules: E3. Specs: -. Conditions, zone and hostname are copied; a foreign pod is not referred to."""
    target = {"kind": "Pod", "namespace": space.name, "name": "web-1", "uid": "1"}
    described = ready(pod(AMS, 1), hostname="web-1", zone="ams-1a", nodeName="n1", targetRef=target)
    described["conditions"] |= {"serving": True, "terminating": False}
    ending = {
        "addresses": [pod(AMS, 2)],
        "conditions": {"ready": False, "serving": True, "terminating": True},
    }
    unsaid = {"addresses": [pod(AMS, 3)], "conditions": {}}
    await space.offer(AMS)
    await space.endpoints(AMS, endpoints=[described, ending, unsaid])
    for cluster in (AMS, FRA):
        (found,) = await space.slices(cluster, lambda one: addresses(one) == [pod(AMS, 1), pod(AMS, 3)])
        first, third = sorted(found["endpoints"], key=lambda entry: str(entry["addresses"]))
        assert first["conditions"] == {"ready": True, "serving": True, "terminating": False}
        assert (first["hostname"], first["zone"]) == ("web-1", "ams-1a")
        assert "targetRef" not in first
        assert third["conditions"]["ready"] is True
    await space.endpoints(AMS, endpoints=[ending])
    await space.slices(FRA, lambda found: not found)
    assert clusters_of(await space.read(FRA, kinds.SERVICE_IMPORT)) == [AMS]


async def test_addresses_that_kubernetes_publishes_unready_are_imported(space: Space) -> None:
    """Rules: E3. Specs: -. With publishNotReadyAddresses its slices call every endpoint ready."""
    await space.offer(AMS, publishNotReadyAddresses=True, headless=True)
    await space.endpoints(AMS, endpoints=[ready(pod(AMS, 9))])
    await space.slices(FRA, lambda found: addresses(found) == [pod(AMS, 9)])


async def test_small_sets_are_one_slice_and_large_ones_are_cut(space: Space) -> None:
    """Rules: E1. Specs: 17. At most 500 endpoints a slice; every endpoint stands in one."""
    await space.offer(AMS)
    await space.slices(FRA, lambda found: len(found) == 1)
    many = [ready(f"10.64.{number // 250}.{number % 250 + 1}") for number in range(700)]
    await space.endpoints(AMS, endpoints=many)
    found = await space.slices(FRA, lambda found: len(addresses(found)) == 700)
    assert len(set(addresses(found))) == 700
    assert max(len(one["endpoints"]) for one in found) <= 500
    await space.endpoints(AMS)
    await space.slices(FRA, lambda found: len(found) == 1 and len(addresses(found)) == 2)


async def test_the_derived_services_slices_are_no_mcs_slices(space: Space) -> None:
    """Rules: E1, R6. Specs: 17, 21. Who counts the slices of the import or the Service finds only these."""
    await space.offer(AMS)
    for cluster in (AMS, FRA):
        for one in await space.derived_slices(cluster, lambda found: len(addresses(found)) == 2):
            labels = one["metadata"]["labels"]
            assert IMPORT_NAME not in labels
            assert SOURCE_CLUSTER not in labels
            assert labels[MANAGED_BY] == "isthmus.dev"


async def test_a_name_leads_to_the_exported_endpoints_by_the_derived_service(space: Space) -> None:
    """Rules: R5, D2. Specs: 24. In every cluster: name, address, ports and endpoints fit together."""
    await space.offer(AMS)
    for cluster in MEMBERS:
        derived = await space.derived(cluster, lambda one: one["spec"].get("clusterIP"))
        await space.records(cluster, space.host(), "A", [derived["spec"]["clusterIP"]])
        (found,) = await space.derived_slices(cluster, lambda found: len(found) == 1)
        assert addresses([found]) == [pod(AMS, 1), pod(AMS, 2)]
        assert [(port["name"], port["port"]) for port in found["ports"]] == [("http", 8080)]
        assert [(port["name"], port["port"]) for port in derived["spec"]["ports"]] == [("http", 80)]
        assert "selector" not in derived["spec"]


def zoned(cluster: str, zone: str, number: int) -> dict[str, Any]:
    return ready(pod(cluster, number), zone=zone, nodeName=f"node-{number}")


async def test_hints_keep_callers_in_their_zone_where_the_service_asks_for_it(space: Space) -> None:
    """Rules: C4. Specs: 5. As Kubernetes' own controller hints: each endpoint for its own zone."""
    await space.offer(AMS, trafficDistribution="PreferClose")
    await space.endpoints(AMS, endpoints=[zoned(AMS, "a", 1), zoned(AMS, "b", 2)])
    for cluster in (AMS, FRA):
        found = await space.derived_slices(
            cluster, lambda found: all("zone" in entry for one in found for entry in one["endpoints"])
        )
        for one in found:
            for entry in one["endpoints"]:
                assert entry["hints"] == {"forZones": [{"name": entry["zone"]}]}


async def test_hints_keep_callers_on_their_node_where_the_service_asks_for_it(space: Space) -> None:
    """Rules: C4. Specs: -. A node of another cluster is none of ours, though it has the same name."""
    await space.offer(AMS, trafficDistribution="PreferSameNode")
    await space.endpoints(AMS, endpoints=[zoned(AMS, "a", 1), zoned(AMS, "b", 2)])

    def hints(found: list[Any]) -> list[tuple[str, str]]:
        return sorted(
            (entry["hints"]["forNodes"][0]["name"], entry["zone"])
            for one in found
            for entry in one["endpoints"]
            if {"forNodes", "forZones"} <= entry.get("hints", {}).keys()
        )

    await space.derived_slices(AMS, lambda found: hints(found) == [("node-1", "a"), ("node-2", "b")])
    there = await space.derived_slices(FRA, lambda found: len(hints(found)) == 2)
    assert [zone for _, zone in hints(there)] == ["a", "b"]
    assert not {"node-1", "node-2"} & {node for node, _ in hints(there)}


async def test_a_cluster_that_falls_silent_keeps_its_slices(space: Space) -> None:
    """Rules: E2, R4. Specs: -. Its lease runs out, which says nothing of its endpoints."""
    await space.offer(AMS)
    await space.offer(NYC)
    await space.slices(FRA, lambda found: len(found) == 2)
    agent = space.world.agents[NYC]
    await agent.stop()
    try:

        async def unknown() -> bool:
            found = await space.world.get("hub", kinds.CLUSTER, NYC, "")
            return (found or {}).get("status", {}).get("state") == "Unknown"

        await space.settles(unknown, "the hub calls the cluster unknown")
        assert len(await space.slices(FRA)) == 2
        assert clusters_of(await space.read(FRA, kinds.SERVICE_IMPORT)) == [AMS, NYC]
        await space.endpoints(AMS, endpoints=[ready(pod(AMS, 7))])
        found = await space.slices(FRA, lambda found: pod(AMS, 7) in addresses(found))
        assert addresses(found) == sorted([pod(AMS, 7), pod(NYC, 1), pod(NYC, 2)])
    finally:
        await agent.start()
    await space.endpoints(NYC, endpoints=[ready(pod(NYC, 8))])
    await space.slices(FRA, lambda found: addresses(found) == sorted([pod(AMS, 7), pod(NYC, 8)]))
