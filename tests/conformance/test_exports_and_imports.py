"""When imports exist, and what they copy: KEP-1645, exporting and importing services."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))  # test folders are not packages

from clusterset import (
    AMS,
    DERIVED,
    FRA,
    MEMBERS,
    NYC,
    Space,
    addresses,
    clusters_of,
    conditions,
    pod,
    ports_of,
    stays,
)

from isthmus.api import kinds

PORTS = [
    {"name": "tcp", "port": 42, "targetPort": 8042, "appProtocol": "kubernetes.io/h2c"},
    {"name": "udp", "port": 42, "protocol": "UDP", "targetPort": 8042},
]


async def test_an_import_stands_in_every_cluster_as_long_as_one_exports(space: Space) -> None:
    """Rules: R1, R3, R4. Specs: 1, 2."""
    await space.offer(AMS)
    for found in await space.everywhere(lambda one: clusters_of(one) == [AMS]):
        assert found["spec"]["type"] == "ClusterSetIP"
    await space.service(FRA)
    await space.export(FRA)
    uids = [one["metadata"]["uid"] for one in await space.everywhere(lambda one: len(clusters_of(one)) == 2)]
    await space.unexport(AMS)

    async def same() -> bool:
        found = [await space.get(cluster, kinds.SERVICE_IMPORT) for cluster in MEMBERS]
        return [one["metadata"]["uid"] for one in found if one] == uids

    await stays(same)
    await space.everywhere(lambda one: clusters_of(one) == [FRA])
    await stays(same)
    await space.unexport(FRA)
    await space.gone(kinds.SERVICE_IMPORT)


async def test_a_service_without_an_export_contributes_nothing(space: Space) -> None:
    """Rules: R1. Specs: 25. A Service elsewhere is not exported by somebody else's export."""
    await space.service(FRA, ports=[{"name": "other", "port": 81}])
    await space.endpoints(FRA)
    await space.offer(AMS)
    told = await space.everywhere(clusters_of)
    for cluster, found in zip(MEMBERS, told, strict=True):
        assert clusters_of(found) == [AMS]
        assert ports_of(found) == [("http", "TCP", 80)]
        slices = await space.slices(cluster)
        derived = await space.derived_slices(cluster)
        assert addresses(derived) == addresses(slices) == [pod(AMS, 1), pod(AMS, 2)]
        assert {one["metadata"]["labels"]["multicluster.kubernetes.io/source-cluster"] for one in slices} == {
            AMS
        }


async def test_an_import_copies_type_ports_affinity_policy_and_distribution(space: Space) -> None:
    """Rules: R2, C4. Specs: 2, 3, 4, 5, 7. The derived Service, which kube-proxy obeys, says the same."""
    affinity = {
        "sessionAffinity": "ClientIP",
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10}},
        "internalTrafficPolicy": "Cluster",
        "trafficDistribution": "PreferClose",
    }
    await space.offer(AMS, ports=PORTS, **affinity)
    valid = await space.told(AMS, "Valid", "True", "Valid")
    assert valid["observedGeneration"] == 1
    for cluster, found in zip(MEMBERS, await space.everywhere(), strict=True):
        spec = found["spec"]
        assert spec["type"] == "ClusterSetIP"
        assert {name: spec[name] for name in affinity} == affinity
        assert spec["ports"] == [
            {"name": "tcp", "protocol": "TCP", "port": 42, "appProtocol": "kubernetes.io/h2c"},
            {"name": "udp", "protocol": "UDP", "port": 42},
        ]
        derived = await space.derived(cluster)
        assert {name: derived["spec"][name] for name in affinity} == affinity
        assert ports_of(derived) == ports_of(found)
        assert [port.get("appProtocol") for port in derived["spec"]["ports"]] == ["kubernetes.io/h2c", None]


async def test_an_internal_traffic_policy_local_is_copied_too(space: Space) -> None:
    """Rules: C4. Specs: 4."""
    await space.offer(AMS, internalTrafficPolicy="Local")
    for cluster, found in zip(MEMBERS, await space.everywhere(), strict=True):
        assert found["spec"]["internalTrafficPolicy"] == "Local"
        assert (await space.derived(cluster))["spec"]["internalTrafficPolicy"] == "Local"


