"""URLs of the Kubernetes API: which resource, namespace, name and subresource a path means, and which verb.

Pure; knows only the registry. Documents (discovery, version, health) are answered here as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from isthmus.apiserver import listing, openapi, status
from isthmus.apiserver.resources import NAMESPACES, Registry, Resource

_VERSION = {
    "major": "1",
    "minor": "34",
    "gitVersion": "v1.34.0+isthmus",
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "1970-01-01T00:00:00Z",
    "goVersion": "",
    "compiler": "",
    "platform": "linux",
}
_HEALTH = ("healthz", "livez", "readyz")
_OBJECT = {"GET": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_COLLECTION = {"GET": "list", "POST": "create", "DELETE": "deletecollection"}


@dataclass(frozen=True, slots=True)
class Target:
    """What a path of the API means; `name` is empty for a collection."""

    resource: Resource
    namespace: str
    name: str
    subresource: str


def document(registry: Registry, path: str) -> dict[str, Any] | str | None:
    """The document at a path that is no resource; None where there is none."""
    match path.strip("/").split("/"):
        case [""]:
            return {"paths": ["/api", "/api/v1", "/apis", "/healthz", "/livez", "/readyz", "/version"]}
        case [name, *_] if name in _HEALTH:
            return "ok"
        case ["version"]:
            return _VERSION
        case ["openapi", "v3"]:
            return openapi.index(registry)
        case ["openapi", "v3", "api", version]:
            return openapi.document(registry, "", version)
        case ["openapi", "v3", "apis", group, version]:
            return openapi.document(registry, group, version)
        case ["api"]:
            return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}
        case ["api", version]:
            return registry.resource_list("", version)
        case ["apis"]:
            return registry.group_list()
        case ["apis", group]:
            return registry.group(group)
        case ["apis", group, version]:
            return registry.resource_list(group, version)
        case _:
            return None


def target(registry: Registry, path: str) -> Target:
    """The resource a path means; 404 where there is none."""
    match path.strip("/").split("/"):
        case ["api", version, *rest]:
            group = ""
        case ["apis", group, version, *rest]:
            pass
        case _:
            raise status.no_such_path()
    namespace = ""
    match rest:
        case ["namespaces", namespace, plural, *rest] if plural not in ("status", "finalize"):
            pass
        case [plural, *rest]:
            pass
        case _:
            raise status.no_such_path()
    resource = registry.find(group, version, plural)
    if resource is None or (namespace and not resource.namespaced):
        raise status.no_such_path()
    match rest:
        case []:
            return Target(resource, namespace, "", "")
        case [name] if namespace or not resource.namespaced:
            return Target(resource, namespace, name, "")
        case [name, "status"] if resource.status and (namespace or not resource.namespaced):
            return Target(resource, namespace, name, "status")
        case [name, "finalize"] if resource.bucket == NAMESPACES.bucket:
            return Target(resource, namespace, name, "finalize")
        case _:
            raise status.no_such_path()


def verb(method: str, found: Target, params: Mapping[str, str]) -> str:
    """The verb of a request; 405 where the method does not fit the target."""
    verbs = _OBJECT if found.name else _COLLECTION
    name = verbs.get(method)
    allowed = name is not None
    if found.subresource:
        allowed = name in ("get", "update", "patch")
    if name == "create" and found.resource.namespaced and not found.namespace:
        allowed = False
    if not allowed or name is None:
        raise status.method_not_allowed()
    if method == "GET" and not found.name and listing.flag(params.get("watch")):
        return "watch"
    return name
