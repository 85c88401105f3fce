"""Names of clusters, services and places."""

from __future__ import annotations

import re
from typing import NamedTuple, NewType

ClusterId = NewType("ClusterId", str)
"""Cluster name (RFC 1123 label) or `name.context` (two labels), unique in the clusterset."""

EndpointId = NewType("EndpointId", str)
"""Stable name of an endpoint, given by its exporter, unique within its cluster and service."""


class ServiceKey(NamedTuple):
    """Namespace and name: the same service in every cluster of the clusterset (namespace sameness)."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class Locality(NamedTuple):
    """Where a group of endpoints stands. A zone is (region, zone); "" is unknown and equals no other."""

    cluster: ClusterId
    region: str
    zone: str

    def __str__(self) -> str:
        return f"{self.cluster}/{self.region}/{self.zone}"


class Vantage(NamedTuple):
    """Where a caller stands; plans are made per vantage class that has callers, never per proxy."""

    region: str
    zone: str
    cluster: ClusterId

    def __str__(self) -> str:
        return f"{self.cluster}/{self.region}/{self.zone}"


_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", re.ASCII)


def is_dns_label(text: str) -> bool:
    """True for an RFC 1123 label: 1..63 lower-case letters, digits and inner dashes."""
    return _LABEL.fullmatch(text) is not None


MAX_CLUSTER_ID = 63
"""KEP-2149 allows 127 characters; an id is also the value of the label
`multicluster.kubernetes.io/source-cluster`, which Kubernetes limits to 63."""


def is_cluster_id(text: str) -> bool:
    """True for one RFC 1123 label or two joined by a dot, MAX_CLUSTER_ID characters at most."""
    parts = text.split(".")
    return len(text) <= MAX_CLUSTER_ID and len(parts) <= 2 and all(is_dns_label(part) for part in parts)
