"""Checks of one JSON value against one node of a structural schema: type, range, length, pattern, format.

The keywords are those of OpenAPI v3 that apiextensions.k8s.io/v1 allows; the wording of each violation is the
real server's. Container contents are `schema.py`'s business.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import lru_cache
from typing import Any

from isthmus.apiserver import status
from isthmus.apiserver.status import Cause

Schema = dict[str, Any]

_DATE_TIME = re.compile(r"^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)$")
_DURATION = re.compile(
    r"^[+-]?(\d+(\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)((\d+(\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h))*$"
)
_UUID = re.compile(r"^[0-9a-fA-F]{8}-?([0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}$")
_URI = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*:\S*$|^/\S*$")


def type_name(value: object) -> str:
    """JSON Schema's name of a value's type, as error messages give it."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
        case _:
            return "object"


def matches_type(value: object, wanted: str) -> bool:
    given = type_name(value)
    if wanted == "number":
        return given in ("integer", "number")
    if wanted == "integer":
        return given == "integer" or (isinstance(value, float) and value.is_integer())
    if wanted == "integer,string":
        return given in ("integer", "string")
    return given == wanted


def check_value(value: Any, schema: Schema, path: str) -> Iterator[Cause]:
    """Violations of the keywords that need only the value itself."""
    if "enum" in schema and value not in schema["enum"]:
        yield status.unsupported(path, value, schema["enum"])
    if isinstance(value, str):
        yield from _string(value, schema, path)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield from _number(value, schema, path)
    elif isinstance(value, list):
        yield from _count(value, schema, path, "minItems", "maxItems", "items")
        if schema.get("uniqueItems") and len({status.show(item) for item in value}) != len(value):
            yield status.invalid_value(path, value, f"{path} in body shouldn't contain duplicates")
    elif isinstance(value, dict):
        yield from _count(value, schema, path, "minProperties", "maxProperties", "properties")


def _string(value: str, schema: Schema, path: str) -> Iterator[Cause]:
    if (limit := schema.get("maxLength")) is not None and len(value) > limit:
        yield status.too_long(path, limit)
    if (least := schema.get("minLength")) is not None and len(value) < least:
        yield status.invalid_value(path, value, f"{path} in body should be at least {least} chars long")
    if (pattern := schema.get("pattern")) and _compiled(pattern).search(value) is None:
        yield status.invalid_value(path, value, f"{path} in body should match '{pattern}'")
    if (name := schema.get("format")) in _FORMATS and not _FORMATS[name](value):
        yield status.invalid_value(
            path, value, f"{path} in body must be of type {name}: {status.show(value)}"
        )


def _number(value: float, schema: Schema, path: str) -> Iterator[Cause]:
    if (least := schema.get("minimum")) is not None:
        exclusive = bool(schema.get("exclusiveMinimum"))
        if value < least or (exclusive and value == least):
            relation = "greater than" if exclusive else "greater than or equal to"
            yield status.invalid_value(path, value, f"{path} in body should be {relation} {least}")
    if (most := schema.get("maximum")) is not None:
        exclusive = bool(schema.get("exclusiveMaximum"))
        if value > most or (exclusive and value == most):
            relation = "less than" if exclusive else "less than or equal to"
            yield status.invalid_value(path, value, f"{path} in body should be {relation} {most}")
    if (step := schema.get("multipleOf")) and value % step:
        yield status.invalid_value(path, value, f"{path} in body should be a multiple of {step}")
    bits = {"int32": 32, "int64": 64}.get(schema.get("format", ""))
    if bits and not -(2 ** (bits - 1)) <= value < 2 ** (bits - 1):
        yield status.invalid_value(
            path, value, f"{path} in body must be of type int{bits}: {status.show(value)}"
        )


def _count(value: Any, schema: Schema, path: str, least: str, most: str, noun: str) -> Iterator[Cause]:
    if schema.get(most) is not None and len(value) > schema[most]:
        yield status.too_many(path, len(value), schema[most])
    if schema.get(least) is not None and len(value) < schema[least]:
        yield status.invalid_value(
            path, len(value), f"{path} in body should have at least {schema[least]} {noun}"
        )


@lru_cache(maxsize=512)
def _compiled(pattern: str) -> re.Pattern[str]:
    """A Go (RE2) pattern in Python's terms: a last `$` means the very end there, not before a newline."""
    ends = pattern.endswith("$") and not pattern.endswith("\\$")
    return re.compile((pattern[:-1] + r"\Z" if ends else pattern).replace(r"\z", r"\Z"))


def valid_pattern(pattern: str) -> bool:
    try:
        _compiled(pattern)
    except re.error:
        return False
    return True


def _is_date_time(value: str) -> bool:
    if _DATE_TIME.match(value) is None:
        return False
    try:
        datetime.fromisoformat(value[:19])
    except ValueError:
        return False
    return True


def _is_date(value: str) -> bool:
    try:
        return datetime.strptime(value, "%Y-%m-%d") is not None
    except ValueError:
        return False


def _is_address(kind: type[ipaddress.IPv4Address | ipaddress.IPv6Address]) -> Callable[[str], bool]:
    def check(value: str) -> bool:
        try:
            return kind(value) is not None
        except ValueError:
            return False

    return check


def _is_cidr(value: str) -> bool:
    try:
        return "/" in value and ipaddress.ip_interface(value) is not None
    except ValueError:
        return False


def _is_base64(value: str) -> bool:
    try:
        return base64.b64decode(value, validate=True) is not None
    except (binascii.Error, ValueError):
        return False


_FORMATS: dict[str, Callable[[str], bool]] = {
    "date-time": _is_date_time,
    "date": _is_date,
    "duration": lambda value: value == "0" or _DURATION.match(value) is not None,
    "ipv4": _is_address(ipaddress.IPv4Address),
    "ipv6": _is_address(ipaddress.IPv6Address),
    "cidr": _is_cidr,
    "uuid": lambda value: _UUID.match(value) is not None,
    "uri": lambda value: _URI.match(value) is not None,
    "byte": _is_base64,
}
