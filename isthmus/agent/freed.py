"""Memory that is free goes back to the kernel: a neighbour that told of much, once, is not paid for ever.

The C library keeps what was freed between things that are still used. Only glibc is asked for it; elsewhere
nothing is done. Memory is looked at once a minute and given back only where much is free, because whoever
asks for it next has to get it anew.
"""

from __future__ import annotations

import asyncio
import ctypes
from dataclasses import dataclass
from typing import Any, Final, Self

EVERY_SECONDS: Final = 60.0
LEAST_BYTES: Final = 1 << 20
"""Less is not worth the walk through the heap."""
LEAST_PART: Final = 0.05


class _Mallinfo2(ctypes.Structure):
    """`struct mallinfo2` of glibc 2.33 (mallinfo(3))."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks",
            "keepcost",
        )
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Heap:
    """The heap of the C library that this process has."""

    library: Any

    @classmethod
    def own(cls) -> Self | None:
        """None where it cannot be asked."""
        library = ctypes.CDLL(None)
        if not hasattr(library, "mallinfo2") or not hasattr(library, "malloc_trim"):
            return None
        library.mallinfo2.restype = _Mallinfo2
        return cls(library)

    def free(self) -> tuple[int, int]:
        """Bytes that are free, and all that it has from the kernel; very large pieces are not in either."""
        found = self.library.mallinfo2()
        return found.fordblks, found.arena

    def trim(self) -> None:
        self.library.malloc_trim(ctypes.c_size_t(0))


async def give_back() -> None:
    """Looks once a minute, until cancelled or where there is nothing to be done."""
    heap = Heap.own()
    while heap is not None:
        await asyncio.sleep(EVERY_SECONDS)
        free, held = heap.free()
        if free > max(LEAST_BYTES, LEAST_PART * held):
            heap.trim()
