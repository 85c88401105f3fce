"""Room in dicts and sets: CPython's keep that of the most they ever held, long after it has gone.

A neighbour that once told of thousands of services would be paid for in every table and index over them.
"""

from __future__ import annotations

import sys
from typing import Any, Final, TypeVar

SPARE_BYTES: Final = 4 << 10
"""Less is not worth a copy."""
ENTRY_BYTES: Final = 128
"""What an entry takes at most in one that has just grown: its room for three to six (a set: eight) each."""

C = TypeVar("C", dict[Any, Any], set[Any])


def fitting(held: C) -> C:
    """What is held; a copy of it where most of its room is for entries that have gone.

    To be asked when an entry goes: a copy costs as much as what is left, and less than what has gone.
    """
    if sys.getsizeof(held) > SPARE_BYTES + ENTRY_BYTES * len(held):
        return held.copy()
    return held
