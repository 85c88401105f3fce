"""Object metadata, conditions, lists and watch events (k8s.io/apimachinery meta/v1)."""

from __future__ import annotations

from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

T = TypeVar("T")


class ObjectKey(NamedTuple):
    """Namespace ("" for cluster scope) and name."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


class Struct(msgspec.Struct, rename="camel", omit_defaults=True, frozen=True, kw_only=True, gc=False):
    """Base of all streamed kinds."""


class OwnerReference(Struct, frozen=True):
    api_version: str = ""
    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool = False


class ObjectMeta(Struct, frozen=True):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str = ""
    deletion_timestamp: str | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    finalizers: tuple[str, ...] = ()
    owner_references: tuple[OwnerReference, ...] = ()

    @property
    def key(self) -> ObjectKey:
        return ObjectKey(self.namespace, self.name)


class Condition(Struct, frozen=True):
    type: str
    status: str
    reason: str = ""
    message: str = ""
    last_transition_time: str = ""
    observed_generation: int = 0


class Object(Struct, frozen=True):
    """Any object of which only the metadata matters."""

    api_version: str = ""
    kind: str = ""
    metadata: ObjectMeta = ObjectMeta()


class ListMeta(Struct, frozen=True):
    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")
    remaining_item_count: int | None = None


class RawList(Struct, frozen=True):
    """One page of a list; items are decoded one by one, so that a malformed one harms no other."""

    metadata: ListMeta = ListMeta()
    items: list[msgspec.Raw] = []


class RawEvent(Struct, frozen=True):
    """One line of a watch: type ADDED, MODIFIED, DELETED, BOOKMARK or ERROR."""

    type: str
    object: msgspec.Raw


class Status(Struct, frozen=True):
    """metav1.Status, the body of every error."""

    message: str = ""
    reason: str = ""
    code: int = 0
    details: dict[str, Any] = {}


class Kind(Generic[T]):
    """Where a kind lives in the API and which type its objects decode to."""

    __slots__ = ("decode", "group", "kind", "namespaced", "plural", "type", "version")

    def __init__(
        self, group: str, version: str, kind: str, plural: str, namespaced: bool, type_: type[T]
    ) -> None:
        self.group = group
        self.version = version
        self.kind = kind
        self.plural = plural
        self.namespaced = namespaced
        self.type = type_
        self.decode = msgspec.json.Decoder(type_).decode

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """The URL path of the collection or object, beginning with `/api` or `/apis`."""
        parts = ["/apis", self.group, self.version] if self.group else ["/api", self.version]
        if namespace and self.namespaced:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        if name:
            parts.append(name)
        if subresource:
            parts.append(subresource)
        return "/".join(parts)

    def __repr__(self) -> str:
        return f"Kind({self.kind}.{self.group or 'core'}/{self.version})"
