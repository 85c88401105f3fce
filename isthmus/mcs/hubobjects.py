"""What this cluster tells the others, as objects of the hub.

One ExportedService for an export, and ExportedEndpoints in chunks: every chunk holds endpoints of one network
that listen on the same ports. Names and cuts follow from the content alone, so every replica renders the same
and one endpoint's change rewrites one chunk. A cluster writes into its own namespace; who speaks is told by
that namespace, so no two cluster ids may share one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from hashlib import sha256
from itertools import islice
from typing import Any

from isthmus.api import labels
from isthmus.api.hub import ALGORITHM
from isthmus.mcs.audience import render_audience
from isthmus.mcs.limits import MAX_CHUNK
from isthmus.mcs.probespec import render_probe
from isthmus.model.chunks import chunks, short_hash
from isthmus.model.names import ClusterId, ServiceKey
from isthmus.model.service import Endpoint, EndpointPort, Export
from isthmus.model.timestamp import format_time

API_VERSION = "hub.isthmus.dev/v1alpha1"

_SYSTEM = "system"
"""`isthmus-system` is where Isthmus itself runs."""
MAX_NAME = 253
ON_HUB, IN_MEMBER = "Hub", "Member"
"""Where a policy is written."""
MAX_SOURCES = 500
"""Source clusters of one HealthReport, as its CRD has it."""

_HASHED = re.compile(r".*-[0-9a-f]{8}", re.ASCII)


def hub_namespace(cluster: ClusterId) -> str:
    """The namespace of a cluster on the hub: `isthmus-<cluster>`, 63 characters at most.

    An id with a dot, one over 55 characters, one that ends like a hash, and `system` get the hashed form
    `isthmus-<first 40, dots to dashes>-<8 hex of the id's sha256>`, so no plain form equals a hashed one.
    """
    plain = "." not in cluster and len(cluster) <= 55 and not _HASHED.fullmatch(cluster)
    if plain and cluster != _SYSTEM:
        return f"isthmus-{cluster}"
    digest = sha256(cluster.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"isthmus-{cluster[:40].replace('.', '-')}-{digest}"


def object_name(key: ServiceKey) -> str:
    """Name of a service's ExportedService in its cluster's namespace, and prefix of its chunks' names."""
    return f"{key.name}.{key.namespace}"


def service_of(name: str) -> ServiceKey | None:
    """The service of an ExportedService or ExportedEndpoints object of this name; None where it has none."""
    service, _, rest = name.partition(".")
    namespace = rest.partition(".")[0]
    return ServiceKey(namespace, service) if service and namespace else None


def exported_service(export: Export) -> dict[str, Any]:
    """The ExportedService to apply for an export."""
    spec: dict[str, Any] = {
        "cluster": export.cluster,
        "service": {"namespace": export.key.namespace, "name": export.key.name},
        "algorithm": ALGORITHM,
        "exportedAt": format_time(export.created),
        "type": export.type.value,
        "ports": [
            {"name": port.name, "protocol": port.protocol.value, "port": port.port}
            | ({"appProtocol": port.app_protocol} if port.app_protocol else {})
            for port in export.ports
        ],
        "ipFamilies": [family.value for family in export.ip_families],
        "sessionAffinity": "ClientIP" if export.affinity else "None",
        "internalTrafficPolicy": export.internal_traffic_policy,
        "publishNotReadyAddresses": export.publish_not_ready,
        "labels": dict(export.labels),
        "annotations": dict(export.annotations),
        "draining": export.draining,
    }
    if export.affinity:
        spec["sessionAffinityConfig"] = {"clientIP": {"timeoutSeconds": export.affinity.timeout_seconds}}
    if export.traffic_distribution:
        spec["trafficDistribution"] = export.traffic_distribution
    if export.audience is not None:
        spec["exportTo"] = render_audience(export.audience, export.cluster)
    if export.expected_endpoints is not None:
        spec["expectedEndpoints"] = export.expected_endpoints
    if export.probe is not None:
        spec["probe"] = render_probe(export.probe)
    return _object("ExportedService", export.cluster, object_name(export.key), spec)


