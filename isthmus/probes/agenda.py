"""What is due when, under one timer of the running loop.

A timer for each of some thousand targets would keep the loop comparing timers. Invariants: nothing is told
before its time but for `early` seconds, so that what is due together wakes the loop once; at most TOGETHER
are told in a row before the loop does other things; what was cancelled is not told, and takes no more room
than what is due. Times are seconds of the loop's clock.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from itertools import count
from typing import Generic, TypeVar

TOGETHER = 100
TIDY = 1_000
"""Cancelled items that may always stay."""
_NOW = 1e-6
_NEVER = float("inf")

T = TypeVar("T")


class Entry(Generic[T]):
    """An item on an agenda; None once it was told or cancelled."""

    __slots__ = ("item", "when")

    def __init__(self, when: float, item: T) -> None:
        self.when = when
        self.item: T | None = item


class Agenda(Generic[T]):
    """Tells each item when it is due."""

    def __init__(self, tell: Callable[[T], None], *, early: float = _NOW) -> None:
        self._tell = tell
        self._early = early
        self._heap: list[tuple[float, int, Entry[T]]] = []
        self._order = count()
        self._cancelled = 0
        self._timer: asyncio.TimerHandle | None = None
        self._rings = _NEVER
        """When the timer is due."""

    def __len__(self) -> int:
        return len(self._heap) - self._cancelled

    def add(self, when: float, item: T) -> Entry[T]:
        entry = Entry(when, item)
        heapq.heappush(self._heap, (when, next(self._order), entry))
        if when < self._rings:
            self._wind(when)
        return entry

    def cancel(self, entry: Entry[T]) -> None:
        """Takes the item off; it need not be there any more."""
        if entry.item is None:
            return
        entry.item = None
        self._cancelled += 1
        if self._cancelled > TIDY and 2 * self._cancelled > len(self._heap):
            self._heap[:] = [row for row in self._heap if row[2].item is not None]
            heapq.heapify(self._heap)
            self._cancelled = 0

    def close(self) -> None:
        """Forgets everything."""
        self._heap.clear()
        self._cancelled = 0
        self._wind(_NEVER)

    def _wind(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._rings = when
        if when != _NEVER:
            self._timer = asyncio.get_running_loop().call_at(when, self._ring)

    def _ring(self) -> None:
        heap, until = self._heap, asyncio.get_running_loop().time() + self._early
        self._timer, self._rings = None, -_NEVER  # what is told may add: the timer is wound once, at the end
        told = 0
        try:
            while heap and told < TOGETHER and (heap[0][0] <= until or heap[0][2].item is None):
                entry = heapq.heappop(heap)[2]
                item, entry.item = entry.item, None
                if item is None:
                    self._cancelled -= 1
                else:
                    told += 1
                    self._tell(item)
        finally:
            self._wind(heap[0][0] if heap else _NEVER)
