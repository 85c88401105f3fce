"""Whatever is rendered, an API server takes as it is and gives back as it was."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from typing import Any

import pytest
from msgspec import structs

from isthmus.api import crds, kinds, mcs
from isthmus.api.meta import Kind, ObjectKey
from isthmus.apiserver import ApiServer, ClusterConfig
from isthmus.fleet.heartbeat import heartbeat_lease
from isthmus.fleet.hubrole import cluster_status
from isthmus.fleet.states import Heard, State
from isthmus.kube.client import Client
from isthmus.kube.comparison import differs, stamped
from isthmus.kube.config import Access
from isthmus.kube.credentials import Files
from isthmus.kube.raw import raw
from isthmus.kubeproxy.slices import derived_slices
from isthmus.mcs.conflict import merge
from isthmus.mcs.endpointslice import canonical_slices
from isthmus.mcs.hubobjects import exported_endpoints, exported_service, hub_namespace
from isthmus.mcs.serviceexport import Delivery, conditions, export_status, export_time_record
from isthmus.mcs.serviceimport import derived_name, derived_service, service_import, service_import_status
from isthmus.model.health import CheckProtocol, HealthCheck
from isthmus.model.names import ClusterId, EndpointId, Locality, ServiceKey, Vantage
from isthmus.model.plan import Backend, Plan, PlanGroup, PlanKey, port_id
from isthmus.model.service import (
    AddressFamily,
    ClientIpAffinity,
    Endpoint,
    EndpointPort,
    Export,
    Port,
    Protocol,
    ServiceType,
)

EU, US = ClusterId("eu-1"), ClusterId("us-1.prod")
KEY = ServiceKey("shop", "cart")
HTTP = Port(name="http", protocol=Protocol.TCP, port=80, app_protocol="http")
BARE = Port(name="", protocol=Protocol.UDP, port=53)
EXPORT = Export(
    cluster=EU,
    key=KEY,
    created=1767323045.000001,
    type=ServiceType.CLUSTER_SET_IP,
    ports=(BARE, HTTP),
    ip_families=(AddressFamily.IPV4, AddressFamily.IPV6),
    affinity=ClientIpAffinity(timeout_seconds=10),
    internal_traffic_policy="Local",
    traffic_distribution="PreferClose",
    labels=(("team", "shop"),),
    annotations=(("note", "two words"),),
    draining=True,
    expected_endpoints=3,
    probe=HealthCheck(protocol=CheckProtocol.HTTP, path="/healthz", port=8080, interval=299.5, timeout=60.0),
)
HEADLESS = replace(EXPORT, type=ServiceType.HEADLESS, affinity=None, ports=(), probe=None, draining=False)
ENDPOINTS = [
    Endpoint(
        id=EndpointId(f"cart-{number}"),
        cluster=EU,
        region="eu",
        zone="eu-a",
        addresses=(f"10.64.0.{number + 1}", f"fd00::{number + 1}"),
        ports=(
            EndpointPort(name="", protocol=Protocol.UDP, port=5353),
            EndpointPort(name="http", protocol=Protocol.TCP, port=8080),
        ),
        hostname=f"cart-{number}",
        node="n1",
        network="flat",
    )
    for number in range(3)
]


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    config = ClusterConfig(name="eu-1", service_cidr="10.96.0.0/16,fd00:96::/112")
    async with ApiServer([config]) as server:
        access = Access(name="test", server=server.url("eu-1"), source=Files(where="test", encrypted=False))
        async with Client(access, timeout=10.0) as made:
            for crd in crds.all_crds():
                await made.create(kinds.CRD, crd)
            for namespace in ("shop", hub_namespace(EU), hub_namespace(US)):
                body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
                await made.create(kinds.NAMESPACE, body)
            yield made


async def keeps(
    client: Client, kind: Kind[Any], wanted: dict[str, Any], subresource: str = ""
) -> dict[str, Any]:
    """Applies the object; the server must say of it what we said, so that nothing is written again."""
    body = stamped(wanted, {}, 1767323045.0)
    answer = await client.apply(raw(kind), body, manager="isthmus", subresource=subresource)
    metadata = {name: value for name, value in wanted["metadata"].items() if name != "uid"}
    assert not differs({**wanted, "metadata": metadata}, answer)
    return answer


async def keeps_all(client: Client, kind: Kind[Any], wanted: Iterable[dict[str, Any]]) -> None:
    for one in wanted:
        await keeps(client, kind, one)


@pytest.mark.parametrize("export", [EXPORT, HEADLESS, replace(EXPORT, cluster=US)])
async def test_the_hub_takes_what_a_cluster_exports(client: Client, export: Export) -> None:
    await keeps(client, kinds.EXPORTED_SERVICE, exported_service(export))
    await keeps_all(
        client, kinds.EXPORTED_ENDPOINTS, exported_endpoints(KEY, export.cluster, ENDPOINTS).values()
    )
    await keeps_all(
        client,
        kinds.EXPORTED_ENDPOINTS,
        exported_endpoints(
            KEY, export.cluster, [structs.replace(one, ports=()) for one in ENDPOINTS]
        ).values(),
    )


@pytest.mark.parametrize("export", [EXPORT, HEADLESS])
async def test_a_member_takes_the_import_and_all_that_hangs_on_it(client: Client, export: Export) -> None:
    service = merge([export])
    owner = await keeps(client, kinds.SERVICE_IMPORT, service_import(service))
    uid = owner["metadata"]["uid"]
    await keeps_all(client, kinds.ENDPOINT_SLICE, canonical_slices(service, EU, ENDPOINTS, uid))
    ips: tuple[str, ...] = ()
    derived = derived_service(service, uid)
    if export is EXPORT:
        assert derived is not None
        made = await keeps(client, kinds.SERVICE, derived)
        ips = tuple(made["spec"]["clusterIPs"])
        assert len(ips) == 2
        group = PlanGroup(
            locality=Locality(EU, "eu", "eu-a"),
            step=0,
            basis_points=10_000,
            backends=tuple(
                Backend(id=one.id, cluster=EU, addresses=one.addresses, port=8080) for one in ENDPOINTS
            ),
        )
        key = PlanKey(KEY, port_id(BARE), Vantage("eu", "", EU))
        plans = {port_id(port): Plan(key=key, port=port, shares=(group,)) for port in (HTTP, BARE)}
        rendered = derived_slices(service, plans, derived_name(KEY), made["metadata"]["uid"], own=ENDPOINTS)
        await keeps_all(client, kinds.ENDPOINT_SLICE, rendered)
    await keeps(client, kinds.SERVICE_IMPORT, service_import(service, ips))
    status = service_import_status(service, ips, slices_present=True, generation=1)
    assert status["status"]["conditions"][0]["status"] == "True"
    await keeps(client, kinds.SERVICE_IMPORT, status, "status")


async def test_a_member_takes_what_its_owner_is_told_of_an_export(client: Client) -> None:
    body = {
        "apiVersion": "multicluster.x-k8s.io/v1beta1",
        "kind": "ServiceExport",
        "metadata": {"namespace": "shop", "name": "cart"},
    }
    export: mcs.ServiceExport = await client.create(kinds.SERVICE_EXPORT, body)
    merged = merge([EXPORT, replace(HEADLESS, cluster=US)])
    told = conditions(export, EXPORT, problems=["a", "b"], merged=merged, delivery=Delivery.EXPORTED)
    await keeps(client, kinds.SERVICE_EXPORT, export_status(export, told), "status")
    await keeps(client, kinds.SERVICE_EXPORT, export_time_record(export, EXPORT.created))
    seen: mcs.ServiceExport = await client.get(kinds.SERVICE_EXPORT, ObjectKey("shop", "cart"))
    assert [condition.type for condition in seen.status.conditions] == [one["type"] for one in told]


async def test_the_hub_takes_heartbeats_and_states(client: Client) -> None:
    lease = heartbeat_lease(cluster=EU, namespace=hub_namespace(EU), wall=1767323045.25)
    answer = await keeps(client, kinds.LEASE, lease)
    assert answer["spec"]["renewTime"] == "2026-01-02T03:04:05.250000Z"
    body = {
        "apiVersion": kinds.CLUSTER.api_version,
        "kind": "Cluster",
        "metadata": {"name": "eu-1"},
        "spec": {"region": "eu"},
    }
    cluster = await client.create(kinds.CLUSTER, body)
    heard = Heard(mark=answer["spec"]["renewTime"], at=0.0)
    for state in State:
        await keeps(client, kinds.CLUSTER, cluster_status(cluster, heard, state), "status")
