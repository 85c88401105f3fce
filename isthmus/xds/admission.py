"""How often streams may be opened: by one node, and by all of them.

Invariant: one client that reconnects in a loop is refused before it costs a rendering or a response, and a
fleet that reconnects at once is let in. Buckets are bounded: the least recent are forgotten.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from isthmus.xds.refusal import TooOften

MOST_BUCKETS = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """So many at once, and then so many a second."""

    burst: float
    per_second: float


class Buckets:
    """Tokens by key. `clock` gives seconds."""

    def __init__(self, rate: Rate, clock: Callable[[], float]) -> None:
        self._rate = rate
        self._clock = clock
        self._full: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def take(self, key: Hashable) -> bool:
        """Whether there is a token; it is gone then."""
        now = self._clock()
        left, since = self._full.pop(key, (self._rate.burst, now))
        left = min(self._rate.burst, left + (now - since) * self._rate.per_second)
        if len(self._full) >= MOST_BUCKETS:
            self._full.popitem(last=False)
        self._full[key] = (max(0.0, left - 1) if left >= 1 else left, now)
        return left >= 1


class Admission:
    """Counts streams as they are opened."""

    def __init__(self, node: Rate, all_nodes: Rate, clock: Callable[[], float]) -> None:
        self._nodes = Buckets(node, clock)
        self._all = Buckets(all_nodes, clock)

    def admit(self, node: str, peer: str) -> None:
        """Lets a stream in. Raises TooOften."""
        if not self._nodes.take((node, peer)):
            raise TooOften(f"node {node} opens streams too often: back off")
        if not self._all.take(None):
            raise TooOften("too many streams are opened at once: back off and try again")
