"""The recent events of one resource: a bounded ring that watches read with cursors.

A watcher holds no queue; it remembers a revision and reads what came after. Memory is therefore bounded by
the ring alone, and a watcher too slow for the ring is cut, never waited for. Invariant: every event after
`floor` is present, in order.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from isthmus.apiserver.store import Entry

EventType = Literal["ADDED", "MODIFIED", "DELETED"]


class Event:
    """One change: the object after it (the last state for DELETED) and before it."""

    __slots__ = ("entry", "previous", "revision", "type")

    def __init__(self, revision: int, type_: EventType, entry: Entry, previous: Entry | None) -> None:
        self.revision = revision
        self.type: EventType = type_
        self.entry = entry
        self.previous = previous


class History:
    """Ring of events, at most `events` of them and about `size` bytes."""

    def __init__(self, floor: int, *, events: int, size: int) -> None:
        self.floor = floor
        self.closed = False
        self._ring: deque[Event] = deque()
        self._events = events
        self._size = size
        self._held = 0
        self._waiting: set[asyncio.Future[None]] = set()

    def append(self, event: Event) -> None:
        self._ring.append(event)
        self._held += len(event.entry.raw)
        while len(self._ring) > self._events or (self._held > self._size and len(self._ring) > 1):
            self._forget()
        self.wake()

    def since(self, revision: int) -> list[Event]:
        """Events after a revision, oldest first; LookupError when some of them are forgotten."""
        if revision < self.floor:
            raise LookupError(revision)
        found: list[Event] = []
        for event in reversed(self._ring):
            if event.revision <= revision:
                break
            found.append(event)
        found.reverse()
        return found

    def compact(self, revision: int) -> None:
        """Forget all events up to a revision, and let nobody go on from before it."""
        self.expire(revision)
        self.floor = max(self.floor, revision)

    def expire(self, revision: int) -> None:
        """Forget events up to a revision; a watch that has read the last of them goes on."""
        while self._ring and self._ring[0].revision <= revision:
            self._forget()

    def close(self) -> None:
        """End all watches: the resource is gone."""
        self.closed = True
        self.wake()

    def changed(self) -> asyncio.Future[None]:
        """A future that is done at the next event (or close); cancel it when no longer wanted."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        future.add_done_callback(self._waiting.discard)
        return future

    def _forget(self) -> None:
        event = self._ring.popleft()
        self._held -= len(event.entry.raw)
        self.floor = event.revision

    def wake(self) -> None:
        """Let all watches look again."""
        for future in tuple(self._waiting):
            if not future.done():
                future.set_result(None)
