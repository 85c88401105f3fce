"""EndpointSlices: this cluster's own, read; and the imported ones of KEP-1645, written.

An imported slice holds endpoints of one source cluster, says so by label, and never carries
`kubernetes.io/service-name`: it must not change the Service of the same name in this cluster. It holds all
endpoints that Kubernetes calls ready, whatever a policy says, and only ports that their cluster exposes.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from isthmus.api import core, labels
from isthmus.mcs.limits import MAX_ADDRESSES, MAX_CHUNK, MAX_PORTS
from isthmus.mcs.serviceimport import import_owner
from isthmus.model.chunks import chunks, short_hash
from isthmus.model.names import ClusterId, EndpointId
from isthmus.model.service import AddressFamily, Endpoint, EndpointPort, Port, Protocol, Service


@dataclass(slots=True)
class _Gathered:
    """One endpoint while the slices that speak of it are read."""

    name: str
    hostname: str
    node: str
    zone: str
    addresses: list[str] = field(default_factory=list)
    ports: dict[str, EndpointPort] = field(default_factory=dict)
    ready: bool = True
    serving: bool = True
    terminating: bool = False

    def add(self, address: str, ports: Iterable[EndpointPort], conditions: core.EndpointConditions) -> None:
        """One more slice's word; where slices differ, the worse counts (readiness fails closed)."""
        ready = conditions.ready is not False
        serving = ready if conditions.serving is None else conditions.serving
        if address not in self.addresses and len(self.addresses) < MAX_ADDRESSES:
            self.addresses.append(address)
        for port in ports:
            if len(self.ports) < MAX_PORTS:
                self.ports.setdefault(port.name, port)
        self.ready = self.ready and ready
        self.serving = self.serving and serving
        self.terminating = self.terminating or bool(conditions.terminating)

    def id(self, *, unique: bool) -> EndpointId:
        """The name; where others have it too, with a hash of the addresses."""
        return EndpointId(self.name if unique else f"{self.name[:240]}.{short_hash(sorted(self.addresses))}")


def local_endpoints(
    slices: Sequence[core.EndpointSlice],
    *,
    cluster: ClusterId,
    network: str = "",
    region: str = "",
    nodes: Mapping[str, core.Node],
) -> tuple[Endpoint, ...]:
    """The endpoints of one Service of this cluster, from its EndpointSlices, sorted by id.

    The IPv4 and IPv6 entries of one pod become one endpoint, by the uid of their target, else by hostname and
    node. Region and zone are the node's labels; a slice's own zone goes before, `region` is for endpoints
    without a node. Imported slices and address types other than IPv4 and IPv6 are passed over, and more
    addresses or ports of an endpoint than `mcs.limits` allows.
    """
    found: dict[tuple[str, ...], _Gathered] = {}
    for one in sorted(slices, key=lambda one: (one.address_type, one.metadata.name)):
        if one.address_type not in ("IPv4", "IPv6") or _is_imported(one):
            continue
        ports = _slice_ports(one)
        for entry in one.endpoints or ():
            addresses = [text for raw in entry.addresses if (text := _canonical(raw, one.address_type))]
            for address in addresses:
                gathered = _gather(found, entry, one.address_type, address, nodes)
                gathered.add(address, ports, entry.conditions)
    times = Counter(gathered.name for gathered in found.values())
    endpoints: dict[EndpointId, Endpoint] = {}
    for gathered in sorted(found.values(), key=lambda gathered: not gathered.ready):
        node = nodes.get(gathered.node)
        endpoint = Endpoint(
            id=gathered.id(unique=times[gathered.name] == 1),
            cluster=cluster,
            region=(node.metadata.labels.get(labels.REGION, "") if node else "") or region,
            zone=gathered.zone,
            addresses=tuple(sorted(gathered.addresses, key=lambda text: ":" in text)),
            ports=tuple(sorted(gathered.ports.values())),
            ready=gathered.ready,
            serving=gathered.serving,
            terminating=gathered.terminating,
            hostname=gathered.hostname,
            node=gathered.node,
            network=network,
        )
        # Of two pods with one name and the same addresses (one replaces the other) the ready one counts.
        endpoints.setdefault(endpoint.id, endpoint)
    return tuple(endpoints[name] for name in sorted(endpoints))


