"""What values take in memory, each object counted once, where it is met first."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

_NOT_DATA = (type, FunctionType, BuiltinFunctionType, MethodType, ModuleType)
_BLOCK = 16
"""The allocator gives multiples of it."""


class Sizes:
    """Counts bytes; what was counted before is not counted again."""

    def __init__(self) -> None:
        self._seen: set[int] = set()

    def of(self, value: object) -> Counter[str]:
        """Bytes of a value and all that it leads to, by type."""
        found: Counter[str] = Counter()
        waiting: list[object] = [value]
        while waiting:
            one = waiting.pop()
            if id(one) in self._seen or isinstance(one, _NOT_DATA):
                continue
            self._seen.add(id(one))
            found[type(one).__name__] += -(-sys.getsizeof(one) // _BLOCK) * _BLOCK
            waiting.extend(_parts(one))
        return found


def _parts(one: Any) -> Iterable[object]:
    if isinstance(one, str | bytes | int | float | None):
        return ()
    if isinstance(one, dict):
        return (*one.keys(), *one.values())
    if isinstance(one, tuple | list | set | frozenset):
        return tuple(one)
    if names := getattr(one, "__struct_fields__", ()):
        return [getattr(one, name) for name in names]
    slots = (name for base in type(one).__mro__ for name in base.__dict__.get("__slots__", ()))
    return [getattr(one, name) for name in slots if hasattr(one, name)]
