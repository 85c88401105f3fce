"""Services, exports and endpoints as the clusterset sees them (KEP-1645)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from isthmus.model.health import HealthCheck
from isthmus.model.names import ClusterId, EndpointId, ServiceKey


class Protocol(StrEnum):
    TCP = "TCP"
    UDP = "UDP"
    SCTP = "SCTP"


class ServiceType(StrEnum):
    """ServiceImport's two types; NodePort and LoadBalancer Services export as ClusterSetIP."""

    CLUSTER_SET_IP = "ClusterSetIP"
    HEADLESS = "Headless"


class AddressFamily(StrEnum):
    IPV4 = "IPv4"
    IPV6 = "IPv6"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Port:
    """A port of a service as its callers name it; `name` may be "" (which counts as a name when merging)."""

    name: str
    protocol: Protocol
    port: int
    app_protocol: str = ""

    @property
    def given_name(self) -> str:
        """A name that is never empty (`tcp-80` where there is none), as a Service of several ports needs."""
        return self.name or f"{self.protocol.value.lower()}-{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class EndpointPort:
    """The port an endpoint listens on for the service port of the same name."""

    name: str
    protocol: Protocol
    port: int


class Endpoint(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One endpoint of one cluster, with its addresses of both families.

    A Struct, as all values that a large world has hundreds of thousands of (docs/decisions/0014).

    `addresses` are canonical texts (no brackets, IPv6 compressed), IPv4 first. `ready`, `serving` and
    `terminating` are Kubernetes' conditions with unset values resolved (ready unset means ready, serving
    unset means as ready, terminating unset means not).
    """

    id: EndpointId
    cluster: ClusterId
    region: str
    zone: str
    addresses: tuple[str, ...]
    ports: tuple[EndpointPort, ...]
    ready: bool = True
    serving: bool = True
    terminating: bool = False
    hostname: str = ""
    node: str = ""
    network: str = ""

    def target_port(self, port: Port) -> int | None:
        """The number to connect to for that service port, None where this endpoint does not serve it."""
        for own in self.ports:
            if own.name == port.name and own.protocol == port.protocol:
                return own.port
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientIpAffinity:
    """sessionAffinity ClientIP."""

    timeout_seconds: int = 10_800


@dataclass(frozen=True, slots=True, kw_only=True)
class Audience:
    """The clusters that may import: those of these names, and those with one of these labels; both sorted.

    The label `region` is the cluster's region. An audience of nobody is the exporting cluster alone.
    """

    clusters: tuple[ClusterId, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()

    def admits(self, cluster: ClusterId, region: str, labels: Mapping[str, str]) -> bool:
        """Whether the cluster of that name, region and labels may import."""
        if cluster in self.clusters:
            return True
        return any(value == (region if key == "region" else labels.get(key)) for key, value in self.labels)


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """What one cluster offers under a name: the spec half of an export, without its endpoints.

    `created` is the ServiceExport's creation time in seconds since the epoch, corrected for the measured
    clock offset; it alone decides precedence, ties by cluster name. `labels` and `annotations` are the
    exported ones, sorted. `audience` None: every cluster may import; the exporting one always may.
    """

    cluster: ClusterId
    key: ServiceKey
    created: float
    type: ServiceType
    ports: tuple[Port, ...]
    ip_families: tuple[AddressFamily, ...] = (AddressFamily.IPV4,)
    affinity: ClientIpAffinity | None = None
    internal_traffic_policy: str = "Cluster"
    traffic_distribution: str = ""
    publish_not_ready: bool = False
    labels: tuple[tuple[str, str], ...] = ()
    annotations: tuple[tuple[str, str], ...] = ()
    audience: Audience | None = None
    draining: bool = False
    expected_endpoints: int | None = None
    probe: HealthCheck | None = None

    @property
    def precedence(self) -> tuple[float, str]:
        """Sort key: the oldest export first, ties by cluster name."""
        return (self.created, self.cluster)

    def exposes(self, port: Port | None) -> bool:
        """Whether it has this very port, by name, protocol and number (None: any)."""
        if port is None:
            return True
        for own in self.ports:  # asked often, and a generator takes twice as long
            if own.name == port.name and own.protocol == port.protocol and own.port == port.port:
                return True
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportConflict:
    """One disagreement between exports: a KEP-1645 reason (`PortConflict`, …) and a message in its style."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """The merged view of a service: the oldest export wins, ports are a union (KEP-1645).

    `exports` are in order of precedence (never empty). `ports` is the merged list.
    """

    key: ServiceKey
    type: ServiceType
    ports: tuple[Port, ...]
    exports: tuple[Export, ...]
    ip_families: tuple[AddressFamily, ...]
    affinity: ClientIpAffinity | None
    internal_traffic_policy: str
    traffic_distribution: str
    labels: tuple[tuple[str, str], ...]
    annotations: tuple[tuple[str, str], ...]
    conflicts: tuple[ExportConflict, ...]

    def export_of(self, cluster: ClusterId) -> Export | None:
        """The export of that cluster, None where it has none."""
        return next((export for export in self.exports if export.cluster == cluster), None)

    def exposers(self, port: Port | None) -> tuple[ClusterId, ...]:
        """Clusters whose own export has this very port (None: any), in order of precedence."""
        return tuple(export.cluster for export in self.exports if export.exposes(port))