def exported_endpoints(
    key: ServiceKey, cluster: ClusterId, endpoints: Iterable[Endpoint]
) -> dict[str, dict[str, Any]]:
    """The ExportedEndpoints to apply for one service of this cluster, by object name."""
    sets: dict[tuple[str, tuple[EndpointPort, ...]], dict[str, dict[str, Any]]] = {}
    for endpoint in endpoints:
        ports = tuple(sorted(endpoint.ports))
        sets.setdefault((endpoint.network, ports), {})[endpoint.id] = _endpoint(endpoint)
    rendered: dict[str, dict[str, Any]] = {}
    for (network, ports), entries in sets.items():
        listed = [{"name": port.name, "protocol": port.protocol.value, "port": port.port} for port in ports]
        name = f"{object_name(key)}.{short_hash((network, listed))}"
        for index, chunk in chunks(entries, MAX_CHUNK).items():
            spec = {
                "cluster": cluster,
                "service": {"namespace": key.namespace, "name": key.name},
                "algorithm": ALGORITHM,
                "network": network,
                "ports": listed,
                "endpoints": chunk,
            }
            rendered[f"{name}-{index}"] = _object("ExportedEndpoints", cluster, f"{name}-{index}", spec)
    return rendered


def health_report(
    cluster: ClusterId, key: ServiceKey, counts: Mapping[str, tuple[int, int, int]], observed_at: float
) -> dict[str, Any]:
    """The HealthReport of `cluster`: checks that are up, down and not judged yet, by source cluster."""
    named = (
        (source, dict(zip(("up", "down", "unknown"), found, strict=True))) for source, found in counts.items()
    )
    spec = {
        "cluster": cluster,
        "service": {"namespace": key.namespace, "name": key.name},
        "observedAt": format_time(observed_at),
        "sources": [{"cluster": source, **found} for source, found in islice(named, MAX_SOURCES)],
    }
    return _object("HealthReport", cluster, object_name(key), spec)


def policy_report(
    cluster: ClusterId,
    policy: ServiceKey,
    *,
    from_hub: bool,
    uid: str,
    generation: int,
    plan: str,
    conditions: Iterable[Mapping[str, Any]],
    in_force: Any,
    in_force_generation: int,
) -> dict[str, Any]:
    """The PolicyReport of `cluster`: what it made of a policy, and the spec in force there (None: none).

    A policy of the hub and a member's own of the same name have a report each. Those of the hub's policies
    are labelled, so that the hub reads no others.
    """
    origin = ON_HUB if from_hub else IN_MEMBER
    name = f"{origin.lower()}.{policy.namespace}.{policy.name}"
    if len(name) > MAX_NAME:
        name = f"{name[: MAX_NAME - 9].rstrip('.-')}-{short_hash(name)}"
    spec: dict[str, Any] = {
        "cluster": cluster,
        "policy": {"namespace": policy.namespace, "name": policy.name},
        "origin": origin,
        "uid": uid,
        "observedGeneration": generation,
        "plan": plan,
        "conditions": list(conditions),
        "inForceGeneration": in_force_generation,
    }
    if in_force is not None:
        spec["inForce"] = in_force
    report = _object("PolicyReport", cluster, name, spec)
    report["metadata"]["labels"][labels.POLICY_ORIGIN] = origin
    return report


def _object(kind: str, cluster: ClusterId, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": API_VERSION,
        "kind": kind,
        "metadata": {
            "namespace": hub_namespace(cluster),
            "name": name,
            "labels": {labels.MANAGED_BY: labels.MANAGER},
        },
        "spec": spec,
    }


def _endpoint(endpoint: Endpoint) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "id": endpoint.id,
        "addresses": list(endpoint.addresses),
        "ready": endpoint.ready,
        "serving": endpoint.serving,
        "terminating": endpoint.terminating,
    }
    told = {
        "hostname": endpoint.hostname,
        "nodeName": endpoint.node,
        "region": endpoint.region,
        "zone": endpoint.zone,
    }
    entry.update({name: value for name, value in told.items() if value})
    return entry
