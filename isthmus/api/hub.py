"""Kinds that live on the hub (hub.isthmus.dev v1alpha1).

A cluster writes only into its own namespace `isthmus-<cluster>`; who speaks is told by the namespace, never
by a field. `algorithm` is the version of the merge rules the writer followed.
"""

from __future__ import annotations

from typing import Any

from isthmus.api.core import SessionAffinityConfig
from isthmus.api.meta import Condition, ObjectMeta, Struct

ALGORITHM = 1


class ServiceName(Struct, frozen=True):
    namespace: str = ""
    name: str = ""


class ExportedPort(Struct, frozen=True):
    name: str = ""
    protocol: str = "TCP"
    app_protocol: str | None = None
    port: int = 0


class ExportedServiceSpec(Struct, frozen=True):
    """The spec half of an export. `exported_at` is RFC 3339 with microseconds, in the hub's clock.

    `export_to` holds cluster ids and `key=value` of clusters' labels (None: every cluster may import).
    """

    cluster: str = ""
    service: ServiceName = ServiceName()
    algorithm: int = ALGORITHM
    exported_at: str = ""
    type: str = "ClusterSetIP"
    ports: list[ExportedPort] = []
    ip_families: list[str] = []
    session_affinity: str = "None"
    session_affinity_config: SessionAffinityConfig | None = None
    internal_traffic_policy: str | None = None
    traffic_distribution: str | None = None
    publish_not_ready_addresses: bool = False
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    export_to: list[str] | None = None
    draining: bool = False
    expected_endpoints: int | None = None
    probe: dict[str, Any] | None = None


class ExportedService(Struct, frozen=True):
    metadata: ObjectMeta = ObjectMeta()
    spec: ExportedServiceSpec = ExportedServiceSpec()


class ExportedEndpoint(Struct, frozen=True):
    """`id` is stable for the life of the endpoint; `addresses` hold both families, IPv4 first."""

    id: str = ""
    addresses: list[str] = []
    hostname: str = ""
    node_name: str = ""
    region: str = ""
    zone: str = ""
    ready: bool = True
    serving: bool = True
    terminating: bool = False


class ExportedEndpointPort(Struct, frozen=True):
    name: str = ""
    protocol: str = "TCP"
    port: int = 0


class ExportedEndpointsSpec(Struct, frozen=True):
    """At most 500 endpoints that listen on the same ports."""

    cluster: str = ""
    service: ServiceName = ServiceName()
    algorithm: int = ALGORITHM
    network: str = ""
    ports: list[ExportedEndpointPort] = []
    endpoints: list[ExportedEndpoint] = []


class ExportedEndpoints(Struct, frozen=True):
    metadata: ObjectMeta = ObjectMeta()
    spec: ExportedEndpointsSpec = ExportedEndpointsSpec()


class ClusterSpec(Struct, frozen=True):
    """`uid` tells who the member is: the uid of its namespace kube-system, claimed by its agent.

    `drain` (new sessions go elsewhere) and `leave` (the agent withdraws its exports and ends the membership)
    are set by people.
    """

    uid: str = ""
    region: str = ""
    drain: bool = False
    leave: bool = False


class ClusterStatus(Struct, frozen=True):
    """`state` is Ready or Unknown, written by the hub from the cluster's lease alone."""

    state: str = ""
    last_heartbeat: str = ""
    conditions: list[Condition] = []


class Cluster(Struct, frozen=True):
    """A member (cluster scope); the object's name is the cluster id."""

    metadata: ObjectMeta = ObjectMeta()
    spec: ClusterSpec = ClusterSpec()
    status: ClusterStatus = ClusterStatus()


class SourceHealth(Struct, frozen=True):
    """How many checked endpoints of one exporting cluster are up, down or not judged yet."""

    cluster: str = ""
    up: int = 0
    down: int = 0
    unknown: int = 0


class HealthReportSpec(Struct, frozen=True):
    """What the probes of `cluster` say of one service; `observed_at` is RFC 3339."""

    cluster: str = ""
    service: ServiceName = ServiceName()
    observed_at: str = ""
    sources: list[SourceHealth] = []


class HealthReport(Struct, frozen=True):
    """For people: nobody decides by it."""

    metadata: ObjectMeta = ObjectMeta()
    spec: HealthReportSpec = HealthReportSpec()


class PolicyReportSpec(Struct, frozen=True):
    """What `cluster` made of one policy, and the spec that is in force there (not always the latest).

    `origin` is Hub or Member: where it was written. `uid` tells a policy from a later one of its name.
    `in_force_generation` is the generation of that spec, 0 where none is in force.
    """

    cluster: str = ""
    policy: ServiceName = ServiceName()
    origin: str = ""
    uid: str = ""
    observed_generation: int = 0
    plan: str = ""
    conditions: list[Condition] = []
    in_force: dict[str, Any] | None = None
    in_force_generation: int = 0


class PolicyReport(Struct, frozen=True):
    metadata: ObjectMeta = ObjectMeta()
    spec: PolicyReportSpec = PolicyReportSpec()


class ToldPolicySpec(Struct, frozen=True):
    """A PolicyReportSpec without the spec in force, for who sums up what many clusters say."""

    cluster: str = ""
    policy: ServiceName = ServiceName()
    uid: str = ""
    observed_generation: int = 0
    plan: str = ""
    conditions: list[Condition] = []
    in_force_generation: int = 0


class ToldPolicy(Struct, frozen=True):
    metadata: ObjectMeta = ObjectMeta()
    spec: ToldPolicySpec = ToldPolicySpec()
