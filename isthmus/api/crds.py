"""CustomResourceDefinitions of every kind that Isthmus reads or writes.

Schemas are generated from the types that decode the objects (pydantic for policies, msgspec for hub kinds),
so that what the API server accepts and what we read cannot drift apart; bounds of hub kinds are added here.
"""

from __future__ import annotations

from typing import Any

import msgspec

from isthmus import __version__
from isthmus.api import hub, kinds, policy
from isthmus.api.labels import RELEASE
from isthmus.api.mcscrds import (
    cluster_properties,
    conditions,
    definition,
    service_exports,
    service_imports,
    version,
    whole,
)
from isthmus.api.meta import Kind
from isthmus.api.policy_settings import HealthSpec
from isthmus.api.policy_spec import PolicySpec
from isthmus.api.structural import bounded, structural
from isthmus.model.names import MAX_CLUSTER_ID

Schema = dict[str, Any]

MAX_ENDPOINTS = 500
MAX_PORTS = 100
MAX_AUDIENCE = 65
MAX_SOURCES = 500

_NAME = {"maxLength": 253}
_PORT = {"minimum": 1, "maximum": 65_535, "format": "int32"}
_PROTOCOL = {"enum": ["TCP", "UDP", "SCTP"]}
_AGE = {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}
_GENERATION = {"minimum": 0, "format": "int64"}
_LINE = {"maxLength": 256}
_CLUSTER = {"maxLength": MAX_CLUSTER_ID}
_NAMED: dict[str, Schema] = {
    "cluster": _CLUSTER,
    "service.namespace": {"maxLength": 63},
    "service.name": {"maxLength": 63},
}
_SERVICE: dict[str, Schema] = {
    **_NAMED,
    "algorithm": {"minimum": 1, "maximum": 1_000_000},
    "ports": {"maxItems": MAX_PORTS},
    "ports.name": {"maxLength": 63},
    "ports.protocol": _PROTOCOL,
    "ports.port": _PORT,
}


def all_crds() -> list[Schema]:
    """Every CRD once, for a cluster that is member and hub alike."""
    by_name = {crd["metadata"]["name"]: crd for crd in (*member_crds(), *hub_crds())}
    return list(by_name.values())


def member_crds() -> list[Schema]:
    """The CRDs of a member cluster."""
    return [service_exports(), service_imports(), cluster_properties(), global_traffic_policies()]


def hub_crds() -> list[Schema]:
    """The CRDs of the hub."""
    return [
        global_traffic_policies(),
        clusters(),
        exported_services(),
        exported_endpoints(),
        health_reports(),
        policy_reports(),
    ]


def global_traffic_policies() -> Schema:
    """GlobalTrafficPolicy: members and hub."""
    columns = [
        {"name": "Plan", "type": "string", "jsonPath": ".status.plan"},
        _condition_column("Accepted"),
        _condition_column("InForce"),
        {"name": "Applied", "type": "string", "jsonPath": ".status.applied"},
        {**_condition_column("ResolvedRefs"), "priority": 1},
        {**_condition_column("DoorFidelity"), "priority": 1},
        _AGE,
    ]
    spec = structural(PolicySpec.model_json_schema(by_alias=True))
    status = bounded(
        _of(policy.PolicyStatus, "What became of the policy."),
        {
            "observedGeneration": _GENERATION,
            "plan": {**_LINE, "description": "The ladder on one line, first to last."},
            "applied": {**_LINE, "description": "Hub: members that follow it, of all."},
            "clusters": {
                "maxItems": MAX_SOURCES,
                "description": "Hub: what each member made of it; those that do not follow it first.",
            },
            "clusters.cluster": _CLUSTER,
            "clusters.generation": _GENERATION,
            "clusters.reason": {"maxLength": 1024},
            "clusters.message": {"maxLength": 1024},
        },
    )
    status["properties"]["conditions"] = conditions()
    about = "Says where the callers of a service go, in the whole clusterset."
    return _crd(kinds.POLICY, whole(about, {"spec": spec, "status": status}), columns, shortNames=["gtp"])


def clusters() -> Schema:
    """Cluster: members as the hub knows them."""
    spec = bounded(
        _of(hub.ClusterSpec, "Who and where the cluster is, and whether it is to be drained or to leave."),
        {"uid": {"maxLength": 63}, "region": {"maxLength": 63}},
    )
    status = bounded(
        _of(hub.ClusterStatus, "What the hub knows of it."),
        {"state": {"maxLength": 63}, "lastHeartbeat": {"maxLength": 63}},
    )
    status["properties"]["conditions"] = conditions()
    columns = [
        {"name": "Region", "type": "string", "jsonPath": ".spec.region"},
        {"name": "State", "type": "string", "jsonPath": ".status.state"},
        {"name": "Drain", "type": "boolean", "jsonPath": ".spec.drain"},
        _AGE,
    ]
    about = "A member of the clusterset."
    return _crd(kinds.CLUSTER, whole(about, {"spec": spec, "status": status}), columns)


