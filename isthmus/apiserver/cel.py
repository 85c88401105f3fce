"""Values and operations of the Common Expression Language, as far as rules of custom resources use them.

JSON values stand for themselves; durations are `Duration`. Invariant: an operation on kinds of values that do
not fit is a `CelError`, never Python's own idea of it (no truthiness, no `True == 1`). Follows cel-spec's
language definition; timestamps, bytes, unsigned integers and Kubernetes' own libraries are not there, and
`celparser` refuses expressions that ask for them.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from isthmus.errors import IsthmusError

_INT = range(-(1 << 63), 1 << 63)
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")
_NANOSECONDS = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}


class CelError(IsthmusError):
    """An expression that is well formed has no value for these inputs."""


class Duration(int):
    """Nanoseconds."""


def kind(value: object) -> str:
    """CEL's name of a value's type."""
    match value:
        case None:
            return "null"
        case bool():
            return "bool"
        case Duration():
            return "duration"
        case int():
            return "int"
        case float():
            return "double"
        case str():
            return "string"
        case list():
            return "list"
        case _:
            return "map"


def _no_overload(name: str, *values: object) -> CelError:
    kinds = ", ".join(kind(value) for value in values)
    return CelError(f"found no matching overload for '{name}' applied to '({kinds})'")


def _numbers(*values: object) -> bool:
    return all(kind(value) in ("int", "double") for value in values)


def truth(value: Any) -> bool:
    """The value as a condition; only a bool is one."""
    if not isinstance(value, bool):
        raise _no_overload("_&&_", value)
    return value


def equal(left: Any, right: Any) -> bool:
    """Equality of any two values: numbers across their types, everything else only within its type."""
    if _numbers(left, right):
        return bool(left == right)
    if kind(left) != kind(right):
        return False
    if isinstance(left, list):
        return len(left) == len(right) and all(map(equal, left, right))
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(equal(item, right[key]) for key, item in left.items())
    return bool(left == right)


def _ordered(name: str, compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def run(left: Any, right: Any) -> bool:
        if _numbers(left, right) or (
            kind(left) == kind(right) and kind(left) in ("string", "duration", "bool")
        ):
            return compare(left, right)
        raise _no_overload(name, left, right)

    return run


def _checked(value: Any) -> Any:
    if isinstance(value, int) and value not in _INT:
        raise CelError("integer overflow")
    return value


def add(left: Any, right: Any) -> Any:
    """Sum of numbers or durations, concatenation of strings or lists."""
    if kind(left) != kind(right) or kind(left) not in ("int", "double", "duration", "string", "list"):
        raise _no_overload("_+_", left, right)
    return Duration(left + right) if isinstance(left, Duration) else _checked(left + right)


def subtract(left: Any, right: Any) -> Any:
    if kind(left) != kind(right) or kind(left) not in ("int", "double", "duration"):
        raise _no_overload("_-_", left, right)
    return Duration(left - right) if isinstance(left, Duration) else _checked(left - right)


def multiply(left: Any, right: Any) -> Any:
    if kind(left) != kind(right) or not _numbers(left, right):
        raise _no_overload("_*_", left, right)
    return _checked(left * right)


def divide(left: Any, right: Any) -> Any:
    """Quotient; of integers, cut towards zero."""
    if kind(left) != kind(right) or not _numbers(left, right):
        raise _no_overload("_/_", left, right)
    if right == 0 and isinstance(left, int):
        raise CelError("division by zero")
    if isinstance(left, float):
        return left / right if right else float("nan") if left == 0 else left * float("inf")
    quotient = abs(left) // abs(right)
    return _checked(quotient if (left < 0) == (right < 0) else -quotient)


def modulo(left: Any, right: Any) -> Any:
    """Remainder with the sign of the dividend."""
    if (kind(left), kind(right)) != ("int", "int"):
        raise _no_overload("_%_", left, right)
    if right == 0:
        raise CelError("modulus by zero")
    return left - divide(left, right) * right


def contained(left: Any, right: Any) -> bool:
    """Whether a list has an item, or a map a key."""
    if isinstance(right, list):
        return any(equal(left, item) for item in right)
    if isinstance(right, dict):
        return isinstance(left, str) and left in right
    raise _no_overload("@in", left, right)


BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "==": equal,
    "!=": lambda left, right: not equal(left, right),
    "<": _ordered("_<_", operator.lt),
    "<=": _ordered("_<=_", operator.le),
    ">": _ordered("_>_", operator.gt),
    ">=": _ordered("_>=_", operator.ge),
    "in": contained,
    "+": add,
    "-": subtract,
    "*": multiply,
    "/": divide,
    "%": modulo,
}


def negative(value: Any) -> Any:
    if not _numbers(value):
        raise _no_overload("-_", value)
    return _checked(-value)


def member(value: Any, name: str) -> Any:
    """A field of a map; an error where there is none."""
    if not isinstance(value, dict):
        raise CelError(f"type '{kind(value)}' does not support field selection")
    if name not in value:
        raise CelError(f"no such key: {name}")
    return value[name]


def item(value: Any, index: Any) -> Any:
    """An item of a list by number, or of a map by key."""
    if isinstance(value, dict) and isinstance(index, str):
        return member(value, index)
    if not isinstance(value, list) or kind(index) != "int":
        raise _no_overload("_[_]", value, index)
    if not 0 <= index < len(value):
        raise CelError(f"index out of bounds: {index}")
    return value[index]


def size(value: Any) -> int:
    if not isinstance(value, (str, list, dict)):
        raise _no_overload("size", value)
    return len(value)


def duration(value: Any) -> Duration:
    """A Go duration such as `1h30m`, or a duration as it is."""
    if isinstance(value, Duration):
        return value
    if not isinstance(value, str):
        raise _no_overload("duration", value)
    text, sign = value.removeprefix("-").removeprefix("+"), -1 if value.startswith("-") else 1
    parts = list(_PART.finditer(text))
    if text != "0" and (not parts or "".join(part[0] for part in parts) != text or len(value) > 64):
        raise CelError("type conversion error from 'string' to 'google.protobuf.Duration'")
    return Duration(sign * int(sum(Fraction(part[1]) * _NANOSECONDS[part[2]] for part in parts)))


def _integer(value: Any) -> int:
    try:
        if kind(value) in ("int", "double", "string"):
            found: int = _checked(int(value))
            return found
    except (ValueError, OverflowError):
        raise CelError(f"type conversion error from '{kind(value)}' to 'int'") from None
    raise _no_overload("int", value)


def _double(value: Any) -> float:
    try:
        if kind(value) in ("int", "double", "string"):
            return float(value)
    except ValueError:
        raise CelError("type conversion error from 'string' to 'double'") from None
    raise _no_overload("double", value)


def _string(value: Any) -> str:
    if kind(value) not in ("string", "int", "double", "bool"):
        raise _no_overload("string", value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _of_strings(name: str, run: Callable[..., Any]) -> Callable[..., Any]:
    def checked(*values: Any) -> Any:
        if not all(isinstance(value, str) for value in values):
            raise _no_overload(name, *values)
        return run(*values)

    return checked


def _matches(text: str, pattern: str) -> bool:
    try:
        return re.search(pattern, text) is not None
    except re.error as wrong:
        raise CelError(f"error parsing regexp: {wrong}") from None


FUNCTIONS: dict[tuple[str, int], Callable[..., Any]] = {
    ("size", 1): size,
    ("duration", 1): duration,
    ("int", 1): _integer,
    ("double", 1): _double,
    ("string", 1): _string,
    ("dyn", 1): lambda value: value,
}
"""By name and number of arguments."""

METHODS: dict[tuple[str, int], Callable[..., Any]] = {
    ("size", 0): size,
    ("startsWith", 1): _of_strings("startsWith", str.startswith),
    ("endsWith", 1): _of_strings("endsWith", str.endswith),
    ("contains", 1): _of_strings("contains", operator.contains),
    ("matches", 1): _of_strings("matches", _matches),
    ("lowerAscii", 0): _of_strings("lowerAscii", str.lower),
    ("upperAscii", 0): _of_strings("upperAscii", str.upper),
}
"""By name and number of arguments behind the receiver."""
