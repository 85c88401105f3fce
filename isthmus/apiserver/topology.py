"""Which parts of an object have one owner and which are merged: lists by key, sets, atomic maps.

One vocabulary serves built-in kinds and custom resources: the `x-kubernetes-list-type`, `-list-map-keys` and
`-map-type` keywords of structural schemas, plus `x-kubernetes-patch-merge-key` for strategic merge patches.
A list without hints is atomic, a map without hints is granular.
"""

from __future__ import annotations

from typing import Any

from isthmus.apiserver.status import show

Schema = dict[str, Any]
ANYTHING: Schema = {}


STRINGS: Schema = {"type": "object", "additionalProperties": {"type": "string"}}
STRING_SET: Schema = {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}}


_STRUCT = "x-isthmus-struct"


def obj(**properties: Schema) -> Schema:
    """A struct of a built-in kind: its parts come and go, it is always there itself."""
    return {"type": "object", "properties": properties, _STRUCT: True}


def always_there(schema: Schema) -> bool:
    """Whether the value itself belongs to nobody, only its parts do."""
    return _STRUCT in schema


def listmap(*keys: str, merge_key: str = "", **properties: Schema) -> Schema:
    """A list whose items are told apart by the fields `keys`."""
    return {
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": list(keys),
        "x-kubernetes-patch-merge-key": merge_key or keys[0],
        "items": {"type": "object", "properties": properties},
    }


METADATA: Schema = obj(
    labels=STRINGS, annotations=STRINGS, finalizers=STRING_SET, ownerReferences=listmap("uid")
)


def with_metadata(schema: Schema) -> Schema:
    """The schema of a whole object: the kind's own, with the topology of metadata."""
    return {**schema, "properties": {**(schema.get("properties") or {}), "metadata": METADATA}}


def child(schema: Schema, name: str) -> Schema:
    properties = schema.get("properties")
    if properties and name in properties:
        found: Schema = properties[name]
        return found
    extra = schema.get("additionalProperties")
    return extra if isinstance(extra, dict) else ANYTHING


def items(schema: Schema) -> Schema:
    found = schema.get("items")
    return found if isinstance(found, dict) else ANYTHING


def granular(value: object, schema: Schema) -> bool:
    """Whether parts of this value can have different owners."""
    if isinstance(value, dict):
        return schema.get("x-kubernetes-map-type") != "atomic"
    return isinstance(value, list) and schema.get("x-kubernetes-list-type") in ("map", "set")


def element(item: Any, schema: Schema) -> str:
    """The path element of an item of a keyed list (`k:{...}`) or set (`v:...`), as FieldsV1 writes it."""
    if schema.get("x-kubernetes-list-type") != "map" or not isinstance(item, dict):
        return "v:" + show(item)
    item_schema = items(schema)
    key: dict[str, Any] = {}
    for name in sorted(schema.get("x-kubernetes-list-map-keys") or ()):
        if name in item:
            key[name] = item[name]
        elif "default" in (declared := child(item_schema, name)):
            key[name] = declared["default"]
    return "k:" + show(key)
