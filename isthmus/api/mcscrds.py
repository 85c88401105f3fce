"""The CRDs of the MCS API and of ClusterProperty: the published fields and rules (KEP-1645, KEP-2149).

Fields and validation follow sigs.k8s.io/mcs-api v0.5.2 and about-api; descriptions are our own. Both versions
of an MCS kind share one schema, so that no conversion is needed.
"""

from __future__ import annotations

from typing import Any

import msgspec

Schema = dict[str, Any]

RELEASE_VERSION = "v0.5.2"
SCHEMA_REVISION = "0"

_REASON = r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"
_TYPE = (
    r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?"
    r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$"
)
_AGE = {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}


def text(description: str = "", **rules: Any) -> Schema:
    """A string field."""
    return {"type": "string", **({"description": description} if description else {}), **rules}


def struct(properties: Schema, description: str = "", required: list[str] | None = None) -> Schema:
    """An object with these properties and no others."""
    result: Schema = {"type": "object", "properties": properties}
    if description:
        result["description"] = description
    if required:
        result["required"] = required
    return result


def conditions(*, times: bool = True) -> Schema:
    """A list of metav1.Condition, a map by type; `times`: whether each must say when it last changed."""
    condition = struct(
        {
            "lastTransitionTime": text("When the status last changed.", format="date-time"),
            "message": text("What happened, for people; may be empty.", maxLength=32768),
            "observedGeneration": {
                "type": "integer",
                "format": "int64",
                "minimum": 0,
                "description": "The generation of the object that this speaks of.",
            },
            "reason": text("Why, in one word.", minLength=1, maxLength=1024, pattern=_REASON),
            "status": text("Whether it holds.", enum=["True", "False", "Unknown"]),
            "type": text("What it is about.", maxLength=316, pattern=_TYPE),
        },
        "One aspect of the object's state.",
        [*(["lastTransitionTime"] if times else []), "message", "reason", "status", "type"],
    )
    return {
        "type": "array",
        "items": condition,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
    }


def whole(description: str, properties: Schema, required: list[str] | None = None) -> Schema:
    """The schema of a kind: the fields that every object has, and its own."""
    every = {"apiVersion": text(), "kind": text(), "metadata": {"type": "object"}}
    return struct({**every, **properties}, description, required)


def definition(
    *, group: str, kind: str, plural: str, namespaced: bool, versions: list[Schema], **names: Any
) -> Schema:
    """A CustomResourceDefinition, no part of it shared; `names` adds shortNames, categories or listKind."""
    crd = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced" if namespaced else "Cluster",
            "names": {"kind": kind, "plural": plural, "singular": kind.lower(), **names},
            "versions": versions,
        },
    }
    unshared: Schema = msgspec.json.decode(msgspec.json.encode(crd))
    return unshared


def version(
    name: str,
    schema: Schema,
    *,
    storage: bool = True,
    status: bool = True,
    columns: list[Schema] | None = None,
) -> Schema:
    """One served version of a kind."""
    result: Schema = {
        "name": name,
        "served": True,
        "storage": storage,
        "schema": {"openAPIV3Schema": schema},
        "additionalPrinterColumns": columns or [_AGE],
    }
    if status:
        result["subresources"] = {"status": {}}
    return result


def service_exports() -> Schema:
    """ServiceExport, v1beta1 stored and v1alpha1 served."""
    strings = {"type": "object", "additionalProperties": {"type": "string"}}
    schema = whole(
        "Asks that the Service of the same name and namespace be reachable from the whole clusterset.",
        {
            "spec": struct(
                {
                    "exportedAnnotations": {**strings, "description": "Annotations of the ServiceImport."},
                    "exportedLabels": {**strings, "description": "Labels of the ServiceImport."},
                },
                "What goes along with the Service.",
            ),
            "status": struct({"conditions": conditions()}, "What became of the export."),
        },
    )
    return _mcs("ServiceExport", "serviceexports", ["svcex", "svcexport"], schema, [_AGE])


