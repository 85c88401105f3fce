"""What another cluster says, checked before it becomes a value.

Every object of the hub is untrusted. Who speaks is told by the namespace that the object lies in, never by a
field; addresses that would turn callers against their own machine, cloud or control plane are refused, and
names, sizes and counts are bounded. One bad endpoint is dropped and named, its neighbours live on. Nothing
here raises, whatever the object holds.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from isthmus.api import hub
from isthmus.mcs.audience import MAX_ITEMS, parse_audience
from isthmus.mcs.hubobjects import hub_namespace, object_name
from isthmus.mcs.limits import (
    MAX_ADDRESSES,
    MAX_CHUNK,
    MAX_ENDPOINTS,
    MAX_PORTS,
    check_export,
    check_ports,
    exportable_annotations,
    exportable_labels,
    is_label_value,
    is_subdomain,
)
from isthmus.mcs.probespec import parse_probe
from isthmus.mcs.quota import NOTHING, Load, endpoints_load
from isthmus.model.names import ClusterId, EndpointId, ServiceKey, is_cluster_id, is_dns_label
from isthmus.model.refusal import Refused
from isthmus.model.service import (
    AddressFamily,
    Audience,
    ClientIpAffinity,
    Endpoint,
    EndpointPort,
    Export,
    Port,
    Protocol,
    ServiceType,
)
from isthmus.model.timestamp import parse_time
from isthmus.model.words import word

_KUBERNETES_BORN = 1_402_012_800.0
"""6 June 2014: no export is older, whatever it says."""
_END_OF_TIME = 253_402_300_800.0

_ENDPOINT_ID = re.compile(r"[A-Za-z0-9._-]{1,253}", re.ASCII)

_CLOUD_METADATA = frozenset(
    ipaddress.ip_address(text)
    for text in ("169.254.169.254", "168.63.129.16", "100.100.100.200", "192.0.0.192", "fd20:ce::254")
)
_AMAZON = ipaddress.IPv6Network("fd00:ec2::/32")
"""Metadata, credentials, time and names of its instances."""
_THIS_NETWORK = ipaddress.IPv4Network("0.0.0.0/8")
_CLOSER_LOOK = frozenset({0, 100, 127, 168, 169, 192, *range(224, 256)})
"""First octets of IPv4 addresses among which some are refused."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Wrong:
    """What is wrong with one endpoint."""

    reason: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedEndpoints:
    """The good endpoints of one ExportedEndpoints object, and why the others were dropped, by reason.

    `load` is what the good ones weigh in their cluster's quota.
    """

    key: ServiceKey
    cluster: ClusterId
    endpoints: tuple[Endpoint, ...]
    refused: tuple[Refused, ...] = ()
    load: Load = NOTHING


def exported_service(obj: hub.ExportedService) -> Export | Refused:
    """What the cluster of the object's namespace offers, or why it is not believed."""
    spec = obj.spec
    said = _speaker_and_key(obj.metadata.namespace, spec.cluster, spec.service, spec.algorithm)
    if isinstance(said, Refused):
        return said
    cluster, key = said
    if obj.metadata.name != object_name(key):
        return Refused(reason="InvalidName", message="metadata.name: must be <service>.<namespace>")
    created = parse_time(spec.exported_at)
    if created is None or not _KUBERNETES_BORN <= created < _END_OF_TIME:
        return Refused(
            reason="InvalidTimestamp", message="spec.exportedAt: must be an RFC 3339 time after 2014"
        )
    ports = _service_ports(spec.ports)
    if isinstance(ports, Refused):
        return ports
    if spec.type not in ("ClusterSetIP", "Headless"):
        return Refused(reason="InvalidType", message="spec.type: must be ClusterSetIP or Headless")
    if len(spec.ip_families) > 2 or any(family not in ("IPv4", "IPv6") for family in spec.ip_families):
        return Refused(reason="InvalidIPFamilies", message="spec.ipFamilies: one or two of IPv4 and IPv6")
    if spec.session_affinity not in ("None", "ClientIP"):
        return Refused(
            reason="InvalidSessionAffinity", message="spec.sessionAffinity: must be None or ClientIP"
        )
    labels, wrong_labels = exportable_labels(spec.labels)
    annotations, wrong_annotations = exportable_annotations(spec.annotations)
    for problem in (*wrong_labels, *wrong_annotations):
        return Refused(reason="InvalidMetadata", message=problem)
    audience = _audience(spec.export_to)
    if isinstance(audience, Refused):
        return audience
    probe = None if spec.probe is None else parse_probe(spec.probe)
    if isinstance(probe, Refused):
        return probe
    export = Export(
        cluster=cluster,
        key=key,
        created=created,
        type=ServiceType(spec.type),
        ports=ports,
        ip_families=tuple(AddressFamily(family) for family in spec.ip_families),
        affinity=_affinity(spec),
        internal_traffic_policy=spec.internal_traffic_policy or "Cluster",
        traffic_distribution=spec.traffic_distribution or "",
        publish_not_ready=spec.publish_not_ready_addresses,
        labels=labels,
        annotations=annotations,
        audience=audience,
        draining=spec.draining,
        expected_endpoints=spec.expected_endpoints,
        probe=probe,
    )
    return check_export(export) or export