def canonical_slices(
    service: Service, cluster: ClusterId, endpoints: Iterable[Endpoint], owner_uid: str
) -> list[dict[str, Any]]:
    """The imported slices of one source cluster, owned by the ServiceImport of `owner_uid` ("": no owner).

    At most 500 endpoints each; a change of one endpoint rewrites only the slice that holds it.
    """
    exposed = [port for port in service.ports if cluster in service.exposers(port)]
    sets: dict[tuple[AddressFamily, tuple[tuple[Port, int], ...]], dict[str, dict[str, Any]]] = {}
    for endpoint in endpoints:
        targets = tuple(
            (port, target) for port in exposed if (target := endpoint.target_port(port)) is not None
        )
        if not endpoint.ready or (service.ports and not targets):
            continue
        for family in service.ip_families:
            addresses = [
                text for text in endpoint.addresses if (":" in text) is (family is AddressFamily.IPV6)
            ]
            if addresses:
                entry = _imported_endpoint(endpoint, addresses)
                sets.setdefault((family, targets), {})[endpoint.id] = entry
    rendered = []
    for (family, targets), entries in sets.items():
        ports = [_imported_port(port, target) for port, target in targets]
        name = f"{service.key.name}-{short_hash((cluster, family.value, ports))}"
        for index, chunk in chunks(entries, MAX_CHUNK).items():
            metadata: dict[str, Any] = {
                "namespace": service.key.namespace,
                "name": f"{name}-{index}",
                "labels": {
                    labels.IMPORT_NAME: service.key.name,
                    labels.SOURCE_CLUSTER: cluster,
                    labels.SLICE_MANAGED_BY: labels.SLICE_MANAGER,
                    labels.MANAGED_BY: labels.MANAGER,
                },
            }
            if owner_uid:
                metadata["ownerReferences"] = [import_owner(service.key, owner_uid)]
            whole: dict[str, Any] = {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": metadata,
                "addressType": family.value,
                "endpoints": chunk,
            }
            if ports:
                whole["ports"] = ports
            rendered.append(whole)
    return sorted(rendered, key=lambda one: str(one["metadata"]["name"]))


def _is_imported(one: core.EndpointSlice) -> bool:
    own = one.metadata.labels
    return labels.IMPORT_NAME in own or own.get(labels.SLICE_MANAGED_BY) == labels.SLICE_MANAGER


def _slice_ports(one: core.EndpointSlice) -> list[EndpointPort]:
    return [
        EndpointPort(name=port.name or "", protocol=Protocol(port.protocol or "TCP"), port=port.port)
        for port in one.ports or ()
        if port.port is not None and (port.protocol or "TCP") in Protocol.__members__
    ]


def _gather(
    found: dict[tuple[str, ...], _Gathered],
    entry: core.SliceEndpoint,
    family: str,
    address: str,
    nodes: Mapping[str, core.Node],
) -> _Gathered:
    """The endpoint this address belongs to, begun if it is the first."""
    target = entry.target_ref
    name = _dashed(address)
    key: tuple[str, ...]
    if target is not None and target.name:
        key = ("target", target.kind, target.namespace, target.name, target.uid)
        name = target.name
    elif entry.hostname:
        key = ("hostname", entry.hostname, entry.node_name or "")
        known = found.get(key)
        taken = () if known is None or address in known.addresses else known.addresses
        if any((":" in text) is (family == "IPv6") for text in taken):
            # A second address of one family under one hostname is another endpoint.
            key = ("address", address)
        else:
            name = entry.hostname
    else:
        key = ("address", address)
    if key not in found:
        node = nodes.get(entry.node_name or "")
        zone = entry.zone or (node.metadata.labels.get(labels.ZONE, "") if node else "")
        found[key] = _Gathered(
            name=name, hostname=entry.hostname or "", node=entry.node_name or "", zone=zone
        )
    return found[key]


def _canonical(text: str, family: str) -> str:
    """The address as its family writes it, "" where it is none."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return ""
    return str(address) if (address.version == 6) is (family == "IPv6") else ""


def _dashed(address: str) -> str:
    return address.replace(".", "-").replace(":", "-")


def _imported_endpoint(endpoint: Endpoint, addresses: list[str]) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "addresses": addresses,
        "conditions": {"ready": True, "serving": endpoint.serving, "terminating": endpoint.terminating},
    }
    if endpoint.hostname:
        entry["hostname"] = endpoint.hostname
    if endpoint.zone:
        entry["zone"] = endpoint.zone
    if endpoint.node:
        entry["nodeName"] = endpoint.node
    return entry


def _imported_port(port: Port, target: int) -> dict[str, Any]:
    rendered: dict[str, Any] = {"name": port.name, "protocol": port.protocol.value, "port": target}
    if port.app_protocol:
        rendered["appProtocol"] = port.app_protocol
    return rendered
