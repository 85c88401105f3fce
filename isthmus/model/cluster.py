"""Clusters of the clusterset."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

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


class Phase(StrEnum):
    """Where an agent's cluster stands on its hub."""

    UNDECIDED = "Undecided"
    """Not known yet: the hub, or the cluster itself, has not answered."""
    MISNAMED = "Misnamed"
    """The cluster is recorded under another id or clusterset: nothing at all is written."""
    TAKEN = "Taken"
    """Another cluster has this id: nothing is written to the hub."""
    NOT_ADMITTED = "NotAdmitted"
    """The hub does not let this cluster register: nothing is written to it."""
    MEMBER = "Member"
    LEAVING = "Leaving"
    """Exports are being withdrawn."""
    LEFT = "Left"
    """Nothing of the cluster is on the hub, and nothing of the clusterset in the cluster."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where the cluster stands; `reason` says what is wrong and what to do, "" where nothing is."""

    phase: Phase
    reason: str = ""

    @property
    def silenced(self) -> str:
        """Why the hub gets no exports of this cluster, "" where it gets them or nothing is decided."""
        speaks = self.phase in (Phase.MEMBER, Phase.UNDECIDED)
        return "" if speaks else self.reason or f"this cluster is {self.phase.value}"

    @property
    def withdrawn(self) -> bool:
        """Whether the cluster offers nothing, because it leaves or has left."""
        return self.phase in (Phase.LEAVING, Phase.LEFT)