def exported_endpoints(
    obj: hub.ExportedEndpoints,
    *,
    forbidden: Container[str] = frozenset(),
    pods: Container[Address] = frozenset(),
) -> ImportedEndpoints | Refused:
    """The endpoints that one object of another cluster may give us, or why it is not believed at all.

    `forbidden` holds addresses, as canonical texts, that no neighbour may point to: those of this cluster's
    own nodes and of the API servers. `pods` holds those of this cluster's own pods, if the object speaks of
    the network that they are in.
    """
    spec = obj.spec
    said = _speaker_and_key(obj.metadata.namespace, spec.cluster, spec.service, spec.algorithm)
    if isinstance(said, Refused):
        return said
    cluster, key = said
    if not obj.metadata.name.startswith(f"{object_name(key)}."):
        return Refused(reason="InvalidName", message="metadata.name: must begin with <service>.<namespace>.")
    if not is_label_value(spec.network):
        return Refused(reason="InvalidNetwork", message="spec.network: is not a legal label value")
    if len(spec.endpoints) > MAX_CHUNK:
        count = len(spec.endpoints)
        return Refused(
            reason="TooManyEndpoints", message=f"spec.endpoints: {count} are more than {MAX_CHUNK}"
        )
    ports = _endpoint_ports(spec.ports)
    if isinstance(ports, Refused):
        return ports
    good: dict[str, Endpoint] = {}
    dropped: dict[str, Refused] = {}
    for at, entry in enumerate(spec.endpoints):
        names = _wrong(entry.id, entry.hostname, entry.node_name, entry.region, entry.zone)
        addresses = Wrong("InvalidEndpoint", names) if names else _addresses(entry.addresses, forbidden, pods)
        if entry.id in good:
            addresses = Wrong("DuplicateEndpoint", "id: stands there twice")
        if isinstance(addresses, Wrong):
            _drop(dropped, addresses, f"spec.endpoints[{at}].")
            continue
        good[entry.id] = Endpoint(
            id=EndpointId(entry.id),
            cluster=cluster,
            region=word(entry.region),
            zone=word(entry.zone),
            addresses=addresses,
            ports=ports,
            ready=entry.ready,
            serving=entry.serving,
            terminating=entry.terminating,
            hostname=entry.hostname,
            node=word(entry.node_name),
            network=spec.network,
        )
    return _imported(key, cluster, tuple(good.values()), dropped)


def offered(key: ServiceKey, cluster: ClusterId, endpoints: Iterable[Endpoint]) -> ImportedEndpoints:
    """What of this cluster's own endpoints its neighbours will believe: they are checked as theirs are."""
    good: list[Endpoint] = []
    dropped: dict[str, Refused] = {}
    for one in endpoints:
        wrong = _own_wrong(one)
        if wrong is not None:
            _drop(dropped, wrong, f"endpoint {one.id}: ")
        elif len(good) == MAX_ENDPOINTS:
            _drop(dropped, Wrong("TooManyEndpoints", f"only {MAX_ENDPOINTS} of a service are offered"), "")
        else:
            good.append(one)
    return _imported(key, cluster, tuple(good), dropped)


