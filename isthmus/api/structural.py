"""JSON Schemas as pydantic and msgspec write them become structural schemas for CRDs.

Invariant: every level of the result has a type, and nothing of it is a reference, a union with null, a
default or a title (Kubernetes, "Specifying a structural schema"). Unknown fields are pruned by the API
server, so `additionalProperties: false` is dropped as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Schema = dict[str, Any]

_KEPT = (
    "description",
    "type",
    "format",
    "enum",
    "pattern",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-validations",
)
_INT32_MAX = 2_147_483_647


def structural(schema: Mapping[str, Any]) -> Schema:
    """The structural form of a whole JSON Schema document (with its `$defs`).

    Raises ValueError for what a structural schema cannot say: unions other than with null, recursion.
    """
    return _convert(schema, schema.get("$defs", {}), ())


def bounded(schema: Schema, bounds: Mapping[str, Schema]) -> Schema:
    """The same schema with more keywords at dotted paths of properties (`ports.name` steps into the list).

    Raises KeyError for a path that is not in the schema.
    """
    result = dict(schema)
    for path, keywords in bounds.items():
        result = _at(result, path.split("."), keywords)
    return result


def _at(schema: Schema, path: list[str], keywords: Schema) -> Schema:
    if not path:
        return {**schema, **keywords}
    if schema["type"] == "array":
        return {**schema, "items": _at(schema["items"], path, keywords)}
    name, *rest = path
    properties = schema["properties"]
    return {**schema, "properties": {**properties, name: _at(properties[name], rest, keywords)}}


def _convert(schema: Mapping[str, Any], defs: Mapping[str, Any], within: tuple[str, ...]) -> Schema:
    found, within = _resolve(schema, defs, within)
    result: Schema = {key: found[key] for key in _KEPT if key in found}
    if "const" in found:
        result["enum"] = [found["const"]]
    if "type" not in result:
        raise ValueError(f"no type in the schema of {'/'.join(within)}: {sorted(found)}")
    match result["type"]:
        case "object":
            _convert_object(found, result, defs, within)
        case "array":
            result["items"] = _convert(found["items"], defs, within)
        case "integer":
            bound = max(abs(found.get("minimum", 0)), abs(found.get("maximum", _INT32_MAX + 1)))
            result["format"] = "int32" if bound <= _INT32_MAX else "int64"
        case _:
            pass
    return result


def _convert_object(
    found: Mapping[str, Any], result: Schema, defs: Mapping[str, Any], within: tuple[str, ...]
) -> None:
    if "properties" in found:
        result["properties"] = {
            name: _convert(part, defs, (*within, name)) for name, part in found["properties"].items()
        }
        if found.get("required"):
            result["required"] = sorted(found["required"])
        return
    values = found.get("additionalProperties") or next(
        iter(found.get("patternProperties", {}).values()), None
    )
    if isinstance(values, Mapping):
        result["additionalProperties"] = _convert(values, defs, within)


def _resolve(
    schema: Mapping[str, Any], defs: Mapping[str, Any], within: tuple[str, ...]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Follow references and unions with null; what stands beside them wins over what they bring."""
    found = dict(schema)
    while True:
        if "$ref" in found:
            name = found.pop("$ref").removeprefix("#/$defs/")
            if name in within:
                raise ValueError(f"recursive schema: {'/'.join((*within, name))}")
            within = (*within, name)
            found = {**defs[name], **found}
        elif "anyOf" in found:
            choices = [choice for choice in found.pop("anyOf") if choice.get("type") != "null"]
            if len(choices) != 1:
                raise ValueError(f"union in the schema of {'/'.join(within)}")
            found = {**choices[0], **found}
        elif "allOf" in found and len(found["allOf"]) == 1:
            found = {**found.pop("allOf")[0], **found}
        else:
            return found, within
