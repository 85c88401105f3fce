"""Sets of names that clients subscribe to: one object for equal sets, however many streams hold it.

Invariant: what subscriptions keep in memory grows with the distinct sets of the fleet and not with its
streams, and is bounded: in each set, and over all sets of a worker.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from weakref import WeakValueDictionary

from isthmus.xds.refusal import TooManyNames

MOST_NAMES = 50_000
"""In one subscription."""
MOST_IN_ALL = 2_000_000
"""In all distinct sets of one worker."""
LONGEST_NAME = 1024
AGE_SECONDS = 10.0
"""Between two times that the set which was written longest ago is forgotten."""
_RECENT = 8


class Names:
    """A set of names; `block` are the bytes in which a client wrote it, empty where that is not known."""

    __slots__ = ("__weakref__", "_home", "block", "held")

    def __init__(self, home: NameSets, held: frozenset[str], block: bytes) -> None:
        self.held = held
        self.block = block
        self._home = home
        home.total += len(held)

    def __del__(self) -> None:
        self._home.total -= len(self.held)


class NameSets:
    """All sets of names that somebody holds, and those that were written last."""

    def __init__(self, most: int = MOST_NAMES, in_all: int = MOST_IN_ALL) -> None:
        self.most = most
        self.total = 0
        """Names in all sets."""
        self.recent: deque[Names] = deque(maxlen=_RECENT)
        """With their bytes: what one client of a fleet subscribes to is what the next one does."""
        self._in_all = in_all
        self._aged = -math.inf
        self._known: WeakValueDictionary[int, Names] = WeakValueDictionary()
        self.none = self.of(())

    def of(self, names: Iterable[str], block: bytes = b"") -> Names:
        """The one object for these names. Raises TooManyNames for too many."""
        held = names if isinstance(names, frozenset) else frozenset(names)
        key = hash(held)
        found = self._known.get(key)
        if found is not None and (found.held is held or found.held == held):
            if block:
                found.block = found.block or block
                if found not in self.recent:
                    self.recent.append(found)
            return found
        if len(held) > self.most:
            raise TooManyNames(f"more than {self.most} names in one subscription")
        if self.total + len(held) > self._in_all:
            raise TooManyNames(f"the subscriptions of all clients hold {self.total} names: no room for more")
        if any(len(name) > LONGEST_NAME for name in held):
            raise TooManyNames(f"a name of more than {LONGEST_NAME} characters")
        made = Names(self, held, block)
        self._known[key] = made
        if block:
            self.recent.append(made)
        return made

    def tick(self, now: float) -> None:
        """Forgets what nobody has written for a while: a set that nobody holds shall not keep its memory."""
        if now - self._aged >= AGE_SECONDS:
            self._aged = now
            if self.recent:
                self.recent.popleft()
