"""Processor time that a virtual machine asked for and its host gave to others."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

MOST_WITHHELD = 0.03
"""With more than that withheld, times say more about the host than about what was measured."""


class Ticks(NamedTuple):
    """Processor time of all processors since the machine began, in clock ticks (`steal` of proc_stat(5))."""

    withheld: int
    every: int

    def part(self, since: Ticks) -> float:
        """The part of all time since then that was withheld; 0 where no time has passed."""
        every = self.every - since.every
        return (self.withheld - since.withheld) / every if every > 0 else 0.0


def ticks(stat: Path = Path("/proc/stat")) -> Ticks:
    """Read them now; a guest's time (after `steal`) is in `user` already."""
    times = [int(word) for word in stat.read_text().split("\n", 1)[0].split()[1:9]]
    return Ticks(withheld=times[7], every=sum(times))
