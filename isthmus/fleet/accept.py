"""A hub Cluster object as a value, or why it is not one. The object's name is the cluster id."""

from __future__ import annotations

import re

from isthmus.api import hub
from isthmus.model.cluster import Cluster
from isthmus.model.names import ClusterId, is_cluster_id
from isthmus.model.refusal import Refused

UNKNOWN = "Unknown"

_REGION = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?", re.ASCII)


def cluster(obj: hub.Cluster) -> Cluster | Refused:
    """The member that the object describes; a state that nobody has judged yet is not silence."""
    name = obj.metadata.name
    if not is_cluster_id(name):
        return Refused(
            reason="InvalidClusterId",
            message="metadata.name: must be one or two DNS labels joined by a dot, 63 characters at most",
        )
    if not _REGION.fullmatch(obj.spec.region):
        return Refused(reason="InvalidRegion", message="spec.region: must be a legal label value")
    return Cluster(
        id=ClusterId(name),
        region=obj.spec.region,
        labels=tuple(sorted(obj.metadata.labels.items())),
        silent=obj.status.state == UNKNOWN,
        draining=obj.spec.drain,
    )
