"""How many things become a few bounded objects, with names that do not move.

A set is cut by the bits of each key's hash, and only where it outgrows the limit (extendible hashing). So the
cut is a pure function of the set: every replica and every restart finds the same one, a small set stays
whole, and a key that comes or goes touches the object it falls into, plus one more when that object splits or
merges. A split keeps the old object's index for the half whose next bit is 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import TypeVar

T = TypeVar("T")

_BITS = 64


def chunks(items: Mapping[str, T], limit: int) -> dict[int, list[T]]:
    """Values of `items` in chunks of at most `limit`, ordered by key inside, by the chunk's stable index."""
    found: dict[int, list[T]] = {}
    if not items:
        return found
    keys = sorted(items)
    if len(keys) <= limit:
        found[0] = [items[key] for key in keys]
        return found
    stack = [(0, 0, [(_bits(key), key) for key in keys])]
    while stack:
        depth, index, part = stack.pop()
        if len(part) <= limit or depth == _BITS:
            if part:
                found[index] = [items[key] for _, key in part]
            continue
        mask = 1 << depth
        stack.append((depth + 1, index, [row for row in part if not row[0] & mask]))
        stack.append((depth + 1, index | mask, [row for row in part if row[0] & mask]))
    return dict(sorted(found.items()))


def short_hash(parts: Iterable[object]) -> str:
    """Eight hex digits that name the sequence `parts` (their texts must not hold a line feed)."""
    return sha256("\n".join(str(part) for part in parts).encode()).hexdigest()[:8]


def _bits(key: str) -> int:
    return int.from_bytes(sha256(key.encode("utf-8", "surrogatepass")).digest()[:8], "big")
