"""Structural schemas of CustomResourceDefinitions: pruning, defaulting, validation.

Follows the apiextensions.k8s.io/v1 rules: unknown fields are pruned unless preserved, defaults apply to
absent fields, and every violation is a cause with the field's path, worded as the real server words it. Rules
in CEL (`x-kubernetes-validations`) are the business of `rules`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from isthmus.apiserver import status
from isthmus.apiserver.status import Cause
from isthmus.apiserver.values import check_value, matches_type, type_name

Schema = dict[str, Any]

_ROOT = ("apiVersion", "kind", "metadata")
_NOTHING: Schema = {}
_MAX_CAUSES = 100


def join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def prune(value: Any, schema: Schema, path: str = "", *, root: bool = True) -> list[str]:
    """Remove unknown fields in place; returns the paths that were removed."""
    removed: list[str] = []
    if isinstance(value, dict):
        properties: Schema = schema.get("properties") or _NOTHING
        extra = schema.get("additionalProperties")
        keep = schema.get("x-kubernetes-preserve-unknown-fields") or extra is True
        embedded = root or schema.get("x-kubernetes-embedded-resource")
        for key in list(value):
            if embedded and key in _ROOT:
                continue
            if key in properties:
                removed += prune(value[key], properties[key], join(path, key), root=False)
            elif isinstance(extra, dict):
                removed += prune(value[key], extra, join(path, key), root=False)
            elif not keep:
                del value[key]
                removed.append(join(path, key))
    elif isinstance(value, list) and isinstance(schema.get("items"), dict):
        for index, item in enumerate(value):
            removed += prune(item, schema["items"], f"{path}[{index}]", root=False)
    return removed


def default(value: Any, schema: Schema) -> None:
    """Fill absent fields that have a default, in place; null where null is not allowed counts as absent."""
    if isinstance(value, dict):
        properties: Schema = schema.get("properties") or _NOTHING
        for key, child in properties.items():
            if "default" in child and (
                key not in value or (value[key] is None and not child.get("nullable", False))
            ):
                value[key] = copy.deepcopy(child["default"])
            if key in value:
                default(value[key], child)
        extra = schema.get("additionalProperties")
        if isinstance(extra, dict):
            for key in value:
                if key not in properties:
                    default(value[key], extra)
    elif isinstance(value, list) and isinstance(schema.get("items"), dict):
        for item in value:
            default(item, schema["items"])


def validate(value: Any, schema: Schema) -> list[Cause]:
    """All violations of a schema by an object, at most 100, in the schema's order."""
    found: list[Cause] = []
    for cause in _violations(value, schema, ""):
        found.append(cause)
        if len(found) == _MAX_CAUSES:
            break
    return found


def _violations(value: Any, schema: Schema, path: str) -> Iterator[Cause]:
    if value is None and schema.get("nullable"):
        return
    wanted = "integer,string" if schema.get("x-kubernetes-int-or-string") else schema.get("type", "")
    if wanted and not matches_type(value, wanted):
        yield status.wrong_type(path, value, wanted, type_name(value))
        return
    yield from check_value(value, schema, path)
    if isinstance(value, dict):
        yield from _members(value, schema, path)
    elif isinstance(value, list):
        yield from _items(value, schema, path)
    yield from _combined(value, schema, path)


def _members(value: dict[str, Any], schema: Schema, path: str) -> Iterator[Cause]:
    for name in schema.get("required") or ():
        if name not in value:
            yield status.required(join(path, name))
    properties: Schema = schema.get("properties") or _NOTHING
    extra = schema.get("additionalProperties")
    for key, child in value.items():
        child_schema = properties.get(key, extra)
        if isinstance(child_schema, dict) and not (not path and key in _ROOT):
            yield from _violations(child, child_schema, join(path, key))


def _items(value: list[Any], schema: Schema, path: str) -> Iterator[Cause]:
    items = schema.get("items")
    kind = schema.get("x-kubernetes-list-type")
    names: list[str] = schema.get("x-kubernetes-list-map-keys") or []

    def key_of(item: Any) -> Any:
        if kind != "map" or not isinstance(item, dict):
            return item
        return {name: item[name] for name in names if name in item}

    seen: set[str] = set()
    for index, item in enumerate(value):
        here = f"{path}[{index}]"
        key = key_of(item)
        text = status.show(key) if kind in ("map", "set") else ""
        if isinstance(items, dict):
            yield from _violations(item, items, here)
        if kind in ("map", "set"):
            if text in seen:
                yield status.duplicate(here, key)
            seen.add(text)


def _combined(value: Any, schema: Schema, path: str) -> Iterator[Cause]:
    """allOf, anyOf, oneOf and not."""
    for part in schema.get("allOf") or ():
        yield from _violations(value, part, path)

    def holds(part: Schema) -> bool:
        return next(_violations(value, part, path), None) is None

    def broken(rule: str) -> Cause:
        return Cause("FieldValueInvalid", f'Invalid value: "{path}" {rule}', path or "<nil>")

    if (options := schema.get("anyOf")) and not any(map(holds, options)):
        yield broken("must validate at least one schema (anyOf)")
    if options := schema.get("oneOf"):
        count = sum(map(holds, options))
        if count != 1:
            which = "none valid" if count == 0 else f"{count} valid alternatives"
            yield broken(f"must validate one and only one schema (oneOf). Found {which}")
    if "not" in schema and holds(schema["not"]):
        yield broken("must not validate the schema (not)")
