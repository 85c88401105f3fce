"""Field ownership: sets of leaf paths, who owns them, and the FieldsV1 form they are stored in.

A path is a tuple of FieldsV1 elements (`f:spec`, `k:{"port":80,"protocol":"TCP"}`, `v:"x"`). A manager is one
(name, operation, version, subresource). Invariant: a path with one value may have several owners; a changed
path has exactly the owner who changed it. Follows KEP-555 (server-side apply) and its merge rules.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from isthmus.apiserver.topology import Schema, always_there, child, element, granular, items

Path = tuple[str, ...]

_NOBODYS: frozenset[Path] = frozenset(
    ("f:metadata", f"f:{name}")
    for name in (
        "name", "namespace", "generateName", "creationTimestamp", "deletionTimestamp",
        "deletionGracePeriodSeconds", "uid", "generation", "managedFields", "resourceVersion", "selfLink",
    )
) | {(), ("f:apiVersion",), ("f:kind",), ("f:metadata",)}  # fmt: skip
"""Type, name and bookkeeping belong to the server or to nobody."""


class Manager(NamedTuple):
    """Who owns fields; `version` is empty for Apply, which owns across versions."""

    name: str
    operation: str
    version: str
    subresource: str


@dataclass(slots=True)
class Ownership:
    """What one manager owns, since when, and in which version it spoke last."""

    paths: set[Path] = field(default_factory=set)
    api_version: str = ""
    time: str = ""


Owners = dict[Manager, Ownership]


def load(managed: Iterable[dict[str, Any]]) -> Owners:
    """Owners of the `metadata.managedFields` of an object."""
    owners: Owners = {}
    for entry in managed:
        operation, version = entry.get("operation", ""), entry.get("apiVersion", "")
        spoken = "" if operation == "Apply" else version
        manager = Manager(entry.get("manager", ""), operation, spoken, entry.get("subresource", ""))
        owners[manager] = Ownership(decode(entry.get("fieldsV1") or {}), version, entry.get("time", ""))
    return owners


def dump(owners: Owners) -> list[dict[str, Any]]:
    """The `metadata.managedFields` of owners, oldest first; managers that own nothing are left out."""
    managed: list[dict[str, Any]] = []
    for manager, owned in sorted(owners.items(), key=lambda row: (row[0].operation, row[1].time, row[0])):
        if not owned.paths:
            continue
        entry = {
            "manager": manager.name,
            "operation": manager.operation,
            "apiVersion": owned.api_version,
            "time": owned.time,
            "fieldsType": "FieldsV1",
            "fieldsV1": encode(owned.paths),
        }
        if manager.subresource:
            entry["subresource"] = manager.subresource
        managed.append(entry)
    return managed


def encode(paths: Iterable[Path]) -> dict[str, Any]:
    """FieldsV1 of a set of paths: a trie; "." marks an inner node that is itself in the set."""
    root: dict[str, Any] = {}
    for path in sorted(paths):
        node = root
        for step in path[:-1]:
            if step not in node:
                node[step] = {}
            elif not node[step]:
                node[step]["."] = {}
            node = node[step]
        if node.get(path[-1]):
            node[path[-1]]["."] = {}
        else:
            node[path[-1]] = {}
    return root


def decode(fields: dict[str, Any]) -> set[Path]:
    """Paths of a FieldsV1 trie."""
    found: set[Path] = set()

    def walk(node: dict[str, Any], path: Path) -> None:
        for step, below in node.items():
            if step == ".":
                found.add(path)
            elif isinstance(below, dict) and below:
                walk(below, (*path, step))
            else:
                found.add((*path, step))

    walk(fields, ())
    return found


def field_set(value: Any, schema: Schema, path: Path = ()) -> set[Path]:
    """Leaf paths of a value; items of keyed lists and of declared maps count themselves too."""
    if not granular(value, schema) or not value:
        return {path}
    found: set[Path] = set()
    if isinstance(value, dict):
        declared = schema.get("properties") or ()
        for name, member in value.items():
            found |= field_set(member, child(schema, name), (*path, f"f:{name}"))
            if "additionalProperties" in schema and name not in declared:
                found.add((*path, f"f:{name}"))
        return found
    for item in value:
        here = (*path, element(item, schema))
        found.add(here)
        if schema.get("x-kubernetes-list-type") == "map":
            found |= field_set(item, items(schema), here)
    return found


def grown_set(value: Any, schema: Schema, path: Path = ()) -> set[Path]:
    """Leaf paths of a value that has come or gone, with the maps and lists that came or went with it."""
    if not granular(value, schema) or not value:
        return {path}
    found = set() if always_there(schema) else {path}
    if isinstance(value, dict):
        for name, member in value.items():
            if member is None:
                continue
            found |= grown_set(member, child(schema, name), (*path, f"f:{name}"))
        return found
    for item in value:
        here = (*path, element(item, schema))
        found.add(here)
        if schema.get("x-kubernetes-list-type") == "map":
            found |= grown_set(item, items(schema), here)
    return found


def ownable(paths: set[Path]) -> set[Path]:
    """Without identity fields, which nobody owns."""
    return {path for path in paths if path not in _NOBODYS and path[:2] not in _NOBODYS}


class Change(NamedTuple):
    """Leaf paths that are new or have another value, and those that are gone."""

    changed: set[Path]
    removed: set[Path]


def diff(old: Any, new: Any, schema: Schema) -> Change:
    """What changed between two objects, without identity fields."""
    change = Change(set(), set())
    _compare(old, new, schema, (), change)
    return Change(ownable(change.changed), ownable(change.removed))


def _compare(old: Any, new: Any, schema: Schema, path: Path, change: Change) -> None:
    if type(old) is type(new) and old == new:
        return
    if not (granular(old, schema) and granular(new, schema) and type(old) is type(new)):
        after_all = grown_set(new, schema, path)
        change.changed.update(after_all)
        change.removed.update(grown_set(old, schema, path) - after_all)
        return
    before, after = _parts(old, schema), _parts(new, schema)
    for step, (member, below) in after.items():
        here = (*path, step)
        if step not in before:
            change.changed.update({here} if step.startswith("v:") else grown_set(member, below, here))
        elif not step.startswith("v:"):
            _compare(before[step][0], member, below, here, change)
    for step, (member, below) in before.items():
        if step not in after:
            here = (*path, step)
            change.removed.update({here} if step.startswith("v:") else grown_set(member, below, here))


def _parts(value: Any, schema: Schema) -> dict[str, tuple[Any, Schema]]:
    """The members of a map or the items of a list by path element, with their schemas; null is absent."""
    if isinstance(value, dict):
        return {
            f"f:{name}": (member, child(schema, name)) for name, member in value.items() if member is not None
        }
    return {element(item, schema): (item, items(schema)) for item in value}


def after_update(owners: Owners, manager: Manager, change: Change, api_version: str, now: str) -> None:
    """Give what changed to the manager who changed it, and take it from everybody else, in place."""
    if not change.changed and not change.removed:
        return
    for other, owned in owners.items():
        if other != manager:
            owned.paths -= change.changed
            owned.paths -= change.removed
    mine = owners.setdefault(manager, Ownership())
    paths = (mine.paths | change.changed) - change.removed
    if paths != mine.paths or change.changed:
        owners[manager] = Ownership(paths, api_version, now)


def strip(value: dict[str, Any]) -> dict[str, Any]:
    """An object without its bookkeeping, for asking whether a write changes anything."""
    meta = {
        key: item
        for key, item in value["metadata"].items()
        if key not in ("managedFields", "resourceVersion")
    }
    return {**value, "metadata": meta}


def parse_element(step: str) -> Any:
    """The key fields of a `k:` element or the value of a `v:` element."""
    return msgspec.json.decode(step[2:].encode())
