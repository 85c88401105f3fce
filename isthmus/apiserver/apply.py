"""Server-side apply: merge an applied configuration into an object and settle who owns what (KEP-555).

Pure: takes the live object, the configuration and the owners; returns the merged object. Conflicts are fields
the configuration changes that another manager owns; `force` takes them over. Fields this manager applied
before and no longer applies are removed unless somebody else owns them.
"""

from __future__ import annotations

from typing import Any

from isthmus.apiserver.managedfields import (
    Manager,
    Owners,
    Ownership,
    Path,
    diff,
    field_set,
    ownable,
    parse_element,
)
from isthmus.apiserver.status import Cause, apply_conflict, show
from isthmus.apiserver.topology import Schema, child, element, granular, items


def apply(
    live: dict[str, Any],
    config: dict[str, Any],
    schema: Schema,
    owners: Owners,
    manager: Manager,
    *,
    api_version: str,
    force: bool,
    now: str,
) -> dict[str, Any]:
    """The merged object; `owners` is changed in place. Raises a 409 StatusError on unforced conflicts."""
    config = without_nulls(config)
    applied = ownable(field_set(config, schema))
    merged: dict[str, Any] = merge(live, config, schema)
    previous = owners.get(manager, Ownership())
    gone = previous.paths - applied
    for other, owned in owners.items():
        if other != manager:
            gone = gone - owned.paths
    kept = applied.union(*(owned.paths for other, owned in owners.items() if other != manager))
    merged = prune(merged, gone, kept, schema)
    change = diff(live, merged, schema)
    _settle(owners, manager, change.changed & applied, force=force)
    for other, owned in owners.items():
        if other != manager:
            owned.paths -= change.removed
    if applied != previous.paths or change.changed or change.removed or previous.api_version != api_version:
        owners[manager] = Ownership(applied, api_version, now)
    return merged


def _settle(owners: Owners, manager: Manager, changed: set[Path], *, force: bool) -> None:
    """Take changed fields from their other owners, or refuse."""
    contested = {other: owned.paths & changed for other, owned in owners.items() if other != manager}
    if not force:
        causes = [
            Cause("FieldManagerConflict", _conflict_text(other, owners[other]), display(path))
            for other, paths in sorted(contested.items())
            for path in sorted(paths)
        ]
        if causes:
            raise apply_conflict(causes)
    for other, paths in contested.items():
        owners[other].paths -= paths


def _conflict_text(other: Manager, owned: Ownership) -> str:
    where = f' with subresource "{other.subresource}"' if other.subresource else ""
    using = f" using {owned.api_version}" if other.operation == "Update" else ""
    return f'conflict with "{other.name}"{where}{using}'


def display(path: Path) -> str:
    """A path as people read it: `.spec.ports[port=80,protocol="TCP"].name`."""
    parts: list[str] = []
    for step in path:
        if step.startswith("f:"):
            parts.append("." + step[2:])
        elif step.startswith("k:"):
            keys = parse_element(step)
            parts.append("[" + ",".join(f"{name}={show(value)}" for name, value in keys.items()) + "]")
        else:
            parts.append(f"[={step[2:]}]")
    return "".join(parts)


def without_nulls(value: Any) -> Any:
    """A copy without null members: a configuration cannot own nothing."""
    if isinstance(value, dict):
        return {name: without_nulls(member) for name, member in value.items() if member is not None}
    if isinstance(value, list):
        return [without_nulls(item) for item in value]
    return value


def merge(live: Any, config: Any, schema: Schema) -> Any:
    """Configuration over live value: maps by name, keyed lists and sets by element, the rest replaced."""
    if not (granular(live, schema) and granular(config, schema) and type(live) is type(config)):
        return config
    if isinstance(live, dict):
        merged = dict(live)
        for name, member in config.items():
            merged[name] = merge(live[name], member, child(schema, name)) if name in live else member
        return merged
    wanted = {element(item, schema): item for item in config}
    result = []
    for item in live:
        step = element(item, schema)
        result.append(merge(item, wanted.pop(step), items(schema)) if step in wanted else item)
    return result + list(wanted.values())


def prune(value: Any, gone: set[Path], kept: set[Path], schema: Schema, path: Path = ()) -> Any:
    """Value without the paths in `gone`; a container left empty goes too unless somebody owns it."""
    touched = {
        known[: len(path) + 1] for known in gone if known[: len(path)] == path and len(known) > len(path)
    }
    if not touched:
        return value
    owned = {
        known[: len(path) + 1] for known in kept if known[: len(path)] == path and len(known) > len(path)
    }
    if isinstance(value, dict):
        result = dict(value)
        for name in value:
            here = (*path, f"f:{name}")
            if here in touched:
                _prune_member(result, name, value[name], here, gone, kept, here in owned, child(schema, name))
        return result
    if isinstance(value, list):
        left = []
        for item in value:
            here = (*path, element(item, schema))
            if here in gone and here not in owned:
                continue
            left.append(prune(item, gone, kept, items(schema), here) if here in touched else item)
        return left
    return value


def _prune_member(
    result: dict[str, Any],
    name: str,
    member: Any,
    here: Path,
    gone: set[Path],
    kept: set[Path],
    owned: bool,
    schema: Schema,
) -> None:
    if here in gone and not owned:
        del result[name]
        return
    rest = prune(member, gone, kept, schema, here)
    if not rest and member and not owned and isinstance(rest, (dict, list)):
        del result[name]
    else:
        result[name] = rest
