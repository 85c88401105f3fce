"""Clusters of the clusterset."""

from __future__ import annotations

from dataclasses import dataclass

from isthmus.model.names import ClusterId


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """A member as its hub object and leases say. `silent` is state Unknown: silence, not death."""

    id: ClusterId
    region: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    silent: bool = False
    draining: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterView:
    """A cluster as the planner counts it. `unknown`: silent, and nothing of it is Up from here."""

    id: ClusterId
    region: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    unknown: bool = False
    draining: bool = False
