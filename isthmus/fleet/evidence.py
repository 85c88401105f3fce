"""What one agent believes of a cluster: the hub's word, corrected by what its own probes see.

Silence is not death: a silent cluster of which anything is Up from here is known. Nobody becomes unknown
while this agent's own session with the hub is not live, for then the silence may be ours (architecture,
"Rules that keep it alive", 2 and 3).
"""

from __future__ import annotations

from isthmus.model.cluster import Cluster, ClusterView
from isthmus.model.names import ClusterId


def view(
    cluster: Cluster, *, own: ClusterId, up: bool, session_live: bool, previous: ClusterView | None = None
) -> ClusterView:
    """The cluster as the planner of `own` counts it.

    `up`: some probe of it, canaries included, is Up from here. `previous` is the view before; while the hub
    session is not live it stays, except that being Up still clears `unknown`.
    """
    if cluster.id == own or up:
        unknown = False
    elif session_live:
        unknown = cluster.silent
    else:
        unknown = previous is not None and previous.unknown
    return ClusterView(
        id=cluster.id,
        region=cluster.region,
        labels=cluster.labels,
        unknown=unknown,
        draining=cluster.draining,
    )
