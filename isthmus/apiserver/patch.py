"""The patch formats of the Kubernetes API: JSON Patch (RFC 6902), JSON Merge Patch (RFC 7396), strategic
merge.

All three take the live object and return a new one; the caller's copy is never changed. Strategic merge
follows the merge keys of `topology` and the `$patch` and `$deleteFromPrimitiveList` directives.
"""

from __future__ import annotations

import copy
from typing import Any

from isthmus.apiserver.status import StatusError, bad_request
from isthmus.apiserver.topology import Schema, child, items

_MAX_OPERATIONS = 10_000


def merge_patch(value: Any, patch: Any) -> Any:
    """RFC 7396: null removes, maps merge, everything else replaces."""
    if not isinstance(patch, dict):
        return patch
    result = dict(value) if isinstance(value, dict) else {}
    for name, member in patch.items():
        if member is None:
            result.pop(name, None)
        else:
            result[name] = merge_patch(result.get(name), member)
    return result


def json_patch(value: Any, operations: Any) -> Any:
    """RFC 6902: all operations or none; 422 where one does not apply, 400 for what is no list of operations.

    As in the real server, an operation without a value has the value null.
    """
    if not isinstance(operations, list) or not all(isinstance(each, dict) for each in operations):
        raise bad_request("error decoding patch: a JSON patch is a list of operations")
    if len(operations) > _MAX_OPERATIONS:
        text = f"The allowed maximum operations in a JSON patch is {_MAX_OPERATIONS}, got {len(operations)}"
        raise StatusError(413, "RequestEntityTooLarge", text)
    result = copy.deepcopy(value)
    for operation in operations:
        result = _operate(result, operation)
    return result


def _operate(document: Any, operation: dict[str, Any]) -> Any:
    name, path = operation.get("op"), _pointer(operation.get("path"))
    match name:
        case "add":
            return _add(document, path, copy.deepcopy(operation.get("value")))
        case "remove":
            return _remove(document, path)
        case "replace":
            _get(document, path)
            return _add(_remove(document, path), path, copy.deepcopy(operation.get("value")))
        case "copy" | "move":
            source = _pointer(operation.get("from"))
            found = copy.deepcopy(_get(document, source))
            return _add(_remove(document, source) if name == "move" else document, path, found)
        case "test":
            if _get(document, path) != operation.get("value"):
                raise _refused()
            return document
        case _:
            raise _refused()


def _pointer(text: Any) -> list[str]:
    """RFC 6901."""
    if not isinstance(text, str) or (text and not text.startswith("/")):
        raise _refused()
    return [part.replace("~1", "/").replace("~0", "~") for part in text.split("/")[1:]]


def _refused() -> StatusError:
    return StatusError(422, "Invalid", "the server rejected our request due to an error in our request")


def _index(container: list[Any], step: str, *, end: bool = False) -> int:
    if end and step == "-":
        return len(container)
    if not step.isdecimal() or int(step) > len(container) - (0 if end else 1):
        raise _refused()
    return int(step)


def _get(document: Any, path: list[str]) -> Any:
    for step in path:
        if isinstance(document, dict) and step in document:
            document = document[step]
        elif isinstance(document, list):
            document = document[_index(document, step)]
        else:
            raise _refused()
    return document


def _add(document: Any, path: list[str], value: Any) -> Any:
    if not path:
        return value
    parent = _get(document, path[:-1])
    if isinstance(parent, dict):
        parent[path[-1]] = value
    elif isinstance(parent, list):
        parent.insert(_index(parent, path[-1], end=True), value)
    else:
        raise _refused()
    return document


def _remove(document: Any, path: list[str]) -> Any:
    _get(document, path)
    if not path:
        return None
    parent = _get(document, path[:-1])
    if isinstance(parent, dict):
        del parent[path[-1]]
    else:
        del parent[_index(parent, path[-1])]
    return document


def strategic_merge(value: Any, patch: Any, schema: Schema) -> Any:
    """Strategic merge patch: like a merge patch, but keyed lists merge item by item."""
    if not isinstance(patch, dict):
        return patch
    if patch.get("$patch") == "replace":
        return {name: member for name, member in patch.items() if name != "$patch"}
    result = dict(value) if isinstance(value, dict) else {}
    for name, member in patch.items():
        if name.startswith("$deleteFromPrimitiveList/"):
            target = name.partition("/")[2]
            if not isinstance(member, list):
                raise bad_request(f"{name} must be a list")
            result[target] = [item for item in _list(result.get(target)) if item not in member]
        elif name.startswith("$"):
            continue
        elif member is None or (isinstance(member, dict) and member.get("$patch") == "delete"):
            result.pop(name, None)
        elif isinstance(member, list):
            result[name] = _strategic_list(_list(result.get(name)), member, child(schema, name))
        else:
            result[name] = strategic_merge(result.get(name), member, child(schema, name))
    return result


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _strategic_list(live: list[Any], patch: list[Any], schema: Schema) -> list[Any]:
    if schema.get("x-kubernetes-list-type") == "set":
        return live + [item for item in patch if item not in live]
    key = schema.get("x-kubernetes-patch-merge-key")
    if key is None or not all(isinstance(item, dict) for item in patch):
        return patch
    replace = any(item.get("$patch") == "replace" for item in patch)
    result: list[Any] = [] if replace else list(live)
    for item in patch:
        if item.get("$patch") == "replace" and key not in item:
            continue
        if key not in item:
            raise bad_request(f"map: {item} does not contain declared merge key: {key}")
        place = _place(result, key, item[key])
        if item.get("$patch") == "delete":
            if place is not None:
                del result[place]
        elif place is None:
            result.append(strategic_merge({}, item, items(schema)))
        else:
            result[place] = strategic_merge(result[place], item, items(schema))
    return result


def _place(rows: list[Any], key: str, value: Any) -> int | None:
    """Where the item with this merge key is."""
    found = (index for index, each in enumerate(rows) if isinstance(each, dict) and each.get(key) == value)
    return next(found, None)
