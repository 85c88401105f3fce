"""What an xDS worker counts, as plain numbers where things happen."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

from isthmus.xds.refusal import Ending
from isthmus.xds.rows import ResourceType

ACK_BOUNDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Seconds."""


def _zeros() -> dict[ResourceType, int]:
    return dict.fromkeys(ResourceType, 0)


def _no_times() -> dict[ResourceType, list[float]]:
    return {kind: [0.0] * (len(ACK_BOUNDS) + 2) for kind in ResourceType}


@dataclass(slots=True)
class Counts:
    """What happened since the start, by type."""

    pushes: dict[ResourceType, int] = field(default_factory=_zeros)
    bytes: dict[ResourceType, int] = field(default_factory=_zeros)
    acceptances: dict[ResourceType, int] = field(default_factory=_zeros)
    rejections: dict[ResourceType, int] = field(default_factory=_zeros)
    stale: dict[ResourceType, int] = field(default_factory=_zeros)
    ack_seconds: dict[ResourceType, list[float]] = field(default_factory=_no_times)
    """Each bucket's own count, then the sum."""
    unknown: int = 0
    """Requests for types that are not served."""
    methods: int = 0
    """Calls of methods that are not served."""
    handshakes: int = 0
    """TLS handshakes that were begun."""
    endings: dict[Ending, int] = field(default_factory=lambda: dict.fromkeys(Ending, 0))

    def pushed(self, kind: ResourceType, size: int) -> None:
        """A response of so many bytes was sent."""
        self.pushes[kind] += 1
        self.bytes[kind] += size

    def accepted(self, kind: ResourceType, seconds: float) -> None:
        """A response was accepted so long after it was sent."""
        self.acceptances[kind] += 1
        times = self.ack_seconds[kind]
        times[bisect_left(ACK_BOUNDS, seconds)] += 1
        times[-1] += seconds
