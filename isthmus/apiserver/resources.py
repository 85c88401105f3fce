"""Which resources a cluster serves, and the discovery documents that say so.

Built-in resources are a constant table; custom ones come and go with their CustomResourceDefinitions. A
resource is one version of a bucket; the bucket's storage version is what its bytes are written in.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from isthmus.apiserver import shapes, topology
from isthmus.apiserver.store import BucketId
from isthmus.apiserver.topology import Schema

NameRule = Literal["subdomain", "label", "label1035"]
VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """One served version of a kind."""

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool
    singular: str = ""
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    list_kind: str = ""
    storage_version: str = ""
    status: bool = False
    """There is a status subresource: main writes ignore status, status writes ignore the rest."""
    generation: bool = False
    """metadata.generation counts changes outside metadata and status."""
    unconditional: bool = True
    """An update may omit resourceVersion."""
    put_creates: bool = False
    """An update of an object that does not exist creates it."""
    returns_deleted: bool = False
    """A delete answers with the object instead of a Status."""
    keeps_status: bool = False
    """A create keeps the status it brings."""
    custom: bool = False
    name_rule: NameRule = "subdomain"
    schema: Schema = field(default_factory=dict)
    """Structural schema of a custom resource; only topology for built-in kinds."""

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def stored_api_version(self) -> str:
        version = self.storage_version or self.version
        return f"{self.group}/{version}" if self.group else version

    @property
    def bucket(self) -> BucketId:
        return BucketId(self.group, self.plural)


def _builtin(
    group: str, kind: str, plural: str, namespaced: bool, schema: Schema | None = None, **rest: Any
) -> Resource:
    return Resource(
        group=group,
        version="v1",
        kind=kind,
        plural=plural,
        namespaced=namespaced,
        singular=kind.lower(),
        list_kind=kind + "List",
        schema=topology.with_metadata(schema or shapes.PLAIN),
        **rest,
    )


NAMESPACES = _builtin(
    "",
    "Namespace",
    "namespaces",
    False,
    shapes.NAMESPACE,
    short_names=("ns",),
    status=True,
    name_rule="label",
)
SERVICES = _builtin(
    "", "Service", "services", True, shapes.SERVICE,
    short_names=("svc",), categories=("all",), status=True, returns_deleted=True, name_rule="label1035",
)  # fmt: skip
ENDPOINT_SLICES = _builtin(
    "discovery.k8s.io", "EndpointSlice", "endpointslices", True, shapes.ENDPOINT_SLICE, generation=True
)
LEASES = _builtin(
    "coordination.k8s.io", "Lease", "leases", True, shapes.LEASE, unconditional=False, put_creates=True
)
CRDS = _builtin(
    "apiextensions.k8s.io", "CustomResourceDefinition", "customresourcedefinitions", False, shapes.CRD,
    short_names=("crd", "crds"), status=True, generation=True, unconditional=False,
)  # fmt: skip
BUILTINS: tuple[Resource, ...] = (
    NAMESPACES,
    SERVICES,
    ENDPOINT_SLICES,
    LEASES,
    CRDS,
    _builtin("", "Node", "nodes", False, shapes.NODE, short_names=("no",), status=True, keeps_status=True),
    _builtin(
        "", "Pod", "pods", True, shapes.POD,
        short_names=("po",), categories=("all",), status=True, generation=True, returns_deleted=True,
    ),
    _builtin("", "Event", "events", True, short_names=("ev",), put_creates=True),
    _builtin("", "ConfigMap", "configmaps", True, shapes.CONFIG_MAP, short_names=("cm",)),
    _builtin("", "Secret", "secrets", True),
    _builtin(
        "", "ServiceAccount", "serviceaccounts", True, shapes.SERVICE_ACCOUNT,
        short_names=("sa",), returns_deleted=True,
    ),
    _builtin(
        "apps", "Deployment", "deployments", True, shapes.DEPLOYMENT,
        short_names=("deploy",), categories=("all",), status=True, generation=True,
    ),
)  # fmt: skip


class Registry:
    """The served resources of one cluster, looked up by group, version and plural."""

    def __init__(self, resources: Iterable[Resource] = BUILTINS) -> None:
        self._served: dict[tuple[str, str, str], Resource] = {}
        for resource in resources:
            self._served[resource.group, resource.version, resource.plural] = resource

    def find(self, group: str, version: str, plural: str) -> Resource | None:
        return self._served.get((group, version, plural))

    def served(self, group: str, version: str) -> list[Resource]:
        """Everything of one group and version, by plural name."""
        return [each for key, each in sorted(self._served.items()) if key[:2] == (group, version)]

    def versions(self, bucket: BucketId) -> list[Resource]:
        """The served versions of one bucket, in order of priority."""
        found = [each for each in self._served.values() if each.bucket == bucket]
        return sorted(found, key=lambda each: version_priority(each.version))

    def replace(self, bucket: BucketId, resources: Iterable[Resource]) -> None:
        """Serve exactly these versions of a bucket."""
        for resource in self.versions(bucket):
            del self._served[resource.group, resource.version, resource.plural]
        for resource in resources:
            self._served[resource.group, resource.version, resource.plural] = resource

    def buckets(self, *, namespaced: bool) -> list[BucketId]:
        return list(
            dict.fromkeys(each.bucket for each in self._served.values() if each.namespaced == namespaced)
        )

    def groups(self) -> dict[str, list[str]]:
        """Group to versions in order of priority, without the core group."""
        groups: dict[str, set[str]] = {}
        for group, version, _ in self._served:
            if group:
                groups.setdefault(group, set()).add(version)
        return {group: sorted(versions, key=version_priority) for group, versions in sorted(groups.items())}

    def group_list(self) -> dict[str, Any]:
        """The document of /apis."""
        return {
            "kind": "APIGroupList",
            "apiVersion": "v1",
            "groups": [self._group(name) for name in self.groups()],
        }

    def group(self, name: str) -> dict[str, Any] | None:
        """The document of /apis/<group>."""
        return (
            {"kind": "APIGroup", "apiVersion": "v1", **self._group(name)} if name in self.groups() else None
        )

    def _group(self, name: str) -> dict[str, Any]:
        versions = [{"groupVersion": f"{name}/{each}", "version": each} for each in self.groups()[name]]
        return {"name": name, "versions": versions, "preferredVersion": versions[0]}

    def resource_list(self, group: str, version: str) -> dict[str, Any] | None:
        """The document of /api/v1 or /apis/<group>/<version>; None where nothing is served."""
        served = self.served(group, version)
        if not served:
            return None
        rows: list[dict[str, Any]] = []
        for resource in served:
            row: dict[str, Any] = {
                "name": resource.plural,
                "singularName": resource.singular,
                "namespaced": resource.namespaced,
                "kind": resource.kind,
                "verbs": list(VERBS),
            }
            if resource.short_names:
                row["shortNames"] = list(resource.short_names)
            if resource.categories:
                row["categories"] = list(resource.categories)
            rows.append(row)
            if resource.status:
                verbs = ["get", "patch", "update"]
                base = {key: row[key] for key in ("namespaced", "kind")}
                rows.append({"name": f"{resource.plural}/status", "singularName": "", **base, "verbs": verbs})
        return {
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": f"{group}/{version}" if group else version,
            "resources": rows,
        }


def version_priority(version: str) -> tuple[int, int, int, str]:
    """Sort key of API versions: v2, v1, v1beta2, v1beta1, v1alpha1, then the rest by name."""
    major, stage, minor = 0, 3, 0
    rest = version.removeprefix("v")
    for rank, word in ((1, "beta"), (2, "alpha")):
        head, found, tail = rest.partition(word)
        if found and head.isdecimal() and tail.isdecimal():
            major, stage, minor = int(head), rank, int(tail)
    if rest.isdecimal() and version.startswith("v"):
        major, stage = int(rest), 0
    return (stage, -major, -minor, version if stage == 3 else "")
