"""The objects of a large world, as the agents of its clusters and its people would have written them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from isthmus.api import kinds, labels
from isthmus.mcs import hubobjects
from isthmus.model.names import ClusterId, EndpointId, ServiceKey
from isthmus.model.service import Endpoint, EndpointPort, Port, Protocol, ServiceType
from isthmus.model.service import Export as Offer
from largeworld.layout import OWN, Export, Layout

REGIONS, ZONES = 5, 3
CREATED = 1_700_000_000.0
TARGET = 8080
Object = dict[str, Any]


def region(cluster: int) -> str:
    return f"r{cluster % REGIONS}"


def address(number: int) -> str:
    """The pod of that number, in 10.64.0.0/10."""
    return f"10.{64 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"


def endpoint_name(layout: Layout, export: Export, at: int) -> str:
    """As a ReplicaSet names its pods."""
    number = (export.first + at) * 2654435761 % 2**32
    return f"{layout.service_name(export.service)}-{number >> 12:05x}-{number & 4095:05x}"


def endpoints(layout: Layout, export: Export) -> list[Endpoint]:
    """The endpoints of one export, spread over the zones of its cluster."""
    here = ClusterId(layout.cluster_name(export.cluster))
    return [
        Endpoint(
            id=EndpointId(endpoint_name(layout, export, at)),
            cluster=here,
            region=region(export.cluster),
            zone=f"{region(export.cluster)}-{at % ZONES}",
            addresses=(address(export.first + at),),
            ports=(EndpointPort(name="http", protocol=Protocol.TCP, port=TARGET),),
            node=f"node-{at % 20}.{here}",
        )
        for at in range(export.endpoints)
    ]


def hub(layout: Layout) -> Iterator[Object]:
    """What lies on the hub when this cluster's agent comes for the first time."""
    for number in range(layout.clusters):
        name = layout.cluster_name(number)
        yield _namespace(hubobjects.hub_namespace(ClusterId(name)))
        cluster = {"region": region(number)}
        yield _object(kinds.CLUSTER, "", name, spec=cluster, status={"state": "Ready"})
    for export in layout.exports:
        if export.cluster != OWN:
            yield from offered(layout, export)


def offered(layout: Layout, export: Export) -> Iterator[Object]:
    """The hub objects of one export."""
    here = ClusterId(layout.cluster_name(export.cluster))
    key = ServiceKey(layout.namespace_of(export.service), layout.service_name(export.service))
    yield hubobjects.exported_service(
        Offer(
            cluster=here,
            key=key,
            created=CREATED + export.cluster,
            type=ServiceType.CLUSTER_SET_IP,
            ports=(Port(name="http", protocol=Protocol.TCP, port=80),),
        )
    )
    yield from hubobjects.exported_endpoints(key, here, endpoints(layout, export)).values()


def member(layout: Layout) -> Iterator[Object]:
    """The objects of the measured cluster: its namespaces, nodes, and Services with their exports."""
    for number in range(layout.namespaces):
        yield _namespace(f"team-{number:02}")
    here = layout.cluster_name(OWN)
    for number in range(20):
        zone = {labels.REGION: region(OWN), labels.ZONE: f"{region(OWN)}-{number % ZONES}"}
        addresses = [{"type": "InternalIP", "address": f"10.127.0.{number + 1}"}]
        yield _object(
            kinds.NODE,
            "",
            f"node-{number}.{here}",
            labels=zone,
            spec={"podCIDRs": [f"10.126.{number}.0/24"]},
            status={"addresses": addresses},
        )
    for export in layout.exports:
        if export.cluster == OWN:
            yield from _own(layout, export)


def _own(layout: Layout, export: Export) -> Iterator[Object]:
    space, name = layout.namespace_of(export.service), layout.service_name(export.service)
    ports = [{"name": "http", "port": 80, "targetPort": TARGET, "protocol": "TCP"}]
    yield _object(kinds.SERVICE, space, name, spec={"selector": {"app": name}, "ports": ports})
    yield _object(
        kinds.ENDPOINT_SLICE,
        space,
        f"{name}-abcde",
        labels={labels.SERVICE_NAME: name, labels.SLICE_MANAGED_BY: "endpointslice-controller.k8s.io"},
        addressType="IPv4",
        ports=[{"name": "http", "port": TARGET, "protocol": "TCP"}],
        endpoints=[
            {
                "addresses": list(one.addresses),
                "conditions": {"ready": True, "serving": True, "terminating": False},
                "nodeName": one.node,
                "zone": one.zone,
                "targetRef": {"kind": "Pod", "namespace": space, "name": one.id, "uid": f"uid-{one.id}"},
            }
            for one in endpoints(layout, export)
        ],
    )
    yield _object(kinds.SERVICE_EXPORT, space, name)


def _namespace(name: str) -> Object:
    return _object(kinds.NAMESPACE, "", name)


def _object(
    kind: Any, namespace: str, name: str, *, labels: dict[str, str] | None = None, **parts: Any
) -> Object:
    metadata: Object = {"name": name}
    if namespace:
        metadata["namespace"] = namespace
    if labels:
        metadata["labels"] = labels
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, **parts}