def joined(parts: Iterable[ImportedEndpoints]) -> tuple[Endpoint, ...]:
    """The endpoints of one cluster under one service from all its objects, sorted by id, 10,000 at most.

    An id in two objects (one is being moved) counts once: the first in the order of `parts`.
    """
    found: dict[EndpointId, Endpoint] = {}
    for part in parts:
        for endpoint in part.endpoints:
            found.setdefault(endpoint.id, endpoint)
    return tuple(found[name] for name in sorted(found)[:MAX_ENDPOINTS])


def address_refusal(
    address: Address, forbidden: Container[str] = frozenset(), pods: Container[Address] = frozenset()
) -> str:
    """Why a neighbour may not name this address as an endpoint, "" where it may."""
    if why := "" if _is_private(address) else _unfit(address):
        return why
    if str(address) in forbidden:
        return "belongs to this cluster's own nodes or an API server"
    if address in pods:
        return "belongs to this cluster's own pods; clusters of one network share no addresses"
    return ""


def _is_private(address: Address) -> bool:
    """Whether it is one of RFC 1918, as most pods have: fit, and found out cheaply."""
    number = int(address)
    return address.version == 4 and (number >> 24 == 10 or number >> 20 == 0xAC1 or number >> 16 == 0xC0A8)


def _unfit(address: Address) -> str:
    """Why an address is no endpoint's anywhere, "" where it may be."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            return "has a scope"
        if address.ipv4_mapped or address.sixtofour or address.teredo or address.is_site_local:
            return "hides another address"
    elif address in _THIS_NETWORK:
        return "is unspecified"
    for bad, why in (
        (address.is_unspecified, "is unspecified"),
        (address.is_loopback, "is loopback"),
        (address in _CLOUD_METADATA or address in _AMAZON, "is a cloud's metadata service"),
        (address.is_link_local, "is link-local"),
        (address.is_multicast, "is multicast"),
        (address.is_reserved, "is reserved"),
    ):
        if bad:
            return why
    return ""


def _speaker_and_key(
    namespace: str, claimed: str, service: hub.ServiceName, algorithm: int
) -> tuple[ClusterId, ServiceKey] | Refused:
    """Who speaks and of which service. A newer algorithm is heard: merging goes by the oldest one present."""
    if not is_cluster_id(claimed) or hub_namespace(ClusterId(claimed)) != namespace:
        return Refused(
            reason="WrongSpeaker", message="spec.cluster: is not the cluster that this namespace belongs to"
        )
    if not is_dns_label(service.name) or not is_dns_label(service.namespace):
        return Refused(reason="InvalidName", message="spec.service: namespace and name must be DNS labels")
    if algorithm < 1:
        return Refused(reason="InvalidAlgorithm", message="spec.algorithm: must be 1 or more")
    return ClusterId(word(claimed)), ServiceKey(word(service.namespace), word(service.name))


def _service_ports(ports: list[hub.ExportedPort]) -> tuple[Port, ...] | Refused:
    if len(ports) > MAX_PORTS:
        return Refused(reason="InvalidPorts", message=f"spec.ports: {len(ports)} are more than {MAX_PORTS}")
    if any(port.protocol not in Protocol.__members__ for port in ports):
        return Refused(reason="InvalidPorts", message="spec.ports: protocol must be TCP, UDP or SCTP")
    return tuple(
        sorted(
            Port(
                name=word(port.name),
                protocol=Protocol(port.protocol),
                port=port.port,
                app_protocol=port.app_protocol or "",
            )
            for port in ports
        )
    )


def _endpoint_ports(ports: list[hub.ExportedEndpointPort]) -> tuple[EndpointPort, ...] | Refused:
    if len(ports) > MAX_PORTS:
        return Refused(reason="InvalidPorts", message=f"spec.ports: {len(ports)} are more than {MAX_PORTS}")
    if any(port.protocol not in Protocol.__members__ for port in ports):
        return Refused(reason="InvalidPorts", message="spec.ports: protocol must be TCP, UDP or SCTP")
    found = tuple(
        sorted(
            EndpointPort(name=port.name, protocol=Protocol(port.protocol), port=port.port) for port in ports
        )
    )
    return check_ports(found) or found


def _audience(items: list[str] | None) -> Audience | Refused | None:
    """Whom the export is for. What cannot be read is for nobody, so the whole export is refused."""
    if items is None:
        return None
    audience, problems = parse_audience(items, MAX_ITEMS + 1)  # the exporter is named beside the others
    if problems:
        return Refused(reason="InvalidExportTo", message=f"spec.exportTo: {problems[0]}")
    return audience


def _affinity(spec: hub.ExportedServiceSpec) -> ClientIpAffinity | None:
    if spec.session_affinity != "ClientIP" or spec.type == "Headless":
        return None
    config = spec.session_affinity_config
    if config is None or config.client_ip is None or config.client_ip.timeout_seconds is None:
        return ClientIpAffinity()
    return ClientIpAffinity(timeout_seconds=config.client_ip.timeout_seconds)


def _addresses(
    texts: Sequence[str], forbidden: Container[str] = frozenset(), pods: Container[Address] = frozenset()
) -> tuple[str, ...] | Wrong:
    """The canonical addresses, IPv4 first; or what is wrong with them."""
    if len(texts) == 1 and _is_plain(texts[0], forbidden, pods):
        return (texts[0],)
    if not 1 <= len(texts) <= MAX_ADDRESSES:
        return Wrong("InvalidEndpoint", f"addresses: 1..{MAX_ADDRESSES} are needed")
    canonical: dict[str, bool] = {}
    for at, text in enumerate(texts):
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            return Wrong("InvalidEndpoint", f"addresses[{at}]: is not an IP address")
        if why := address_refusal(address, forbidden, pods):
            return Wrong("ForbiddenAddress", f"addresses[{at}]: {why}")
        canonical[str(address)] = address.version == 6
    return tuple(sorted(canonical, key=canonical.__getitem__))


def _is_plain(text: str, forbidden: Container[str], pods: Container[Address]) -> bool:
    """Whether this is a canonical IPv4 address of which a look at its first octet says that it may be named.

    Most are, and the whole rules take five times as long. False says nothing.
    """
    try:
        octets = socket.inet_pton(socket.AF_INET, text)
    except (OSError, ValueError):
        return False
    if octets[0] in _CLOSER_LOOK or text in forbidden:
        return False
    return pods == () or ipaddress.IPv4Address(octets) not in pods


def _wrong(name: str, hostname: str, node: str, region: str, zone: str) -> str:
    """What is wrong with an endpoint's names, "" where nothing is."""
    if not _ENDPOINT_ID.fullmatch(name):
        return "id: 1..253 letters, digits, dots, dashes and underscores"
    if hostname and not is_dns_label(hostname):
        return "hostname: is not a DNS label"
    return _wrong_place(node, region, zone)


