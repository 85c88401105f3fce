"""When a fault began, what showed that it bit, and when it was over."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A part of a fault in which each cluster was to serve a known share of all calls (they sum to 1)."""

    began: float
    ended: float
    shares: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """Callers of one cluster (of any where `caller` is "") are served by another."""

    caller: str = ""
    cluster: str

    def __str__(self) -> str:
        return f"from {self.caller} to {self.cluster}" if self.caller else self.cluster

    def taken(self, caller: str, cluster: str) -> bool:
        return cluster == self.cluster and self.caller in ("", caller)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A fault that is over; times on the monotonic clock. It was undone from `ended` until `undone`.

    `victims` are the clusters whose callers were meant to go elsewhere. `evidence` "": nothing showed that it
    bit.
    """

    name: str
    fault: str
    victims: tuple[str, ...]
    began: float
    ended: float
    undone: float
    evidence: str
    phases: tuple[Phase, ...] = ()
    counts: Mapping[str, float] = field(default_factory=dict)
    """What the fault counted while it lasted, by name."""
    leads: tuple[Way, ...] = ()
    """Where callers of some clusters only were meant to leave others."""

    @property
    def ways(self) -> tuple[Way, ...]:
        """The ways that callers were meant to leave."""
        return (*(Way(cluster=victim) for victim in self.victims), *self.leads)

    def reached(self, caller: str, cluster: str) -> bool:
        """Whether a call went a way that callers were meant to leave."""
        return any(way.taken(caller, cluster) for way in self.ways)


@dataclass(slots=True, kw_only=True)
class Trace:
    """What a fault tells while it happens: when it `begins`, that it bit (`saw`), its phases and counts."""

    began: float | None = None
    evidence: str = ""
    phases: list[Phase] = field(default_factory=list)
    counts: dict[str, float] = field(default_factory=dict)

    def begins(self) -> None:
        """All that had to be prepared is done, and from now on callers may feel it."""
        self.began = time.monotonic()

    def saw(self, evidence: str) -> None:
        """What showed that the fault bit, in words with numbers; the last one counts."""
        self.evidence = evidence
