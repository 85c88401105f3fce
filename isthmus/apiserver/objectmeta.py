"""metadata: names, stamps and the rules every object obeys (k8s.io/apimachinery meta/v1 and
api/validation).

Invariant: what the server owns (uid, creationTimestamp, generation, deletionTimestamp, managedFields) never
comes from a client.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from isthmus.apiserver import status
from isthmus.apiserver.apply import without_nulls
from isthmus.apiserver.resources import NameRule, Resource
from isthmus.apiserver.status import Cause, bad_request

Object = dict[str, Any]

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_LABEL_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_QUALIFIED = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_ANNOTATIONS_LIMIT = 256 * 1024
_SERVER_OWNED = (
    "uid", "creationTimestamp", "generation", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink",
)  # fmt: skip
_RULES: dict[NameRule, tuple[re.Pattern[str], int, str]] = {
    "subdomain": (
        _SUBDOMAIN,
        253,
        "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', "
        "and must start and end with an alphanumeric character",
    ),
    "label": (
        _LABEL,
        63,
        "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must "
        "start and end with an alphanumeric character",
    ),
    "label1035": (
        _LABEL_1035,
        63,
        "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an "
        "alphabetic character, and end with an alphanumeric character",
    ),
}


def check_envelope(given: Any, resource: Resource) -> Object:
    """The body as an object of this resource, type and metadata filled in; 400 where it cannot be one."""
    if not isinstance(given, dict):
        raise bad_request("the object provided is not a JSON object")
    body: Object = given if resource.custom else without_nulls(given)
    for name, wanted in (("kind", resource.kind), ("apiVersion", resource.api_version)):
        said = body.get(name)
        if not said and resource.custom:
            raise bad_request(f"Object '{name[0].upper() + name[1:]}' is missing in the body of the request")
        if said and said != wanted:
            raise bad_request(
                f"the {name} in the data ({said}) does not match the expected {name} ({wanted})"
            )
        body[name] = wanted
    meta = body.get("metadata")
    if meta is None:
        body["metadata"] = {}
    elif not isinstance(meta, dict):
        raise bad_request("metadata must be an object")
    _check_shape(body["metadata"])
    return body


def _check_shape(meta: Object) -> None:
    """Types of the metadata fields; nulls count as absent."""
    for name in [name for name, value in meta.items() if value is None]:
        del meta[name]
    for name in ("name", "namespace", "generateName", "uid", "resourceVersion"):
        if not isinstance(meta.get(name, ""), str):
            raise bad_request(f"metadata.{name} must be a string")
    for name in ("labels", "annotations"):
        given = meta.get(name, {})
        if not isinstance(given, dict) or not all(isinstance(value, str) for value in given.values()):
            raise bad_request(f"metadata.{name} must be a map of strings to strings")
    for name, kind in (("finalizers", str), ("ownerReferences", dict), ("managedFields", dict)):
        given = meta.get(name, [])
        if not isinstance(given, list) or not all(isinstance(item, kind) for item in given):
            raise bad_request(f"metadata.{name} has the wrong type")
    for name in ("labels", "annotations", "finalizers", "ownerReferences"):
        if name in meta and not meta[name]:
            del meta[name]


def check_place(meta: Object, resource: Resource, namespace: str, name: str) -> None:
    """Name and namespace of the body must be those of the URL; absent ones are filled in."""
    if name and meta.setdefault("name", name) != name:
        raise bad_request(
            f"the name of the object ({meta['name']}) does not match the name on the URL ({name})"
        )
    if not resource.namespaced:
        if meta.get("namespace"):
            raise bad_request("namespace may not be set on a cluster-scoped object")
        meta.pop("namespace", None)
    elif meta.setdefault("namespace", namespace) != namespace:
        raise bad_request(
            "the namespace of the provided object does not match the namespace sent on the request"
        )


def stamp(obj: Object, resource: Resource, *, uid: str, now: str, suffix: Callable[[], str]) -> None:
    """Give a new object its identity; a generateName gets `suffix()` behind it."""
    meta = obj["metadata"]
    for name in (*_SERVER_OWNED, "resourceVersion"):
        meta.pop(name, None)
    if not meta.get("name") and meta.get("generateName"):
        meta["name"] = meta["generateName"][: 63 - 5] + suffix()
    meta["uid"] = uid
    meta["creationTimestamp"] = now
    if resource.generation:
        meta["generation"] = 1


def carry(old: Object, new: Object) -> None:
    """Keep the server's own metadata across an update."""
    before, after = old["metadata"], new["metadata"]
    for name in _SERVER_OWNED:
        if name in before:
            after[name] = before[name]
        else:
            after.pop(name, None)
    if "generateName" in before:
        after["generateName"] = before["generateName"]


