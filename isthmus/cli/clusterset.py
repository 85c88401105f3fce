"""A clusterset from files: the objects an agent would read, made into values by the same functions.

A document belongs to the cluster that its annotation `isthmus.dev/cluster` names, else to that of its file
(`-f CLUSTER=FILE`). What belongs to none: a Service or ServiceExport stands in every cluster, a policy is the
hub's. Invariant: one refused object costs itself alone and is named with its place.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from isthmus.api import core, kinds, labels, mcs
from isthmus.api.meta import Kind
from isthmus.cli.nearness import near_names
from isthmus.demo.manifests import PASSED_OVER, WORKLOADS, Document, documents
from isthmus.errors import ConfigError
from isthmus.fleet import accept as fleet_accept
from isthmus.mcs import conflict, endpointslice, serviceexport, serviceimport
from isthmus.model.cluster import ClusterView
from isthmus.model.health import CheckKey, Verdict
from isthmus.model.names import ClusterId, ServiceKey, Vantage, is_cluster_id
from isthmus.model.plan import PlanKey, port_id
from isthmus.model.policy import Policy
from isthmus.model.refusal import Refused
from isthmus.model.service import Endpoint, Export, Port, Service
from isthmus.model.timestamp import format_time
from isthmus.traffic import accept, planner, policychoice

ONLY = ClusterId("local")
"""The cluster of files that name none."""
FIRST_EXPORT = 1_577_836_800.0
"""Exports without a creationTimestamp count as created a second apart, in the order they are written."""

_KINDS: dict[str, Kind[Any]] = {
    kind.kind: kind
    for kind in (
        kinds.SERVICE,
        kinds.ENDPOINT_SLICE,
        kinds.NODE,
        kinds.SERVICE_EXPORT,
        kinds.POLICY,
        kinds.CLUSTER,
    )
}
_OF_ONE_CLUSTER = ("EndpointSlice", "Node")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Given:
    """A document, its object, and its cluster, "" for none."""

    document: Document
    object: Any
    cluster: str

    @property
    def kind(self) -> str:
        return str(self.document.body["kind"])


@dataclass(slots=True, kw_only=True)
class Clusterset:
    """What the files say. `policies` have the member they hold for, "" for all; `refusals` are for people."""

    clusters: dict[ClusterId, ClusterView] = field(default_factory=dict)
    services: dict[ServiceKey, Service] = field(default_factory=dict)
    endpoints: dict[tuple[ServiceKey, ClusterId], tuple[Endpoint, ...]] = field(default_factory=dict)
    policies: list[tuple[str, Policy]] = field(default_factory=list)
    ips: dict[tuple[ClusterId, ServiceKey], tuple[str, ...]] = field(default_factory=dict)
    zones: set[Vantage] = field(default_factory=set)
    down: frozenset[str] = frozenset()
    """Clusters, and endpoints as `cluster/id`, that are Down."""
    refusals: list[str] = field(default_factory=list)

    def places(self) -> set[Vantage]:
        """Where callers can stand."""
        found = {Vantage(view.region, "", name) for name, view in self.clusters.items()} | self.zones
        for (_key, cluster), members in self.endpoints.items():
            region = self.clusters[cluster].region
            found |= {Vantage(one.region or region, one.zone, cluster) for one in members if one.zone}
        return found

    def policy(self, service: Service, port: Port | None, vantage: Vantage) -> Policy:
        """The policy in force for callers at the vantage."""
        return policychoice.choose(self.speakers(vantage), service, port)

    def speakers(self, vantage: Vantage) -> list[Policy]:
        """All policies that callers at the vantage are to follow, of whatever service."""
        return [policy for cluster, policy in self.policies if cluster in ("", vantage.cluster)]

    def reckon(self, service: Service, port: Port | None, vantage: Vantage) -> planner.Reckoning:
        """The plan of a service port at the vantage, with what led to it."""
        exporters = [export.cluster for export in service.exports]
        return planner.reckon(
            service=service,
            port=port,
            policy=self.policy(service, port, vantage),
            endpoints={name: self.endpoints.get((service.key, name), ()) for name in exporters},
            clusters=self.clusters,
            verdict=self.verdict,
            vantage=vantage,
        )

    def verdict(self, key: CheckKey) -> Verdict | None:
        """What probes are said to have found."""
        if key.cluster in self.down or f"{key.cluster}/{key.endpoint}" in self.down:
            return Verdict(up=False, reason="said to be down")
        return None

    def keys(self, service: Service, vantage: Vantage) -> Iterable[tuple[PlanKey, Port | None]]:
        """The plans of a service: the whole, then each port."""
        for port in (None, *service.ports):
            yield PlanKey(service.key, port_id(port), vantage), port


def read(files: Sequence[str]) -> Clusterset:
    """The clusterset that the files describe. Raises ConfigError with file, document and line."""
    given = [one for text in files for one in _read(text)]
    named = [one.object.metadata.name if one.kind == "Cluster" else one.cluster for one in given]
    names = [ClusterId(name) for name in dict.fromkeys(named) if name] or [ONLY]
    found = Clusterset()
    _take_clusters(found, names, given)
    _take_policies(found, given, several=len(names) > 1)
    exports: dict[ServiceKey, list[Export]] = {}
    for index, name in enumerate(names):
        mine = [one for one in given if _belongs(one, name, alone=len(names) == 1)]
        for export in _exports(found, name, index, mine):
            exports.setdefault(export.key, []).append(export)
    found.services = {key: conflict.merge(exports[key]) for key in sorted(exports)}
    found.endpoints = {at: found.endpoints[at] for at in found.endpoints if at[0] in found.services}
    return found


def mark_down(clusterset: Clusterset, wanted: Iterable[str]) -> None:
    """Marks clusters, or endpoints as ID or CLUSTER/ID, as Down. Raises ConfigError for what is neither."""
    full = {
        f"{cluster}/{one.id}" for (_key, cluster), members in clusterset.endpoints.items() for one in members
    }
    known: set[str] = {*clusterset.clusters, *full}
    down: set[str] = set()
    for text in wanted:
        hits = {name for name in known if name == text or name.partition("/")[2] == text}
        if not hits:
            near = near_names(text, known)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            raise ConfigError(f"--down {text}: no such cluster or endpoint in the files{hint}")
        down |= hits
    clusterset.down = frozenset(down)


def _read(text: str) -> list[_Given]:
    """The documents of `FILE` or `CLUSTER=FILE`."""
    cluster, equals, rest = text.partition("=")
    if not equals or not is_cluster_id(cluster) or Path(text).exists():
        cluster, rest = "", text
    found = []
    for document in documents(Path("/dev/stdin" if rest == "-" else rest)):
        kind = _KINDS.get(document.body["kind"])
        if kind is not None and str(document.body["apiVersion"]).rpartition("/")[0] == kind.group:
            found.append(_decoded(document, kind, cluster))
        elif kind is None and document.body["kind"] not in PASSED_OVER | WORKLOADS:
            raise ConfigError(f"{document.place}: kind {document.body['kind']!r} is not known here")
    return found


def _decoded(document: Document, kind: Kind[Any], cluster: str) -> _Given:
    metadata = document.body.get("metadata")
    if kind.namespaced and isinstance(metadata, dict):
        metadata.setdefault("namespace", "default")
    try:
        found = kind.decode(msgspec.json.encode(document.body))
    except msgspec.ValidationError as error:
        path = str(error).rpartition("`$")[2].rstrip("`") if "`$" in str(error) else ""
        raise ConfigError(f"{document.place_of(path)}: {kind.kind}: {error}") from error
    if not found.metadata.name:
        raise ConfigError(f"{document.place}: this {kind.kind} has no metadata.name")
    name = found.metadata.annotations.get(labels.CLUSTER, cluster)
    if name and not is_cluster_id(name):
        raise ConfigError(f"{document.place}: {labels.CLUSTER}: {name!r} is not a cluster id")
    return _Given(document=document, object=found, cluster=name)


def _belongs(one: _Given, name: ClusterId, *, alone: bool) -> bool:
    if one.cluster or alone:
        return one.cluster in ("", name)
    if one.kind in _OF_ONE_CLUSTER:
        raise ConfigError(
            f"{one.document.place}: which cluster is this {one.kind} of? Annotate it with "
            f"{labels.CLUSTER}: NAME, or give its file as -f NAME=FILE"
        )
    return True


def _take_clusters(found: Clusterset, names: Iterable[ClusterId], given: Iterable[_Given]) -> None:
    for name in names:
        found.clusters[name] = ClusterView(id=name)
    for one in given:
        if one.kind == "Cluster":
            cluster = fleet_accept.cluster(one.object)
            if isinstance(cluster, Refused):
                raise ConfigError(f"{one.document.place}: Cluster: {cluster.message}")
            found.clusters[cluster.id] = ClusterView(
                id=cluster.id,
                region=cluster.region,
                labels=cluster.labels,
                unknown=cluster.silent,
                draining=cluster.draining,
            )


def _take_policies(found: Clusterset, given: Iterable[_Given], *, several: bool) -> None:
    for one in given:
        if one.kind == "GlobalTrafficPolicy":
            policy = accept.accept(one.object, "hub" if several and not one.cluster else "member")
            if isinstance(policy, Refused):
                found.refusals.append(_refusal(one, policy))
            else:
                found.policies.append((one.cluster, policy))


def _exports(found: Clusterset, name: ClusterId, index: int, mine: Sequence[_Given]) -> Iterable[Export]:
    """What one cluster offers; its endpoints, zones and clusterset IPs are noted on the way."""
    nodes: dict[str, core.Node] = {one.object.metadata.name: one.object for one in mine if one.kind == "Node"}
    services: dict[ServiceKey, core.Service] = {
        ServiceKey(*one.object.metadata.key): one.object for one in mine if one.kind == "Service"
    }
    slices: dict[ServiceKey, list[core.EndpointSlice]] = {}
    for one in mine:
        if one.kind == "EndpointSlice" and (owner := one.object.metadata.labels.get(labels.SERVICE_NAME)):
            slices.setdefault(ServiceKey(one.object.metadata.namespace, owner), []).append(one.object)
    region = found.clusters[name].region
    for node in nodes.values():
        if zone := node.metadata.labels.get(labels.ZONE):
            found.zones.add(Vantage(node.metadata.labels.get(labels.REGION, region), zone, name))
    for position, one in enumerate(one for one in mine if one.kind == "ServiceExport"):
        key = ServiceKey(*one.object.metadata.key)
        export = serviceexport.local_export(
            cluster=name, export=_dated(one.object, position * 1_000 + index), service=services.get(key)
        )
        if isinstance(export, Refused):
            found.refusals.append(f"{_refusal(one, export)} (in {name})")
            continue
        found.endpoints[key, name] = endpointslice.local_endpoints(
            slices.get(key, ()), cluster=name, nodes=nodes, region=region
        )
        derived = services.get(ServiceKey(key.namespace, serviceimport.derived_name(key)))
        if derived is not None and derived.metadata.labels.get(labels.MANAGED_BY) == labels.MANAGER:
            found.ips[name, key] = tuple(derived.spec.cluster_ips or [derived.spec.cluster_ip])
        yield export


def _dated(export: mcs.ServiceExport, seconds: int) -> mcs.ServiceExport:
    if export.metadata.creation_timestamp:
        return export
    metadata = msgspec.structs.replace(
        export.metadata, creation_timestamp=format_time(FIRST_EXPORT + seconds)
    )
    return msgspec.structs.replace(export, metadata=metadata)


def _refusal(one: _Given, refused: Refused) -> str:
    return (
        f"{one.document.place}: {one.kind} {one.object.metadata.key} is refused ({refused.reason}): "
        f"{refused.message}"
    )
