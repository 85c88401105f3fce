"""Names of clusters, services and places."""

from __future__ import annotations

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
