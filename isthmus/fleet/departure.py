"""How long a cluster counts whose Cluster object is gone from the hub.

Only members are heard: what lies in the namespace of a cluster without a Cluster object counts for nothing.
But a Cluster object can be lost without its cluster having gone (deleted by mistake, a hub restored from an
old backup), and an agent that lives registers again within seconds; so it is given a while. Forgetting a
cluster for good does not wait for this: it removes what the cluster exported, too.
"""

from __future__ import annotations

from collections.abc import Callable

from isthmus.model.names import ClusterId

GRACE_SECONDS = 60.0


class Departures:
    """Since when clusters are gone. `clock` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float], grace: float = GRACE_SECONDS) -> None:
        self._clock = clock
        self._grace = grace
        self._since: dict[ClusterId, float] = {}

    def here(self, cluster: ClusterId) -> None:
        """Its Cluster object is there."""
        self._since.pop(cluster, None)

    def left(self, cluster: ClusterId) -> float:
        """Its Cluster object is gone: for how many seconds it still counts, 0 for no more."""
        now = self._clock()
        left = self._since.setdefault(cluster, now) + self._grace - now
        if left > 0:
            return left
        del self._since[cluster]
        return 0.0