def validate(meta: Object, resource: Resource, *, old: Object | None = None) -> list[Cause]:
    """Violations in metadata; `old` is the metadata before, for an update."""
    causes: list[Cause] = []
    if not meta.get("name"):
        causes.append(status.required("metadata.name", "name or generateName is required"))
    elif old is None:
        pattern, limit, text = _RULES[resource.name_rule]
        if len(meta["name"]) > limit:
            causes.append(
                status.invalid_value("metadata.name", meta["name"], f"must be no more than {limit} bytes")
            )
        elif pattern.fullmatch(meta["name"]) is None:
            causes.append(status.invalid_value("metadata.name", meta["name"], text))
    causes += _labels(meta.get("labels") or {})
    annotations = meta.get("annotations") or {}
    causes += [cause for key in annotations if (cause := _qualified("metadata.annotations", key.lower()))]
    if sum(len(key) + len(value) for key, value in annotations.items()) > _ANNOTATIONS_LIMIT:
        causes.append(status.too_long("metadata.annotations", _ANNOTATIONS_LIMIT))
    for finalizer in meta.get("finalizers") or ():
        if cause := _qualified("metadata.finalizers", finalizer):
            causes.append(cause)
    if old is not None and "deletionTimestamp" in old:
        added = sorted(set(meta.get("finalizers") or ()) - set(old.get("finalizers") or ()))
        if added:
            why = (
                f"no new finalizers can be added if the object is being deleted, found new finalizers {added}"
            )
            causes.append(status.forbidden_field("metadata.finalizers", why))
    return causes + _owners(meta.get("ownerReferences") or [])


def _labels(labels: dict[str, str]) -> list[Cause]:
    causes = [cause for key in labels if (cause := _qualified("metadata.labels", key))]
    for value in labels.values():
        if len(value) > 63:
            causes.append(status.invalid_value("metadata.labels", value, "must be no more than 63 bytes"))
        elif value and _QUALIFIED.fullmatch(value) is None:
            why = (
                "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or "
                "'.', and must start and end with an alphanumeric character"
            )
            causes.append(status.invalid_value("metadata.labels", value, why))
    return causes


def _qualified(field: str, key: str) -> Cause | None:
    prefix, slash, name = key.rpartition("/")
    if slash and (not prefix or len(prefix) > 253 or _SUBDOMAIN.fullmatch(prefix) is None):
        return status.invalid_value(field, key, "prefix part must be a lowercase RFC 1123 subdomain")
    if not name or len(name) > 63 or _QUALIFIED.fullmatch(name) is None:
        return status.invalid_value(
            field, key, "name part must be 1 to 63 alphanumeric characters, '-', '_' or '.'"
        )
    return None


def _owners(references: list[Object]) -> list[Cause]:
    causes: list[Cause] = []
    controllers = 0
    for index, reference in enumerate(references):
        causes += [
            status.required(f"metadata.ownerReferences[{index}].{name}", "must not be empty")
            for name in ("apiVersion", "kind", "name", "uid")
            if not isinstance(reference.get(name), str) or not reference[name]
        ]
        controllers += reference.get("controller") is True
    if controllers > 1:
        text = "Only one reference can have Controller set to true"
        causes.append(status.invalid_value("metadata.ownerReferences", controllers, text))
    return causes
