"""Objects as plain dicts, for those who compare and apply them.

Invariant: `metadata.managedFields` is not kept unless asked for (it is often half of an object), and
`apiVersion` and `kind` are always there, although a list leaves them out of its items.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec

from isthmus.api.meta import Kind, ObjectMeta, Struct
from isthmus.kube.packing import deflate, inflate

T = TypeVar("T")

RawObject = dict[str, Any]
"""A Kubernetes object as it stands on the wire."""

Packed = bytes
"""A packed object (see `packing`), for tables that hold thousands."""


class Head(Struct, frozen=True):
    """The part of any object that says which one it is."""

    metadata: ObjectMeta = ObjectMeta()


head_of = msgspec.json.Decoder(Head).decode

_OBJECT = msgspec.json.Decoder(dict[str, Any])


def raw(
    kind: Kind[Any],
    keep: Callable[[RawObject], RawObject] | None = None,
    *,
    managed_fields: bool = False,
) -> Kind[RawObject]:
    """The same kind with objects as dicts; `keep` reduces an object to what its reader needs."""
    made: Kind[RawObject] = Kind(
        kind.group, kind.version, kind.kind, kind.plural, kind.namespaced, dict[str, Any]
    )
    api_version, name = kind.api_version, kind.kind

    def decode(data: Any) -> RawObject:
        found = _OBJECT.decode(data)
        metadata = found.get("metadata")
        if not isinstance(metadata, dict):
            raise msgspec.ValidationError("Expected `object` - at `$.metadata`")
        if not managed_fields:
            metadata.pop("managedFields", None)
        found.setdefault("apiVersion", api_version)
        found.setdefault("kind", name)
        return keep(found) if keep is not None else found

    made.decode = decode
    return made


def pack(found: Mapping[str, Any]) -> Packed:
    """The object packed; equal objects whose fields come in the same order give equal bytes."""
    return deflate(msgspec.json.encode(found))


def unpack(row: RawObject | Packed) -> RawObject:
    """The object of a table's row, whether or not the table packs its rows."""
    return _OBJECT.decode(inflate(row)) if isinstance(row, bytes) else row


def packed(kind: Kind[Any], keep: Callable[[RawObject], RawObject] | None = None) -> Kind[Packed]:
    """As `raw`, with packed objects."""
    made: Kind[Packed] = Kind(kind.group, kind.version, kind.kind, kind.plural, kind.namespaced, bytes)
    decode = raw(kind, keep).decode
    made.decode = lambda data: pack(decode(data))
    return made


def compact(kind: Kind[T]) -> Kind[Packed]:
    """The same kind, its objects packed with what their type knows of them and nothing else; see `opened`."""
    made: Kind[Packed] = Kind(kind.group, kind.version, kind.kind, kind.plural, kind.namespaced, bytes)
    made.decode = lambda data: deflate(msgspec.json.encode(kind.decode(data)))
    return made


def opened(kind: Kind[T], row: T | Packed) -> T:
    """The object of a row, whether or not its table is compact."""
    return kind.decode(inflate(row)) if isinstance(row, bytes) else row


def status_only(found: RawObject) -> RawObject:
    """For `raw`: an object's identity and status, without the spec that others wrote."""
    metadata: Mapping[str, Any] = found["metadata"]
    kept: RawObject = {part: found[part] for part in ("apiVersion", "kind", "status") if part in found}
    names = ("name", "namespace", "uid", "generation", "labels", "deletionTimestamp")
    kept["metadata"] = {part: metadata[part] for part in names if part in metadata}
    return kept
