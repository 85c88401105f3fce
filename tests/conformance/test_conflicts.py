"""What exports that disagree become, and what their owners are told: KEP-1645, conflict resolution."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parent))  # test folders are not packages

from clusterset import (
    AMS,
    FRA,
    HTTP,
    MEMBERS,
    NYC,
    SOURCE_CLUSTER,
    Space,
    addresses,
    clusters_of,
    pod,
    ports_of,
)

from isthmus.api import kinds

TCP = {"name": "tcp", "port": 42, "targetPort": 8042}
UDP = {"name": "udp", "port": 42, "protocol": "UDP", "targetPort": 8042}
SCTP = {"name": "stcp", "port": 142, "protocol": "SCTP", "targetPort": 8142}


def both(one: dict[str, Any]) -> bool:
    return len(clusters_of(one)) == 2


async def test_the_ports_of_all_exports_are_exposed_and_a_difference_is_told_to_all(space: Space) -> None:
    """Rules: C3. Specs: 8. Traffic to a port goes only to clusters that expose it."""
    await space.offer(AMS, ports=[TCP, UDP])
    await space.offer(FRA, ports=[TCP, SCTP])
    union = [("stcp", "SCTP", 142), ("tcp", "TCP", 42), ("udp", "UDP", 42)]
    for found in await space.everywhere(lambda one: len(one["spec"]["ports"]) == 3):
        assert ports_of(found) == union
    for cluster in (AMS, FRA):
        await space.told(cluster, "Conflict", "True", "PortConflict")
    await space.offer(NYC, "other")
    derived = await space.derived_slices(NYC, lambda found: addresses(found) == addresses_of(AMS, FRA))
    served = {
        (name, address): cluster
        for one in derived
        for name, _, _ in ports_of(one)
        for address in addresses([one])
        for cluster in (AMS, FRA)
        if address in (pod(cluster, 1), pod(cluster, 2))
    }
    assert {cluster for (name, _), cluster in served.items() if name == "udp"} == {AMS}
    assert {cluster for (name, _), cluster in served.items() if name == "stcp"} == {FRA}
    assert {cluster for (name, _), cluster in served.items() if name == "tcp"} == {AMS, FRA}


def addresses_of(*clusters: str) -> list[str]:
    return sorted(pod(cluster, number) for cluster in clusters for number in (1, 2))


async def test_of_colliding_ports_the_oldest_is_exposed(space: Space) -> None:
    """Rules: C2, C3. Specs: 9, 26. Nobody is sent to a cluster that does not expose the port."""
    await space.offer(AMS, ports=[TCP, UDP])
    live = ports_of(await space.imported(NYC))
    await space.offer(FRA, ports=[{**TCP, "port": 43}])
    for cluster in (AMS, FRA):
        told = await space.told(cluster, "Conflict", "True", "PortConflict")
        assert '"ams-1"' in told["message"]
        assert "1/2 clusters disagree" in told["message"]
    for cluster, found in zip(MEMBERS, await space.everywhere(both), strict=True):
        assert ports_of(found) == live
        derived = await space.derived_slices(cluster, lambda found: bool(addresses(found)))
        assert addresses(derived) == addresses_of(AMS)
        imported = await space.slices(cluster)
        assert {one["metadata"]["labels"][SOURCE_CLUSTER] for one in imported} == {AMS}


async def test_ports_collide_by_number_and_protocol_too(space: Space) -> None:
    """Rules: C3. Specs: 27. The same number under another name is the oldest's; another number is added."""
    await space.offer(AMS, ports=[TCP])
    await space.offer(FRA, ports=[{**TCP, "name": "again"}, {"name": "tcp2", "port": 4242}])
    for found in await space.everywhere(lambda one: len(one["spec"]["ports"]) == 2):
        assert ports_of(found) == [("tcp", "TCP", 42), ("tcp2", "TCP", 4242)]
    for cluster in MEMBERS:
        slices = await space.derived_slices(cluster, lambda found: len(found) == 2)
        assert {ports_of(one)[0][0]: addresses([one]) for one in slices} == {
            "tcp": addresses_of(AMS),
            "tcp2": addresses_of(FRA),
        }


