"""The little of OpenAPI v3 that kubectl asks for: which resources validate fields on the server.

Without it kubectl refuses to apply unless told not to validate. Schemas of custom resources are included, so
that `kubectl explain` knows them; built-in kinds have none.
"""

from __future__ import annotations

from typing import Any

from isthmus.apiserver.resources import Registry, Resource

_PARAMETERS = [
    {"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": True}}
    for name in ("dryRun", "fieldManager", "fieldValidation")
]


def index(registry: Registry) -> dict[str, Any]:
    """The document of /openapi/v3: where the document of each group and version is."""
    places = ["api/v1"] + [
        f"apis/{group}/{each}" for group, versions in registry.groups().items() for each in versions
    ]
    return {"paths": {place: {"serverRelativeURL": f"/openapi/v3/{place}"} for place in places}}


def document(registry: Registry, group: str, version: str) -> dict[str, Any] | None:
    """The document of one group and version; None where nothing is served."""
    served = registry.served(group, version)
    if not served:
        return None
    paths: dict[str, Any] = {}
    schemas: dict[str, Any] = {}
    for resource in served:
        kind = {"group": group, "version": version, "kind": resource.kind}
        collection = _collection(resource)
        operation = {
            "x-kubernetes-group-version-kind": kind,
            "parameters": _PARAMETERS,
            "responses": {"200": {"description": "OK"}},
        }
        paths[collection] = {"post": {**operation, "x-kubernetes-action": "post"}}
        paths[f"{collection}/{{name}}"] = {
            method: {**operation, "x-kubernetes-action": method} for method in ("put", "patch")
        }
        if resource.custom:
            name = ".".join((*reversed(group.split(".")), version, resource.kind))
            schemas[name] = {**resource.schema, "x-kubernetes-group-version-kind": [kind]}
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "unversioned"},
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _collection(resource: Resource) -> str:
    prefix = f"/apis/{resource.api_version}" if resource.group else f"/api/{resource.version}"
    namespace = "/namespaces/{namespace}" if resource.namespaced else ""
    return f"{prefix}{namespace}/{resource.plural}"
