"""Whether an agent may speak for its cluster: who holds the cluster id, and who has left.

Pure. A cluster id belongs to one cluster, told by the uid of its namespace `kube-system`: the first that
claims the Cluster object on the hub has it, until an operator forgets it (KEP-2149: unique in the clusterset,
immutable during membership). An agent that has not claimed it, or has lost it, writes nothing to the hub.
"""

from __future__ import annotations

from dataclasses import dataclass

from isthmus.api import hub, labels, mcs
from isthmus.model.names import ClusterId

ID_PROPERTY = "cluster.clusterset.k8s.io"
SET_PROPERTY = "clusterset.k8s.io"


@dataclass(frozen=True, slots=True, kw_only=True)
class Properties:
    """What the member's ClusterProperties say; None where there is none."""

    cluster: str | None = None
    clusterset: str | None = None
    left: bool = False


def properties(found_id: mcs.ClusterProperty | None, found_set: mcs.ClusterProperty | None) -> Properties:
    """What two objects say together; None for one that does not exist."""
    return Properties(
        cluster=None if found_id is None else found_id.spec.value,
        clusterset=None if found_set is None else found_set.spec.value,
        left=found_id is not None and labels.LEFT in found_id.metadata.annotations,
    )


def misnamed(cluster: ClusterId, clusterset: str, said: Properties) -> str:
    """Why the cluster may not run under this id in this clusterset, "" where it may."""
    if said.cluster is not None and said.cluster != cluster:
        return (
            f"ClusterProperty {ID_PROPERTY} says this cluster is {said.cluster!r}, and --cluster says "
            f"{cluster!r}: run with --cluster {said.cluster}, or let it leave "
            f"(isthmus clusters leave {said.cluster}) and delete the property"
        )
    if said.clusterset is not None and said.clusterset != clusterset:
        return (
            f"ClusterProperty {SET_PROPERTY} says this cluster is a member of {said.clusterset!r}, and "
            f"--clusterset says {clusterset!r}: run with --clusterset {said.clusterset}, or let it leave and "
            "delete the property"
        )
    return ""


def taken(cluster: ClusterId, uid: str, holder: str) -> str:
    """What to say of a cluster id that another cluster holds."""
    return (
        f"cluster id {cluster!r} belongs to another cluster (kube-system uid {holder or 'unknown'}, ours is "
        f"{uid}): nothing is exported. Give this cluster another --cluster; or, where it replaces one that "
        f"is gone: isthmus clusters forget {cluster}"
    )


def may_claim(entry: hub.Cluster | None, uid: str) -> bool:
    """Whether the Cluster object, as it was read, leaves the id to the cluster of that uid."""
    return entry is None or entry.spec.uid in ("", uid)


def asked_to_leave(entry: hub.Cluster | None, uid: str, said: Properties) -> bool:
    """Whether the hub's operator (on an object that is ours) or the cluster's own wants it to leave."""
    return said.left or (entry is not None and entry.spec.uid == uid and entry.spec.leave)
