"""Everything a worker may serve, as bytes that are joined and never rebuilt.

Rows are grouped by (type, scope). Versions are hashes of content, so equal rows give equal versions in every
replica and after every restart. Invariant: a resource is framed once, and a response for the same names once
however many streams ask for it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

import structlog

from isthmus.xds.rows import ResourceType, Row
from isthmus.xds.wire import field

log = structlog.get_logger()

TYPE_URLS: Mapping[ResourceType, str] = {
    ResourceType.CDS: "type.googleapis.com/envoy.config.cluster.v3.Cluster",
    ResourceType.EDS: "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
    ResourceType.LDS: "type.googleapis.com/envoy.config.listener.v3.Listener",
    ResourceType.RDS: "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
}
CONTROL_PLANE = "isthmus"
MAX_CACHED = 64
"""Responses kept per collection; each is one distinct set of names since the last change."""
_VERSION_RANGE = 1 << 64


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Resource:
    """One row, framed as an element of DiscoveryResponse.resources (which is Resource.resource as well)."""

    name: str
    framed: bytes
    version: int

    @classmethod
    def of(cls, kind: ResourceType, name: str, value: bytes) -> Resource:
        """The resource of serialised bytes; its version covers its name too."""
        content = field(1, TYPE_URLS[kind]) + field(2, value)
        digest = hashlib.blake2b(field(1, name) + value, digest_size=8).digest()
        return cls(name, field(2, content), int.from_bytes(digest, "big"))


class Variant(Enum):
    """The two variants of the protocol."""

    SOTW = "sotw"
    DELTA = "delta"


@dataclass(frozen=True, slots=True, eq=False)
class Body:
    """A response but for its nonce, shared by all streams that get the same."""

    kind: ResourceType
    resources: tuple[Resource, ...]
    removed: frozenset[str]
    """Names that are told to be gone; only Delta tells them."""
    fingerprint: int
    """Sum of the resources' versions: the same for the same content in any order."""
    framed: bytes

    @classmethod
    def of(
        cls,
        variant: Variant,
        kind: ResourceType,
        resources: Iterable[Resource],
        removed: frozenset[str] = frozenset(),
    ) -> Body:
        """The response that holds these resources."""
        held = tuple(resources)
        fingerprint = sum(resource.version for resource in held) % _VERSION_RANGE
        head = (field(1, version_text(fingerprint)), field(4, TYPE_URLS[kind]))
        match variant:
            case Variant.SOTW:
                parts = (*head, *(resource.framed for resource in held), field(6, field(1, CONTROL_PLANE)))
            case Variant.DELTA:
                parts = (
                    *head,
                    *(field(2, _entry(resource)) for resource in held),
                    *(field(6, name) for name in sorted(removed)),
                    field(7, field(1, CONTROL_PLANE)),
                )
        return cls(kind, held, removed, fingerprint, b"".join(parts))

    @property
    def version(self) -> str:
        return version_text(self.fingerprint)

    def with_nonce(self, nonce: str) -> bytes:
        """The serialised response."""
        return self.framed + field(5, nonce)


def version_text(version: int) -> str:
    """A version as clients see it."""
    return f"{version:016x}"


def _entry(resource: Resource) -> bytes:
    """A Resource message: version, the resource itself, name."""
    return field(1, version_text(resource.version)) + resource.framed + field(3, resource.name)


class Collection:
    """The resources of one type and scope."""

    def __init__(self, kind: ResourceType) -> None:
        self.kind = kind
        self.resources: dict[str, Resource] = {}
        self._bodies: dict[object, Body] = {}

    def put(self, name: str, value: bytes) -> bool:
        """Sets a resource; says whether that changed anything."""
        resource = Resource.of(self.kind, name, value)
        old = self.resources.get(name)
        if old is not None and old.version == resource.version:
            return False
        self.resources[name] = resource
        self._bodies.clear()
        return True

    def drop(self, name: str) -> Resource | None:
        """Removes a resource and returns it, None where there was none."""
        self._bodies.clear()
        return self.resources.pop(name, None)

    def body(
        self,
        variant: Variant,
        names: frozenset[str] | None,
        more: tuple[Resource, ...] = (),
        removed: frozenset[str] = frozenset(),
    ) -> Body:
        """The response with the resources of these names that exist (None: all) and with `more`."""
        key = (variant, names, more, removed)
        body = self._bodies.get(key)
        if body is None:
            if len(self._bodies) >= MAX_CACHED:
                self._bodies.clear()
            wanted = sorted(self.resources if names is None else names & self.resources.keys())
            held = (*(self.resources[name] for name in wanted), *more)
            body = self._bodies[key] = Body.of(variant, self.kind, held, removed)
        return body


Scope = tuple[ResourceType, str]


class Snapshot:
    """All rows of a worker. `synced` says that every row has been seen once."""

    def __init__(self) -> None:
        self.synced = False
        self._collections: dict[Scope, Collection] = {}

    def collection(self, kind: ResourceType, scope: str) -> Collection:
        """The resources of that type and scope, an empty collection where there are none."""
        return self._collections.get((kind, scope)) or Collection(kind)

    def apply(
        self, rows: Iterable[tuple[str, bytes | None]]
    ) -> tuple[dict[Scope, set[str]], list[tuple[Scope, Resource]]]:
        """Takes changed rows (None: gone); returns changed names by scope, and what was removed.

        A key that cannot be read harms no other: it is logged and left out.
        """
        changed: dict[Scope, set[str]] = {}
        removed: list[tuple[Scope, Resource]] = []
        for key, value in rows:
            try:
                row = Row.parse(key)
            except ValueError as error:
                log.error("xds row unreadable", key=key[:200], reason=str(error))
                continue
            scope = (row.type, row.scope)
            if value is not None:
                collection = self._collections.setdefault(scope, Collection(row.type))
                if collection.put(row.name, value):
                    changed.setdefault(scope, set()).add(row.name)
            elif scope in self._collections:
                resource = self._collections[scope].drop(row.name)
                if resource is not None:
                    changed.setdefault(scope, set()).add(row.name)
                    removed.append((scope, resource))
                if not self._collections[scope].resources:
                    del self._collections[scope]
        return changed, removed