@lru_cache(maxsize=4096)
def _wrong_place(node: str, region: str, zone: str) -> str:
    """As `_wrong`, of what many endpoints have in common."""
    if node and not is_subdomain(node):
        return "nodeName: is not a node's name"
    if not is_label_value(region) or not is_label_value(zone):
        return "region, zone: are not legal label values"
    return ""


def _own_wrong(one: Endpoint) -> Wrong | None:
    if wrong := _wrong(one.id, one.hostname, one.node, one.region, one.zone):
        return Wrong("InvalidEndpoint", wrong)
    if isinstance(answer := _addresses(one.addresses), Wrong):
        return answer
    refused = check_ports(one.ports) if one.ports else None
    return None if refused is None else Wrong(refused.reason, refused.message)


def _drop(dropped: dict[str, Refused], wrong: Wrong, where: str) -> None:
    """Counts one more endpoint that is wrong; the first of each reason is quoted."""
    before = dropped.get(wrong.reason)
    dropped[wrong.reason] = (
        Refused(reason=wrong.reason, message=where + wrong.text)
        if before is None
        else replace(before, count=before.count + 1)
    )


def _imported(
    key: ServiceKey, cluster: ClusterId, good: tuple[Endpoint, ...], dropped: dict[str, Refused]
) -> ImportedEndpoints:
    return ImportedEndpoints(
        key=key,
        cluster=cluster,
        endpoints=good,
        refused=tuple(dropped.values()),
        load=endpoints_load(good),
    )
