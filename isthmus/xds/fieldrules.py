"""The rules of one field as checks, each with its words (protoc-gen-validate, `validate.FieldRules`).

A rule kind that is not known here fails when it is compiled: a rule is never passed over in silence.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from google.protobuf import descriptor

_HOST = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9-]{1,63}(?<!-))*\.?")
_KNOWN_HEADERS = {
    1: (re.compile(r":?[0-9a-zA-Z!#$%&'*+\-.^_|~`]+"), "be the name of an HTTP header"),
    2: (re.compile(r"[^\x00-\x08\x0A-\x1F\x7F]*"), "be the value of an HTTP header"),
}
_LOOSE_HEADER = re.compile(r"[^\x00\x0A\x0D]*")


class Check(NamedTuple):
    """One rule: what it says, as the end of "the field must …", and whether a value holds to it."""

    words: str
    holds: Callable[[Any], bool]


Checks = list[Check]


class UnknownRule(NotImplementedError):
    """The API has a kind of rule that nobody has taught this module."""


def checks_of(field: descriptor.FieldDescriptor, rules: Any) -> tuple[Checks, Checks, Checks]:
    """Checks of the field as a whole, of its value (or of each item), and of the keys of a map."""
    kind = rules.WhichOneof("type")
    if kind == "repeated":
        return _repeated(field, rules.repeated), _values(rules.repeated.items), []
    if kind == "map":
        return _map(rules.map), _values(rules.map.values), _values(rules.map.keys)
    return [], _values(rules), []


def is_required(rules: Any) -> str:
    """In words, where a message has to be there; "" where it has not."""
    kind = rules.WhichOneof("type")
    needed = rules.message.required or (
        kind in ("any", "duration", "timestamp") and getattr(rules, kind).required
    )
    return "be set" if needed else ""


def _values(rules: Any) -> Checks:
    kind = rules.WhichOneof("type")
    match kind:
        case None | "message":
            return []
        case "string":
            return _string(rules.string)
        case "bytes":
            found = _text(rules.bytes, {"ignore_empty"})
            return _unless_empty(found) if rules.bytes.ignore_empty else found
        case "bool":
            return _generic(rules.bool, set(), lambda value: value)
        case "enum":
            return _enum(rules.enum)
        case "duration":
            return _generic(rules.duration, {"required"}, _nanoseconds)
        case "any":
            return _generic(rules.any, {"required"}, lambda value: value.type_url)
        case "repeated" | "map" | "timestamp":
            raise UnknownRule(f"rules of {kind} within others")
        case _:
            return _generic(getattr(rules, kind), {"ignore_empty"}, lambda value: value)


def _nanoseconds(duration: Any) -> int:
    return int(duration.seconds) * 1_000_000_000 + int(duration.nanos)


def _told(value: Any) -> str:
    if hasattr(value, "nanos"):
        return f"{_nanoseconds(value) / 1e9:g}s"
    return (
        repr(value)
        if isinstance(value, str | bytes)
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
    )


def _generic(rules: Any, known: set[str], read: Callable[[Any], Any]) -> Checks:
    """const, in, and bounds, of anything that has an order. `read` makes values comparable."""
    made: Checks = []
    bounds: dict[str, Any] = {}
    for name, limit in _set(rules):
        if name in known:
            continue
        if name in ("in", "not_in"):
            made.append(_among(name, limit, read))
            continue
        if name not in ("const", "lt", "lte", "gt", "gte"):
            raise UnknownRule(name)
        bounds[name] = limit
    empty = "ignore_empty" in known and bool(rules.ignore_empty)
    return [*made, *_bounds(bounds, read, empty)]


def _bounds(bounds: dict[str, Any], read: Callable[[Any], Any], empty: bool) -> Checks:
    words = {
        "const": "be",
        "lt": "be less than",
        "lte": "be at most",
        "gt": "be more than",
        "gte": "be at least",
    }
    compare: dict[str, Callable[[Any, Any], bool]] = {
        "const": lambda a, b: bool(a == b),
        "lt": lambda a, b: bool(a < b),
        "lte": lambda a, b: bool(a <= b),
        "gt": lambda a, b: bool(a > b),
        "gte": lambda a, b: bool(a >= b),
    }
    made = []
    for name, limit in bounds.items():
        wanted, holds = read(limit) if hasattr(limit, "nanos") else limit, compare[name]
        check = partial(_compared, holds, read, wanted, empty)
        made.append(Check(f"{words[name]} {_told(limit)}", check))
    return made


def _compared(
    holds: Callable[[Any, Any], bool], read: Callable[[Any], Any], wanted: Any, empty: bool, value: Any
) -> bool:
    found = read(value)
    return (empty and not found) or holds(found, wanted)


def _among(name: str, values: Iterable[Any], read: Callable[[Any], Any]) -> Check:
    held = {read(value) if hasattr(value, "nanos") else value for value in values}
    listed = ", ".join(_told(value) for value in sorted(held, key=str))
    if name == "in":
        return Check(f"be one of {listed}", lambda value: read(value) in held)
    return Check(f"be none of {listed}", lambda value: read(value) not in held)


def _enum(rules: Any) -> Checks:
    """`defined_only` holds by construction: the renderers name values, they do not count them."""
    made: Checks = []
    for name, limit in _set(rules):
        match name:
            case "defined_only":
                continue
            case "in" | "not_in":
                made.append(_among(name, limit, lambda value: value))
            case "const":
                made.append(Check(f"be {limit}", partial(_contains, _CONTENTS["const"][1], limit)))
            case _:
                raise UnknownRule(name)
    return made


_SIZES: dict[str, tuple[str, Callable[[int, int], bool]]] = {
    "len": ("be {} long", lambda size, limit: size == limit),
    "min_len": ("be at least {} long", lambda size, limit: size >= limit),
    "max_len": ("be at most {} long", lambda size, limit: size <= limit),
    "len_bytes": ("be {} bytes", lambda size, limit: size == limit),
    "min_bytes": ("be at least {} bytes", lambda size, limit: size >= limit),
    "max_bytes": ("be at most {} bytes", lambda size, limit: size <= limit),
    "min_items": ("have at least {} items", lambda size, limit: size >= limit),
    "max_items": ("have at most {} items", lambda size, limit: size <= limit),
    "min_pairs": ("have at least {} keys", lambda size, limit: size >= limit),
    "max_pairs": ("have at most {} keys", lambda size, limit: size <= limit),
}
_CONTENTS: dict[str, tuple[str, Callable[[Any, Any], bool]]] = {
    "const": ("be {!r}", lambda value, wanted: bool(value == wanted)),
    "prefix": ("begin with {!r}", lambda value, part: bool(value.startswith(part))),
    "suffix": ("end with {!r}", lambda value, part: bool(value.endswith(part))),
    "contains": ("contain {!r}", lambda value, part: part in value),
    "not_contains": ("not contain {!r}", lambda value, part: part not in value),
    "pattern": ("match {}", lambda value, pattern: re.search(pattern, value) is not None),
}


def _sized(name: str, limit: int) -> Check:
    words, holds = _SIZES[name]
    told = "not be empty" if name.startswith("min_") and limit == 1 else words.format(limit)
    if name.endswith("_bytes"):
        return Check(told, lambda value: holds(len(value.encode()), limit))
    return Check(told, lambda value: holds(len(value), limit))


def _text(rules: Any, known: set[str]) -> Checks:
    """Lengths and contents of strings and bytes."""
    made: Checks = []
    for name, limit in _set(rules):
        if name in known:
            continue
        if name in _SIZES:
            made.append(_sized(name, limit))
        elif name in ("in", "not_in"):
            made.append(_among(name, limit, lambda value: value))
        elif name in _CONTENTS:
            words, holds = _CONTENTS[name]
            made.append(Check(words.format(limit), partial(_contains, holds, limit)))
        else:
            raise UnknownRule(name)
    return made


def _contains(holds: Callable[[Any, Any], bool], wanted: Any, value: Any) -> bool:
    return holds(value, wanted)


def _unless_empty(checks: Checks) -> Checks:
    return [Check(check.words, partial(_empty_or, check.holds)) for check in checks]


def _empty_or(holds: Callable[[Any], bool], value: Any) -> bool:
    return not value or holds(value)


_FORMS: dict[str, Callable[[str], bool]] = {
    "hostname": lambda text: _HOST.fullmatch(text) is not None and len(text) <= 253,
    "ip": lambda text: _is_ip(text, 0),
    "ipv4": lambda text: _is_ip(text, 4),
    "ipv6": lambda text: _is_ip(text, 6),
    "address": lambda text: _is_ip(text, 0) or _HOST.fullmatch(text) is not None,
    "uri": lambda text: bool(urlsplit(text).scheme),
    "uri_ref": lambda text: bool(urlsplit(text).geturl() or not text),
}


def _is_ip(text: str, version: int) -> bool:
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return False
    return version in (0, found.version)


def _string(rules: Any) -> Checks:
    named = {name for name, _ in _set(rules)}
    forms = sorted(named & _FORMS.keys())
    made = _text(rules, {"ignore_empty", "well_known_regex", "strict", *forms})
    made += [Check(f"be a valid {form}", _FORMS[form]) for form in forms]
    if "well_known_regex" in named:
        pattern, words = _KNOWN_HEADERS[rules.well_known_regex]
        strict = not rules.HasField("strict") or rules.strict
        used = pattern if strict else _LOOSE_HEADER
        made.append(Check(words, lambda value: used.fullmatch(value) is not None))
    return _unless_empty(made) if rules.ignore_empty else made


def _repeated(field: descriptor.FieldDescriptor, rules: Any) -> Checks:
    made: Checks = []
    for name, limit in _set(rules):
        if name in _SIZES:
            made.append(_sized(name, limit))
        elif name == "unique" and field.message_type is None:
            made.append(Check("have no item twice", lambda value: len(set(value)) == len(value)))
        elif name not in ("items", "ignore_empty", "unique"):
            raise UnknownRule(name)
    return made


def _map(rules: Any) -> Checks:
    made: Checks = []
    for name, limit in _set(rules):
        if name in _SIZES:
            made.append(_sized(name, limit))
        elif name not in ("keys", "values", "no_sparse", "ignore_empty"):
            raise UnknownRule(name)
    return made


def _set(rules: Any) -> list[tuple[str, Any]]:
    """The rules that are set, by name."""
    return [(field.name, value) for field, value in rules.ListFields()]