def service_imports() -> Schema:
    """ServiceImport, v1beta1 stored and v1alpha1 served."""
    schema = whole(
        "A service of the clusterset as this cluster sees it; written by the controller alone.",
        {
            "spec": _import_spec(),
            "status": struct(
                {
                    "clusters": {
                        "type": "array",
                        "description": "The clusters that export it.",
                        "items": struct(
                            {"cluster": text("Name of the cluster.")}, "One source.", ["cluster"]
                        ),
                        "x-kubernetes-list-type": "map",
                        "x-kubernetes-list-map-keys": ["cluster"],
                    },
                    "conditions": conditions(),
                    "endpointSliceObjects": text(
                        "Whether EndpointSlices of the imported endpoints are published here.",
                        enum=["Present", "Absent"],
                    ),
                },
                "Where the service comes from.",
            ),
        },
    )
    columns = [
        {"name": "Type", "type": "string", "jsonPath": ".spec.type", "description": "Kind of import."},
        {"name": "IP", "type": "string", "jsonPath": ".spec.ips", "description": "Clusterset IPs."},
        _AGE,
    ]
    return _mcs("ServiceImport", "serviceimports", ["svcim", "svcimport"], schema, columns)


def cluster_properties() -> Schema:
    """ClusterProperty, v1beta1 stored and v1alpha1 served."""
    spec = struct({"value": text("The property's text.", minLength=1)}, "The property.", ["value"])
    columns = [
        {"name": "value", "type": "string", "jsonPath": ".spec.value"},
        {**_AGE, "name": "age"},
    ]
    about = "A property of this cluster, such as its id and its clusterset."
    alpha = version(
        "v1alpha1", whole(about, {"spec": spec}, ["spec"]), storage=False, status=False, columns=columns
    )
    status: Schema = {"type": "object", "description": "Nothing yet."}
    beta = version("v1beta1", whole(about, {"spec": spec, "status": status}), columns=columns)
    crd = definition(
        group="about.k8s.io",
        kind="ClusterProperty",
        plural="clusterproperties",
        namespaced=False,
        versions=[alpha, beta],
        listKind="ClusterPropertyList",
    )
    approval = "https://github.com/kubernetes/enhancements/pull/3084"
    crd["metadata"]["annotations"] = {"api-approved.kubernetes.io": approval}
    return crd


def _import_spec() -> Schema:
    int32 = {"type": "integer", "format": "int32"}
    port = struct(
        {
            "appProtocol": text("Protocol of the application, such as kubernetes.io/h2c."),
            "name": text("Name of the port."),
            "port": {**int32, "description": "The port that callers use."},
            "protocol": text("TCP, UDP or SCTP; TCP where absent."),
        },
        "A port of the service.",
        ["port"],
    )
    client_ip = struct(
        {"timeoutSeconds": {**int32, "description": "How long a client stays, 1 to 86400 seconds."}},
        "Affinity by the client's address.",
    )
    return struct(
        {
            "internalTrafficPolicy": text("Cluster or Local, as of the exported Service."),
            "ipFamilies": {
                "type": "array",
                "items": {"type": "string"},
                "maxItems": 2,
                "description": "Address families, in the order of ips.",
            },
            "ips": {
                "type": "array",
                "items": {"type": "string"},
                "maxItems": 2,
                "description": "Clusterset IPs of the service.",
            },
            "ports": {
                "type": "array",
                "items": port,
                "x-kubernetes-list-type": "atomic",
                "description": "Ports of all exports together.",
            },
            "sessionAffinity": text("ClientIP or None."),
            "sessionAffinityConfig": struct({"clientIP": client_ip}, "Details of the affinity."),
            "trafficDistribution": text("Preference for near endpoints, as of the exported Service."),
            "type": text("With clusterset IPs, or headless.", enum=["ClusterSetIP", "Headless"]),
        },
        "The service.",
        ["ports", "type"],
    )


def _mcs(kind: str, plural: str, short: list[str], schema: Schema, columns: list[Schema]) -> Schema:
    crd = definition(
        group="multicluster.x-k8s.io",
        kind=kind,
        plural=plural,
        namespaced=True,
        shortNames=short,
        versions=[
            version("v1alpha1", schema, storage=False, columns=columns),
            version("v1beta1", schema, columns=columns),
        ],
    )
    crd["metadata"]["labels"] = {
        "multicluster.x-k8s.io/release-version": RELEASE_VERSION,
        "multicluster.x-k8s.io/crd-schema-revision": SCHEMA_REVISION,
    }
    return crd