def exported_services() -> Schema:
    """ExportedService: what one cluster offers under a name, without its endpoints."""
    spec = _of(hub.ExportedServiceSpec, "The export.")
    spec["properties"]["probe"] = structural(HealthSpec.model_json_schema(by_alias=True))
    spec = bounded(
        spec,
        {
            **_SERVICE,
            "exportedAt": {"maxLength": 63},
            "type": {"enum": ["ClusterSetIP", "Headless"]},
            "ports.appProtocol": _NAME,
            "ipFamilies": {"maxItems": 2},
            "sessionAffinity": {"maxLength": 63},
            "internalTrafficPolicy": {"maxLength": 63},
            "trafficDistribution": {"maxLength": 63},
            "labels": {"maxProperties": 256},
            "annotations": {"maxProperties": 256},
            "exportTo": {"maxItems": MAX_AUDIENCE, "items": {"type": "string", "maxLength": 400}},
            "expectedEndpoints": {"minimum": 1, "maximum": 1_000_000, "format": "int32"},
        },
    )
    columns = [_spec_column("Service"), _spec_column("Cluster"), _spec_column("Type"), _AGE]
    columns[0]["jsonPath"] = ".spec.service.name"
    about = "What one cluster offers under a name; written by that cluster's agent alone."
    return _crd(kinds.EXPORTED_SERVICE, whole(about, {"spec": spec}), columns, status=False)


def exported_endpoints() -> Schema:
    """ExportedEndpoints: up to 500 endpoints of one cluster's export."""
    spec = bounded(
        _of(hub.ExportedEndpointsSpec, "Endpoints that listen on the same ports."),
        {
            **_SERVICE,
            "network": {"maxLength": 127},
            "endpoints": {"maxItems": MAX_ENDPOINTS},
            "endpoints.id": _NAME,
            "endpoints.addresses": {"maxItems": 16},
            "endpoints.hostname": _NAME,
            "endpoints.nodeName": _NAME,
            "endpoints.region": {"maxLength": 63},
            "endpoints.zone": {"maxLength": 63},
        },
    )
    columns = [_spec_column("Cluster"), _AGE]
    about = "Endpoints of one cluster's export; written by that cluster's agent alone."
    return _crd(kinds.EXPORTED_ENDPOINTS, whole(about, {"spec": spec}), columns, status=False)


def health_reports() -> Schema:
    """HealthReport: what one cluster's probes say of a service, counted by source cluster."""
    count = {"minimum": 0, "maximum": 1_000_000, "format": "int32"}
    spec = bounded(
        _of(hub.HealthReportSpec, "Checked endpoints by source cluster, as seen from one cluster."),
        {
            **_NAMED,
            "observedAt": {"maxLength": 63},
            "sources": {"maxItems": MAX_SOURCES},
            "sources.cluster": _CLUSTER,
            "sources.up": count,
            "sources.down": count,
            "sources.unknown": count,
        },
    )
    columns = [_spec_column("Service"), _spec_column("Cluster"), _AGE]
    columns[0]["jsonPath"] = ".spec.service.name"
    about = "What one cluster's probes say of a service, for people; written by that cluster's agent alone."
    return _crd(kinds.HEALTH_REPORT, whole(about, {"spec": spec}), columns, status=False)


def policy_reports() -> Schema:
    """PolicyReport: what one cluster made of a policy."""
    spec = _of(hub.PolicyReportSpec, "The policy as that cluster took it.")
    spec["properties"]["conditions"] = {**conditions(times=False), "maxItems": 16}
    spec["properties"]["inForce"] = structural(PolicySpec.model_json_schema(by_alias=True))
    spec = bounded(
        spec,
        {
            "cluster": _CLUSTER,
            "policy.namespace": {"maxLength": 63},
            "policy.name": _NAME,
            "origin": {"enum": ["Hub", "Member"]},
            "uid": {"maxLength": 63},
            "plan": _LINE,
            "observedGeneration": _GENERATION,
            "inForceGeneration": _GENERATION,
        },
    )
    columns = [_spec_column("Policy"), _spec_column("Cluster"), _AGE]
    columns[0]["jsonPath"] = ".spec.policy.name"
    columns.insert(2, _spec_column("Plan"))
    columns.insert(3, _condition_column("Accepted", ".spec"))
    columns.insert(4, _condition_column("InForce", ".spec"))
    about = "What one cluster made of a policy; written by that cluster's agent alone."
    return _crd(kinds.POLICY_REPORT, whole(about, {"spec": spec}), columns, status=False)


def _of(struct_type: type[msgspec.Struct], description: str) -> Schema:
    return {**structural(msgspec.json.schema(struct_type)), "description": description}


def _crd(
    kind: Kind[Any], schema: Schema, columns: list[Schema], *, status: bool = True, **names: Any
) -> Schema:
    served = version(kind.version, schema, status=status, columns=columns)
    crd = definition(
        group=kind.group,
        kind=kind.kind,
        plural=kind.plural,
        namespaced=kind.namespaced,
        versions=[served],
        **names,
    )
    crd["metadata"]["labels"] = {RELEASE: f"v{__version__}"}
    return crd


def _spec_column(name: str) -> Schema:
    return {"name": name, "type": "string", "jsonPath": f".spec.{name.lower()}"}


def _condition_column(name: str, under: str = ".status") -> Schema:
    return {
        "name": name,
        "type": "string",
        "jsonPath": f'{under}.conditions[?(@.type=="{name}")].status',
    }