async def test_the_order_in_which_ports_are_listed_is_no_conflict(space: Space) -> None:
    """Rules: C3. Specs: -."""
    await space.offer(AMS, ports=[TCP, UDP])
    await space.offer(FRA, ports=[UDP, TCP])
    await space.told(AMS, "Conflict", "False", "NoConflicts")
    await space.told(FRA, "Conflict", "False", "NoConflicts")


async def test_another_app_protocol_is_a_conflict_and_the_oldest_is_kept(space: Space) -> None:
    """Rules: C7. Specs: -."""
    await space.offer(AMS, ports=[{**TCP, "appProtocol": "http"}])
    await space.offer(FRA, ports=[{**TCP, "appProtocol": "kubernetes.io/h2c"}])
    await space.told(FRA, "Conflict", "True", "PortConflict")
    found = await space.imported(NYC, good=both)
    assert [port["appProtocol"] for port in found["spec"]["ports"]] == ["http"]
    slices = await space.derived_slices(NYC, lambda found: len(addresses(found)) == 4)
    assert addresses(slices) == addresses_of(AMS, FRA)


AFFINE = {"sessionAffinity": "ClientIP"}
TIMED = {**AFFINE, "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10}}}
LOCAL = {"internalTrafficPolicy": "Local"}
CLOSE = {"trafficDistribution": "PreferClose"}


@pytest.mark.parametrize(
    ("reason", "old", "new", "wanted"),
    [
        ("TypeConflict", {}, {"headless": True}, {"type": "ClusterSetIP"}),
        ("TypeConflict", {"headless": True}, {}, {"type": "Headless"}),
        ("SessionAffinityConflict", {}, AFFINE, {"sessionAffinity": "None"}),
        ("SessionAffinityConfigConflict", TIMED, AFFINE, TIMED),
        ("InternalTrafficPolicyConflict", LOCAL, {}, LOCAL),
        ("TrafficDistributionConflict", CLOSE, {}, CLOSE),
        ("TrafficDistributionConflict", {}, CLOSE, {"trafficDistribution": None}),
    ],
)
async def test_what_holds_for_the_whole_service_is_as_the_oldest_says(
    space: Space, reason: str, old: dict[str, Any], new: dict[str, Any], wanted: dict[str, Any]
) -> None:
    """Rules: C1, C2, C4. Specs: 13. Every exporter hears of the conflict, and who won."""
    await space.offer(AMS, **old)
    await space.offer(FRA, **new)
    for cluster in (AMS, FRA):
        told = await space.told(cluster, "Conflict", "True", reason)
        assert told["message"].endswith('oldest service export in "ams-1". 1/2 clusters disagree.')
        assert told["observedGeneration"] == 1
    for found in await space.everywhere(both):
        assert {name: found["spec"].get(name) for name in wanted} == wanted


async def test_exported_labels_and_annotations_are_the_oldest_exports_own(space: Space) -> None:
    """Rules: C4. Specs: 15, 16. None comes from the metadata of the Service or of the export."""
    dummy = {"labels": {"dummy": "svc"}, "annotations": {"dummy": "svc"}}
    await space.service(AMS, metadata=dummy)
    await space.endpoints(AMS)
    await space.export(AMS, labels={"team": "blue"}, annotations={"note": "first"}, metadata=dummy)
    for found in await space.everywhere():
        assert found["metadata"]["labels"].get("team") == "blue"
        assert found["metadata"]["annotations"].get("note") == "first"
        assert "dummy" not in {**found["metadata"]["labels"], **found["metadata"]["annotations"]}
    await space.aged(AMS)
    await space.service(FRA)
    await space.export(FRA, labels={"team": "red", "more": "x"}, annotations={"other": "second"})
    for cluster in (AMS, FRA):
        told = await space.told(cluster, "Conflict", "True", "LabelsConflict,AnnotationsConflict")
        assert "Conflicting exported labels." in told["message"]
        assert "Conflicting exported annotations." in told["message"]
    for found in await space.everywhere(both):
        assert found["metadata"]["labels"].get("team") == "blue"
        assert "more" not in found["metadata"]["labels"]
        assert "other" not in found["metadata"]["annotations"]


async def test_several_conflicts_are_told_in_one_condition_by_three_clusters(space: Space) -> None:
    """Rules: C2, C3, C4. Specs: -. The reasons are joined by commas, each has its sentence."""
    await space.offer(AMS)
    await space.offer(FRA, ports=[{"name": "other", "port": 81}], **AFFINE)
    await space.offer(NYC, ports=[HTTP], **AFFINE, **LOCAL)
    reasons = "PortConflict,SessionAffinityConflict,InternalTrafficPolicyConflict"
    for cluster in MEMBERS:
        told = await space.told(cluster, "Conflict", "True", reasons)
        assert told["message"] == (
            "Conflicting ports. Exposing all of them; where they collide, those from oldest service export "
            'in "ams-1". 1/3 clusters disagree. '
            'Conflicting session affinity. Using "None" from oldest service export in "ams-1". '
            "2/3 clusters disagree. "
            'Conflicting internal traffic policy. Using "Cluster" from oldest service export in "ams-1". '
            "1/3 clusters disagree."
        )
    for found in await space.everywhere(lambda one: len(clusters_of(one)) == 3):
        assert clusters_of(found) == [AMS, FRA, NYC]


async def test_when_the_oldest_leaves_the_next_one_decides_and_the_conflict_ends(space: Space) -> None:
    """Rules: C1, C2. Specs: -. The import stands throughout and keeps its address."""
    await space.offer(FRA, **AFFINE)
    await space.offer(AMS)
    await space.offer(NYC)
    for cluster in MEMBERS:
        await space.told(cluster, "Conflict", "True", "SessionAffinityConflict")
    before = await space.everywhere(lambda one: one["spec"].get("ips"))
    await space.unexport(FRA)
    for cluster in (AMS, NYC):
        await space.told(cluster, "Conflict", "False", "NoConflicts")
    after = await space.everywhere(lambda one: one["spec"]["sessionAffinity"] == "None")
    for old, new in zip(before, after, strict=True):
        assert (new["metadata"]["uid"], new["spec"]["ips"]) == (old["metadata"]["uid"], old["spec"]["ips"])
        assert clusters_of(new) == [AMS, NYC]


async def test_an_export_that_is_made_again_is_the_youngest(space: Space) -> None:
    """Rules: C1. Specs: -. Precedence is the export's age, not its cluster's."""
    await space.offer(AMS, **AFFINE)
    await space.offer(FRA)
    await space.told(FRA, "Conflict", "True", "SessionAffinityConflict")
    await space.unexport(AMS)
    await space.everywhere(lambda one: clusters_of(one) == [FRA])
    await space.aged(FRA)
    await space.export(AMS)
    told = await space.told(AMS, "Conflict", "True", "SessionAffinityConflict")
    assert 'Using "None" from oldest service export in "fra-1"' in told["message"]
    for found in await space.everywhere(both):
        assert found["spec"]["sessionAffinity"] == "None"


async def test_exports_of_one_second_are_ordered_by_the_name_of_their_cluster(space: Space) -> None:
    """Rules: C1. Specs: -."""
    seen: list[str] = []

    async def tied() -> str | None:
        name = f"web-{len(seen)}"
        seen.append(name)
        await space.service(NYC, name)
        await space.service(AMS, name, **AFFINE)
        await space.export(NYC, name)
        await space.export(AMS, name)
        made = [await space.read(cluster, kinds.SERVICE_EXPORT, name) for cluster in (NYC, AMS)]
        times = {one["metadata"]["creationTimestamp"] for one in made}
        return name if len(times) == 1 else None

    name = await space.settles(tied, "two exports of one second")
    told = await space.told(NYC, "Conflict", "True", "SessionAffinityConflict", name=name)
    assert 'Using "ClientIP" from oldest service export in "ams-1"' in told["message"]
    for found in await space.everywhere(both, name):
        assert found["spec"]["sessionAffinity"] == "ClientIP"


async def test_an_export_that_is_not_valid_is_in_no_conflict(space: Space) -> None:
    """Rules: C6. Specs: -. Nor does it count in the others' conflict."""
    await space.offer(AMS)
    await space.offer(FRA, **AFFINE)
    await space.told(FRA, "Conflict", "True", "SessionAffinityConflict")
    await space.delete(FRA, kinds.SERVICE, "web")
    await space.told(FRA, "Valid", "False", "NoService")
    await space.told(AMS, "Conflict", "False", "NoConflicts")
    await space.no_conflict(FRA)
