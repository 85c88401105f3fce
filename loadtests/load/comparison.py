"""Ours and a peer in the same run: what callers of both noticed of each fault. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from isthmus.demo.disturbance import moved_ms
from isthmus.demo.load import Request
from loadtests.load.doors import DOORS
from loadtests.load.marks import Mark
from loadtests.load.samples import Sample, of_doors

LASTING_SECONDS = 0.5
"""Who felt a fault so shortly before it ended felt it as long as it lasted."""


class Felt(msgspec.Struct, frozen=True, kw_only=True):
    """What callers of a door noticed of a fault. `moved_s` None: they had not moved when it ended.

    They have moved after the last call that failed, was held up, or reached a cluster that was gone.
    """

    event: str
    door: str
    calls: int
    failed: int
    moved_s: float | None


class Beside(msgspec.Struct, frozen=True, kw_only=True):
    """A peer and our door. `missing`: why it was left out, or "". `felt`: by fault, ours and then theirs.

    `cpu_s` is the processor time of its processes, of ours at that door, and of our control beside it.
    """

    peer: str
    about: str
    door: str
    missing: str
    felt: list[Felt]
    cpu_s: tuple[float, float, float]


def felt(rows: Sequence[Sample], marks: Sequence[Mark], peer: str) -> list[Felt]:
    """For each fault that was to move callers, what they noticed at our door, then at the peer's."""
    told = []
    for mark in marks:
        if not mark.victims:
            continue
        for door in (DOORS[peer].beside, peer):
            # What was due before the end and is long on its way counts too: as long as the fault lasted.
            during = [r for r in of_doors(rows, [door]) if mark.began <= r.at < mark.ended]
            requests = [Request(r.at, r.ms, r.caller, door, 0 if r.why else 200, r.cluster) for r in during]
            moved = max(moved_ms(requests, victim, mark.began) for victim in mark.victims) / 1000
            lasted = mark.ended - mark.began - moved <= LASTING_SECONDS
            told.append(
                Felt(
                    event=mark.name,
                    door=door,
                    calls=len(during),
                    failed=sum(bool(r.why) for r in during),
                    moved_s=None if lasted else round(moved, 2),
                )
            )
    return told
