"""Every CRD: structural schemas as Kubernetes demands them, and examples that survive pruning unchanged."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from pydantic import BaseModel

from isthmus.api import hub, kinds
from isthmus.api.crds import all_crds, hub_crds, member_crds
from isthmus.api.structural import bounded, structural

CRDS = {crd["metadata"]["name"]: crd for crd in all_crds()}
ALLOWED = {
    "type", "format", "description", "properties", "additionalProperties", "required", "items", "enum",
    "pattern", "minLength", "maxLength", "minimum", "maximum", "minItems", "maxItems", "minProperties",
    "maxProperties", "x-kubernetes-list-type", "x-kubernetes-list-map-keys", "x-kubernetes-validations",
}  # fmt: skip


def schemas(crd: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for version in crd["spec"]["versions"]:
        yield version["name"], version["schema"]["openAPIV3Schema"]


def faults(schema: dict[str, Any], path: str) -> Iterator[str]:
    """Why a schema is not structural, level by level."""
    if not set(schema) <= ALLOWED:
        yield f"{path}: {sorted(set(schema) - ALLOWED)}"
    kind = schema.get("type")
    if kind not in ("object", "array", "string", "integer", "number", "boolean"):
        yield f"{path}: type {kind}"
    if "properties" in schema and "additionalProperties" in schema:
        yield f"{path}: properties beside additionalProperties"
    if not set(schema.get("required", ())) <= set(schema.get("properties", {})):
        yield f"{path}: requires what it does not have"
    if kind == "array" and "items" not in schema:
        yield f"{path}: array without items"
    if kind != "object" and ("properties" in schema or "additionalProperties" in schema):
        yield f"{path}: properties of a {kind}"
    if schema.get("x-kubernetes-list-type") == "map":
        keys = schema.get("x-kubernetes-list-map-keys", [])
        if not keys or not set(keys) <= set(schema["items"].get("required", ())):
            yield f"{path}: map keys must be required"
    if "pattern" in schema:
        re.compile(schema["pattern"])
    for rule in schema.get("x-kubernetes-validations", ()):
        if not rule.get("rule") or not rule.get("message"):
            yield f"{path}: rule without text"
    for name, part in schema.get("properties", {}).items():
        yield from faults(part, f"{path}.{name}")
    if isinstance(schema.get("additionalProperties"), dict):
        yield from faults(schema["additionalProperties"], f"{path}.*")
    if "items" in schema:
        yield from faults(schema["items"], f"{path}[]")


def prune(schema: dict[str, Any], value: Any) -> Any:
    """What an API server keeps of a value, checked on the way against types, bounds and patterns."""
    match schema["type"]:
        case "object":
            assert isinstance(value, dict)
            assert set(schema.get("required", ())) <= set(value)
            if "additionalProperties" in schema:
                return {name: prune(schema["additionalProperties"], part) for name, part in value.items()}
            if "properties" not in schema:
                return value
            known = schema["properties"]
            return {name: prune(known[name], part) for name, part in value.items() if name in known}
        case "array":
            assert isinstance(value, list)
            assert schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", 10**9)
            return [prune(schema["items"], part) for part in value]
        case "string":
            assert isinstance(value, str)
            assert re.search(schema.get("pattern", ""), value)
            assert schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", 10**9)
        case "integer":
            assert type(value) is int
            assert schema.get("minimum", value) <= value <= schema.get("maximum", value)
        case "boolean":
            assert type(value) is bool
    assert value in schema.get("enum", [value])
    return value


@pytest.mark.parametrize("name", CRDS)
def test_a_schema_is_structural_at_every_level(name: str) -> None:
    for version, schema in schemas(CRDS[name]):
        assert list(faults(schema, version)) == []
        assert schema["type"] == "object"
        assert schema["properties"]["metadata"] == {"type": "object"}


@pytest.mark.parametrize("name", CRDS)
def test_a_definition_is_whole(name: str) -> None:
    crd = CRDS[name]
    spec = crd["spec"]
    assert name == f"{spec['names']['plural']}.{spec['group']}"
    assert [version["storage"] for version in spec["versions"]].count(True) == 1
    assert all(version["served"] for version in spec["versions"])
    assert spec["names"]["singular"] == spec["names"]["kind"].lower()
    assert msgspec.json.decode(msgspec.json.encode(crd)) == crd


def test_every_custom_kind_has_a_definition_with_its_version_and_scope() -> None:
    ours = [kind for kind in vars(kinds).values() if isinstance(kind, kinds.Kind)]
    custom = [kind for kind in ours if kind.group.endswith((".isthmus.dev", "x-k8s.io", "about.k8s.io"))]
    assert len(custom) == len(CRDS) == 9
    for kind in custom:
        spec = CRDS[f"{kind.plural}.{kind.group}"]["spec"]
        assert spec["names"]["kind"] == kind.kind
        assert (spec["scope"] == "Namespaced") == kind.namespaced
        assert kind.version in [v["name"] for v in spec["versions"] if v["storage"]]


def test_members_and_hub_share_the_policy_only() -> None:
    member = {crd["metadata"]["name"] for crd in member_crds()}
    on_hub = {crd["metadata"]["name"] for crd in hub_crds()}
    assert member & on_hub == {"globaltrafficpolicies.traffic.isthmus.dev"}
    assert member | on_hub == set(CRDS)


POLICY = {
    "strategy": "FailOver",
    "targets": [{"cluster": "eu-1", "weight": 80, "priority": 0}, {"region": "us", "priority": 1}],
    "tiers": [
        {"match": {"clusterSelector": {"matchLabels": {"example.com/tier": "gold"}}}},
        {"match": {"clusters": ["eu-1", "eu-2.prod"]}, "weights": [{"cluster": "eu-1", "weight": 0}]},
    ],
    "targetRefs": [
        {"group": "multicluster.x-k8s.io", "kind": "ServiceImport", "name": "a", "sectionName": "b"}
    ],
    "selector": {"matchExpressions": [{"key": "tier", "operator": "In", "values": ["front"]}]},
    "fallback": "None",
    "overprovisioningPercent": 140,
    "onClusterUnknown": "Deprioritise",
    "overridable": False,
    "expectedEndpoints": 3,
    "dns": {"answer": "Endpoints", "ttlSeconds": 5},
    "health": {"protocol": "HTTP", "path": "/healthz", "port": 8080, "interval": "500ms", "timeout": "400ms"},
    "outlierDetection": {"consecutiveFailures": 3, "interval": "100ms", "baseEjection": "5s"},
    "retry": {"attempts": 3, "perTryTimeout": "1m30s", "backOffBase": "1ms", "backOffMax": "10ms"},
    "timeout": "15s",
    "circuitBreaker": {"maxConnections": 1, "maxPendingRequests": 1, "maxRequests": 1},
    "sessionAffinity": {"cookie": "route", "ttl": "1h"},
    "drainSeconds": 30,
    "slowStart": "30s",
}
EXPORT = hub.ExportedServiceSpec(
    cluster="eu-1",
    service=hub.ServiceName(namespace="shop", name="checkout"),
    algorithm=2,
    exported_at="2025-06-01T10:00:00.000000Z",
    type="Headless",
    ports=[hub.ExportedPort(name="http", protocol="UDP", app_protocol="http", port=80)],
    ip_families=["IPv4", "IPv6"],
    session_affinity="ClientIP",
    labels={"a": "b"},
    annotations={"c": "d"},
    export_to=["eu-2", "region=us"],
    draining=True,
    expected_endpoints=3,
    probe={"protocol": "HTTP", "path": "/", "interval": "500ms", "timeout": "400ms", "rise": 2, "fall": 2},
)
ENDPOINTS = hub.ExportedEndpointsSpec(
    cluster="eu-1",
    service=hub.ServiceName(namespace="shop", name="checkout"),
    network="vpc",
    ports=[hub.ExportedEndpointPort(name="http", protocol="UDP", port=8080)],
    endpoints=[
        hub.ExportedEndpoint(
            id="pod-1",
            addresses=["10.64.0.1", "fd00::1"],
            hostname="db-0",
            node_name="n1",
            region="eu",
            zone="eu-1a",
            ready=False,
            serving=False,
            terminating=True,
        )
    ],
)
CONDITION = {
    "type": "Accepted",
    "status": "True",
    "reason": "PortConflict,TypeConflict",
    "message": "Port 80 differs.",
    "lastTransitionTime": "2025-06-01T10:00:00Z",
    "observedGeneration": 1,
}
STATUS = {"conditions": [CONDITION]}
POLICY_STATUS = {
    **STATUS,
    "observedGeneration": 3,
    "plan": "SameCluster > Any",
    "applied": "1/2",
    "clusters": [
        {"cluster": "eu-1", "applied": True, "generation": 3, "reason": "InForce", "message": "Holds."}
    ],
}
HEALTH = hub.HealthReportSpec(
    cluster="eu-1",
    service=hub.ServiceName(namespace="shop", name="checkout"),
    observed_at="2025-06-01T10:00:00Z",
    sources=[hub.SourceHealth(cluster="eu-2", up=2, down=1, unknown=3)],
)
REPORT = {
    "cluster": "eu-1",
    "policy": {"namespace": "shop", "name": "checkout"},
    "origin": "Hub",
    "uid": "7",
    "observedGeneration": 3,
    "plan": "SameCluster > Any",
    "conditions": [CONDITION],
    "inForce": POLICY,
    "inForceGeneration": 2,
}
IMPORT = {
    "type": "ClusterSetIP",
    "ports": [{"name": "http", "protocol": "TCP", "appProtocol": "http", "port": 80}],
    "ips": ["10.96.0.1"],
    "ipFamilies": ["IPv4"],
    "sessionAffinity": "ClientIP",
    "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10}},
    "internalTrafficPolicy": "Cluster",
    "trafficDistribution": "PreferClose",
}


@pytest.mark.parametrize(
    ("kind", "spec", "status"),
    [
        (kinds.POLICY, POLICY, POLICY_STATUS),
        (kinds.EXPORTED_SERVICE, msgspec.to_builtins(EXPORT), None),
        (kinds.EXPORTED_ENDPOINTS, msgspec.to_builtins(ENDPOINTS), None),
        (kinds.HEALTH_REPORT, msgspec.to_builtins(HEALTH), None),
        (kinds.POLICY_REPORT, REPORT, None),
        (kinds.CLUSTER, {"region": "eu", "drain": True}, {"state": "Ready", "lastHeartbeat": "x", **STATUS}),
        (kinds.SERVICE_EXPORT, {"exportedLabels": {"a": "b"}, "exportedAnnotations": {"c": "d"}}, STATUS),
        (
            kinds.SERVICE_IMPORT,
            IMPORT,
            {"clusters": [{"cluster": "eu-1"}], "endpointSliceObjects": "Present", **STATUS},
        ),
        (kinds.CLUSTER_PROPERTY, {"value": "eu-1"}, None),
    ],
)
def test_an_example_with_every_field_survives_the_schema_and_the_decoder(
    kind: Any, spec: dict[str, Any], status: dict[str, Any] | None
) -> None:
    example: dict[str, Any] = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": "x"}}
    example |= {"spec": spec} if status is None else {"spec": spec, "status": status}
    for _, schema in schemas(CRDS[f"{kind.plural}.{kind.group}"]):
        kept = dict(example)
        if "status" not in schema["properties"]:
            kept.pop("status", None)
        assert prune(schema, example) == kept
    decoded = kind.decode(msgspec.json.encode(example))
    again = msgspec.json.decode(msgspec.json.encode(decoded))
    assert {"metadata": again["metadata"], "spec": again["spec"]} == {"metadata": {"name": "x"}, "spec": spec}
    assert "status" not in again or again["status"] == status


def test_the_policy_schema_knows_every_field_of_the_example() -> None:
    ((_, schema),) = schemas(CRDS["globaltrafficpolicies.traffic.isthmus.dev"])
    assert set(schema["properties"]["spec"]["properties"]) == set(POLICY)


@pytest.mark.parametrize(
    "schema",
    [
        {"anyOf": [{"type": "string"}, {"type": "integer"}]},
        {"$ref": "#/$defs/A", "$defs": {"A": {"type": "array", "items": {"$ref": "#/$defs/A"}}}},
        {"description": "anything"},
    ],
)
def test_what_a_structural_schema_cannot_say_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        structural(schema)


def test_a_bound_for_a_field_that_does_not_exist_is_an_error() -> None:
    class Thing(BaseModel):
        names: list[str]

    schema = structural(Thing.model_json_schema())
    assert bounded(schema, {"names": {"maxItems": 3}})["properties"]["names"]["maxItems"] == 3
    with pytest.raises(KeyError):
        bounded(schema, {"name": {"maxItems": 3}})