async def test_a_headless_service_is_imported_headless_without_an_address(space: Space) -> None:
    """Rules: R2, R5. Specs: 10, 11."""
    await space.offer(AMS, headless=True)
    await space.everywhere()
    for cluster in MEMBERS:

        async def bare(cluster: str = cluster) -> bool:
            found = await space.read(cluster, kinds.SERVICE_IMPORT)
            spec = found["spec"]
            assert DERIVED not in found["metadata"]["annotations"]
            return spec["type"] == "Headless" and not spec.get("ips") and spec["ipFamilies"] == ["IPv4"]

        await stays(bare)
        services = [one["metadata"]["name"] for one in await space.list(cluster, kinds.SERVICE)]
        assert services == (["web"] if cluster == AMS else [])
    await space.unexport(AMS)
    await space.gone(kinds.SERVICE_IMPORT)


async def test_node_port_and_load_balancer_services_are_imported_with_an_address(space: Space) -> None:
    """Rules: R2. Specs: -."""
    for name, kind in (("ports", "NodePort"), ("balanced", "LoadBalancer")):
        await space.offer(AMS, name, type=kind)
        for found in await space.everywhere(lambda one: one["spec"].get("ips"), name):
            assert found["spec"]["type"] == "ClusterSetIP"


async def test_an_external_name_service_is_not_valid_and_not_imported(space: Space) -> None:
    """Rules: R2, C6. Specs: 12."""
    await space.service(AMS, ports=(), type="ExternalName", externalName="example.org")
    await space.export(AMS)
    await space.told(AMS, "Valid", "False", "InvalidServiceType")
    await space.told(AMS, "Ready", "False", "Pending")

    async def none() -> bool:
        assert "Conflict" not in conditions(await space.get(AMS, kinds.SERVICE_EXPORT))
        return not any([await space.get(cluster, kinds.SERVICE_IMPORT) for cluster in MEMBERS])

    await stays(none)


async def test_an_export_without_a_service_says_so_until_there_is_one(space: Space) -> None:
    """Rules: R1, R3, C6. Specs: -. What others export is imported all the same."""
    await space.offer(FRA)
    await space.export(AMS)
    await space.told(AMS, "Valid", "False", "NoService")
    found = await space.imported(AMS, good=clusters_of)
    assert clusters_of(found) == [FRA]
    await space.service(AMS)
    await space.told(AMS, "Valid", "True", "Valid")
    await space.told(AMS, "Ready", "True", "Exported")
    await space.everywhere(lambda one: clusters_of(one) == [AMS, FRA])
    await space.delete(AMS, kinds.SERVICE, "web")
    await space.told(AMS, "Valid", "False", "NoService")
    await space.told(AMS, "Ready", "False", "Pending")
    await space.everywhere(lambda one: clusters_of(one) == [FRA])
    await space.no_conflict(AMS)


async def test_nothing_is_imported_where_the_namespace_is_not(space: Space) -> None:
    """Rules: R3. Specs: -. It is, at once, when the namespace appears; and again when it is made anew."""
    late = Space(space.world)
    await late.open(AMS)
    await late.offer(AMS)
    await late.told(AMS, "Ready", "True", "Exported")

    async def absent() -> bool:
        return not any([await late.get(cluster, kinds.SERVICE_IMPORT) for cluster in (FRA, NYC)])

    await stays(absent)
    await late.open(NYC)
    first = await late.imported(NYC, good=lambda one: one["spec"].get("ips"))
    await late.slices(NYC)
    await late.close(NYC)

    async def ended() -> bool:
        return await late.world.get(NYC, kinds.NAMESPACE, late.name, "") is None

    await late.settles(ended, "the namespace is gone")
    await late.open(NYC)
    again = await late.imported(NYC, good=lambda one: one["spec"].get("ips"))
    assert again["metadata"]["uid"] != first["metadata"]["uid"]
    await late.slices(NYC)
    await late.close()


async def test_an_exported_service_is_untouched_in_its_own_cluster(space: Space) -> None:
    """Rules: R6, E1. Specs: 20. No slice of another cluster joins the Service of the same name."""
    await space.offer(AMS)
    before = await space.read(AMS, kinds.SERVICE)
    await space.offer(FRA)
    await space.slices(AMS, lambda found: len(found) == 2)
    assert (await space.read(AMS, kinds.SERVICE))["metadata"] == before["metadata"]
    own = await space.list(AMS, kinds.ENDPOINT_SLICE, "kubernetes.io/service-name=web")
    assert [one["metadata"]["name"] for one in own] == ["web-ipv4"]
