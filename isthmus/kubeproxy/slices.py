"""Plans as EndpointSlices of the derived Service (traffic-semantics, section 4).

kube-proxy spreads evenly over what it finds, so the slices hold exactly the healthy endpoints of the groups
that have a share; in what proportion, this door cannot say. The slices carry no label of the MCS API: they
belong to the derived Service, not to the import.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from isthmus.api import labels
from isthmus.model.chunks import chunks, short_hash
from isthmus.model.names import ClusterId, EndpointId
from isthmus.model.plan import Backend, Plan
from isthmus.model.service import AddressFamily, Endpoint, Port, Service, ServiceType

MAX_CHUNK = 500
ELSEWHERE = "another-cluster.isthmus.dev"
"""A name that no node has."""

_HINTED = frozenset({"PreferClose", "PreferSameZone", "PreferSameNode"})

Target = tuple[Port, int]


def derived_slices(
    service: Service,
    plans: Mapping[str, Plan],
    derived_name: str,
    owner_uid: str,
    *,
    own: Iterable[Endpoint] = (),
    same_node: bool = False,
) -> list[dict[str, Any]]:
    """The slices of the derived Service, owned by it (`owner_uid`), for the callers of one cluster.

    `plans` are those of the service's ports, by `port_id`; a port without a plan gets no endpoints. `own` are
    this cluster's own endpoints: they alone keep their node, which internalTrafficPolicy Local goes by (a
    node of another cluster may have the same name). `same_node`: the derived Service keeps callers on their
    node, so its server knows such hints (older ones do not take them). Ports stand under their `given_name`,
    as in the derived Service. Empty for a headless service, which has no derived one.
    """
    if service.type is ServiceType.HEADLESS:
        return []
    nodes = {(endpoint.cluster, endpoint.id): endpoint.node for endpoint in own}
    sets: dict[tuple[AddressFamily, tuple[Target, ...]], dict[str, dict[str, Any]]] = {}
    for backend, zone, served in _served(plans).values():
        targets = tuple(sorted(served))
        for family in service.ip_families:
            addresses = [
                text for text in backend.addresses if (":" in text) is (family is AddressFamily.IPV6)
            ]
            if addresses:
                entry = _endpoint(addresses, zone, nodes.get((backend.cluster, backend.id), ""))
                key = f"{backend.cluster}/{backend.id}"
                sets.setdefault((family, targets), {})[key] = entry
    if service.traffic_distribution in _HINTED:
        _hint([entry for entries in sets.values() for entry in entries.values()], same_node=same_node)
    rendered = []
    for (family, targets), entries in sets.items():
        ports = [_port(port, target) for port, target in targets]
        name = f"{derived_name}-{short_hash((family.value, ports))}"
        for index, chunk in chunks(entries, MAX_CHUNK).items():
            rendered.append(_slice(service, derived_name, owner_uid, f"{name}-{index}", family, ports, chunk))
    return sorted(rendered, key=lambda one: str(one["metadata"]["name"]))


def _served(
    plans: Mapping[str, Plan],
) -> dict[tuple[ClusterId, EndpointId], tuple[Backend, str, list[Target]]]:
    """Every backend with a share on some port: itself, its zone, and what it serves."""
    served: dict[tuple[ClusterId, EndpointId], tuple[Backend, str, list[Target]]] = {}
    for plan in plans.values():
        if plan.port is None:
            continue
        for group in plan.shares:
            for backend in group.backends:
                if backend.port is None:
                    continue
                known = served.setdefault((backend.cluster, backend.id), (backend, group.locality.zone, []))
                known[2].append((plan.port, backend.port))
    return served


def _endpoint(addresses: list[str], zone: str, node: str) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "addresses": addresses,
        "conditions": {"ready": True, "serving": True, "terminating": False},
    }
    if zone:
        entry["zone"] = zone
    if node:
        entry["nodeName"] = node
    return entry


def _hint(entries: list[dict[str, Any]], *, same_node: bool) -> None:
    """Tell kube-proxy to stay in the zone or on the node, as Kubernetes' own controller does.

    kube-proxy follows such hints only when all endpoints have them, so it is all or none. The endpoints of
    other clusters are for a node that is not here.
    """
    hints: list[dict[str, Any]] = [{} for _ in entries]
    if same_node:
        for entry, hint in zip(entries, hints, strict=True):
            hint["forNodes"] = [{"name": entry.get("nodeName", ELSEWHERE)}]
    if all("zone" in entry for entry in entries):
        for entry, hint in zip(entries, hints, strict=True):
            hint["forZones"] = [{"name": entry["zone"]}]
    for entry, hint in zip(entries, hints, strict=True):
        if hint:
            entry["hints"] = hint


def _port(port: Port, target: int) -> dict[str, Any]:
    rendered: dict[str, Any] = {"name": port.given_name, "protocol": port.protocol.value, "port": target}
    if port.app_protocol:
        rendered["appProtocol"] = port.app_protocol
    return rendered


def _slice(
    service: Service,
    derived_name: str,
    owner_uid: str,
    name: str,
    family: AddressFamily,
    ports: list[dict[str, Any]],
    endpoints: list[dict[str, Any]],
) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "namespace": service.key.namespace,
        "name": name,
        "labels": {
            labels.SERVICE_NAME: derived_name,
            labels.SLICE_MANAGED_BY: labels.SLICE_MANAGER,
            labels.MANAGED_BY: labels.MANAGER,
        },
    }
    if owner_uid:
        metadata["ownerReferences"] = [
            {"apiVersion": "v1", "kind": "Service", "name": derived_name, "uid": owner_uid}
        ]
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": metadata,
        "addressType": family.value,
        "ports": ports,
        "endpoints": endpoints,
    }
