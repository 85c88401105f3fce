"""CustomResourceDefinitions: what they must say, the status they get, and the resources they make.

Follows apiextensions.k8s.io/v1: structural schemas only, exactly one storage version, conversion strategy
None. A definition that is stored is served at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from isthmus.apiserver import rules, status
from isthmus.apiserver.resources import Resource
from isthmus.apiserver.status import Cause
from isthmus.apiserver.topology import with_metadata
from isthmus.apiserver.values import valid_pattern

Object = dict[str, Any]
CLEANUP = "customresourcecleanup.apiextensions.k8s.io"
_KEYWORDS: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("type", "pattern", "format", "x-kubernetes-list-type", "x-kubernetes-map-type"), str),
    **dict.fromkeys(("required", "enum", "allOf", "anyOf", "oneOf", "x-kubernetes-list-map-keys"), list),
    rules.KEYWORD: list,
    **dict.fromkeys(("properties", "items"), dict),
    **dict.fromkeys(
        ("maxLength", "minLength", "maxItems", "minItems", "maxProperties", "minProperties"), int
    ),
    **dict.fromkeys(("minimum", "maximum", "multipleOf"), (int, float)),
    "additionalProperties": (dict, bool),
}
_STRING_LISTS = ("required", "x-kubernetes-list-map-keys")
_TYPES = ("array", "boolean", "integer", "number", "object", "string")


def fill(crd: Object) -> None:
    """Defaults of the names and of conversion."""
    spec = crd.get("spec") or {}
    missing = [status.required(f"spec.{name}") for name in ("names", "versions") if not spec.get(name)]
    if missing:
        raise status.invalid("apiextensions.k8s.io", crd["kind"], crd["metadata"].get("name", ""), missing)
    names = spec["names"]
    if "kind" in names:
        names.setdefault("singular", names["kind"].lower())
        names.setdefault("listKind", names["kind"] + "List")
    spec.setdefault("conversion", {"strategy": "None"})
    finalizers = crd["metadata"].setdefault("finalizers", [])
    if CLEANUP not in finalizers and "deletionTimestamp" not in crd["metadata"]:
        finalizers.append(CLEANUP)


def validate(crd: Object, old: Object | None) -> list[Cause]:
    """Violations in a definition; group, scope and kind never change."""
    spec = crd["spec"]
    names = spec["names"]
    causes = [
        status.required(f"spec.{path}")
        for path, value in (
            ("group", spec.get("group")),
            ("names.plural", names.get("plural")),
            ("names.kind", names.get("kind")),
            ("versions", spec["versions"]),
        )
        if not value
    ]
    if causes:
        return causes
    wanted = f"{names['plural']}.{spec['group']}"
    if crd["metadata"].get("name") != wanted:
        why = f'must be spec.names.plural+"."+spec.group ({wanted})'
        causes.append(status.invalid_value("metadata.name", crd["metadata"].get("name"), why))
    if spec.get("scope") not in ("Cluster", "Namespaced"):
        causes.append(status.unsupported("spec.scope", spec.get("scope"), ("Cluster", "Namespaced")))
    if spec["conversion"].get("strategy") != "None":
        strategy = spec["conversion"].get("strategy")
        causes.append(status.unsupported("spec.conversion.strategy", strategy, ("None",)))
    versions = [each.get("name") for each in spec["versions"]]
    if len(set(versions)) != len(versions):
        causes.append(status.invalid_value("spec.versions", versions, "must contain unique version names"))
    if sum(each.get("storage") is True for each in spec["versions"]) != 1:
        why = "must have exactly one version marked as storage version"
        causes.append(status.invalid_value("spec.versions", versions, why))
    for index, version in enumerate(spec["versions"]):
        causes += _version(version, f"spec.versions[{index}]")
    if old is not None:
        causes += _immutable(spec, old["spec"])
    return causes


def _immutable(spec: Object, before: Object) -> Iterator[Cause]:
    for path, now, then in (
        ("spec.group", spec["group"], before["group"]),
        ("spec.scope", spec["scope"], before["scope"]),
        ("spec.names.kind", spec["names"]["kind"], before["names"]["kind"]),
        ("spec.names.plural", spec["names"]["plural"], before["names"]["plural"]),
    ):
        if now != then:
            yield status.invalid_value(path, now, "field is immutable")


def _version(version: Object, path: str) -> list[Cause]:
    if not isinstance(version.get("name"), str):
        return [status.required(f"{path}.name")]
    schema = (version.get("schema") or {}).get("openAPIV3Schema")
    if not isinstance(schema, dict):
        return [status.required(f"{path}.schema.openAPIV3Schema", "schemas are required")]
    here = f"{path}.schema.openAPIV3Schema"
    causes = list(structural(schema, here))
    if schema.get("type") != "object":
        causes.append(status.invalid_value(f"{here}.type", schema.get("type"), "must be object at the root"))
    return causes


def structural(schema: Any, path: str, *, typed: bool = True) -> Iterator[Cause]:
    """Violations of the structural schema rules; inside logical junctors no type may be given."""
    _check_keywords(schema, path)
    kind = schema.get("type")
    loose = schema.get("x-kubernetes-int-or-string") or schema.get("x-kubernetes-preserve-unknown-fields")
    if typed and not kind and not loose:
        yield status.required(f"{path}.type", "must not be empty for specified object fields")
    if kind and kind not in _TYPES:
        yield status.unsupported(f"{path}.type", kind, _TYPES)
    if "pattern" in schema and not valid_pattern(schema["pattern"]):
        yield status.invalid_value(f"{path}.pattern", schema["pattern"], "must be a valid regular expression")
    if schema.get("properties") and schema.get("additionalProperties"):
        yield status.forbidden_field(
            f"{path}.additionalProperties", "additionalProperties and properties exclude each other"
        )
    if kind == "array" and "items" not in schema and typed:
        yield status.required(f"{path}.items", "must be specified")
    yield from _list_map(schema, path)
    yield from rules.refusals(schema, path)
    for name, child in (schema.get("properties") or {}).items():
        yield from structural(child, f"{path}.properties[{name}]", typed=typed)
    for name in ("items", "additionalProperties", "not"):
        if isinstance(schema.get(name), dict):
            yield from structural(schema[name], f"{path}.{name}", typed=typed and name != "not")
    for name in ("allOf", "anyOf", "oneOf"):
        for index, part in enumerate(schema.get(name) or ()):
            here = f"{path}.{name}[{index}]"
            if isinstance(part, dict) and part.get("type") and not schema.get("x-kubernetes-int-or-string"):
                yield status.forbidden_field(f"{here}.type", "must be empty to be structural")
            yield from structural(part, here, typed=False)


def _check_keywords(schema: Any, path: str) -> None:
    """400 where a schema or one of its keywords has the wrong type."""
    if not isinstance(schema, dict):
        raise status.bad_request(f"{path} must be a schema")
    for name, wanted in _KEYWORDS.items():
        given = schema.get(name)
        if given is None:
            continue
        wrong = not isinstance(given, wanted)
        if not wrong and name in _STRING_LISTS:
            wrong = any(not isinstance(each, str) for each in schema[name])
        if wrong:
            raise status.bad_request(f"{path}.{name} has the wrong type")


def _list_map(schema: Object, path: str) -> Iterator[Cause]:
    """Keys of a keyed list must be declared, and required or defaulted."""
    kind = schema.get("x-kubernetes-list-type")
    if kind not in (None, "atomic", "map", "set"):
        yield status.unsupported(f"{path}.x-kubernetes-list-type", kind, ("atomic", "map", "set"))
    if kind != "map":
        return
    keys = schema.get("x-kubernetes-list-map-keys") or []
    if not keys:
        why = "must not be empty if x-kubernetes-list-type is map"
        yield status.required(f"{path}.x-kubernetes-list-map-keys", why)
    items = schema.get("items") or {}
    for index, key in enumerate(keys):
        declared = (items.get("properties") or {}).get(key)
        if declared is None:
            why = "entries must all be names of item properties"
            yield status.invalid_value(f"{path}.x-kubernetes-list-map-keys[{index}]", key, why)
        elif key not in (items.get("required") or ()) and "default" not in declared:
            why = "this property is a list map key, so it must have a default or be a required property"
            yield status.required(f"{path}.items.properties[{key}].default", why)


def settle(crd: Object, old: Object | None, now: str) -> None:
    """The status the server gives: accepted names, conditions, stored versions."""
    spec = crd["spec"]
    before = (old or {}).get("status") or {}
    times = {each.get("type"): each.get("lastTransitionTime", now) for each in before.get("conditions") or ()}
    conditions = [
        ("NamesAccepted", "NoConflicts", "no conflicts found"),
        ("Established", "InitialNamesAccepted", "the initial names have been accepted"),
    ]
    storage = next(each["name"] for each in spec["versions"] if each.get("storage"))
    stored = list(before.get("storedVersions") or ())
    crd["status"] = {
        "acceptedNames": spec["names"],
        "conditions": [
            {
                "type": kind,
                "status": "True",
                "lastTransitionTime": times.get(kind, now),
                "reason": reason,
                "message": message,
            }
            for kind, reason, message in conditions
        ],
        "storedVersions": stored if storage in stored else [*stored, storage],
    }


def resources(crd: Object) -> list[Resource]:
    """The served versions of a definition."""
    spec = crd["spec"]
    names = spec["names"]
    storage = next(each["name"] for each in spec["versions"] if each.get("storage"))
    return [
        Resource(
            group=spec["group"],
            version=version["name"],
            kind=names["kind"],
            plural=names["plural"],
            singular=names["singular"],
            short_names=tuple(names.get("shortNames") or ()),
            categories=tuple(names.get("categories") or ()),
            list_kind=names["listKind"],
            namespaced=spec["scope"] == "Namespaced",
            storage_version=storage,
            status="status" in (version.get("subresources") or {}),
            generation=True,
            unconditional=False,
            custom=True,
            schema=with_metadata(version["schema"]["openAPIV3Schema"]),
        )
        for version in spec["versions"]
        if version.get("served")
    ]
