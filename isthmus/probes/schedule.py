"""When a target is checked next (traffic-semantics, section 5).

Invariants: jitter only shortens the interval; while failures may still take an Up target down, each is
followed by a check QUICK seconds after its end, so that detection takes at most `interval + timeout * fall +
QUICK * (fall - 1) + QUICK`; a target that is Down already, or whose failures are not believed, is not checked
more often than one that is Up, so that an outage never costs the prober much more than health does.
"""

from __future__ import annotations

from isthmus.probes.hysteresis import Streak

QUICK = 0.1
JITTER = 0.1
"""Largest part of the interval that jitter takes away."""
EARLY = 0.004
"""Checks that are due so soon begin together: less than the jitter of any interval."""
PATIENCE = 1
"""Further quick checks where failures are enough in number and not yet believed."""
SHORTEST = 0.01
"""Least pause between two checks of one target, however long the first took."""


def first(interval: float, chance: float) -> float:
    """Seconds until a new target's first check: newcomers spread over an interval. `chance` in [0, 1)."""
    return interval * chance


def quick(streak: Streak, *, fall: int) -> bool:
    """Whether the next check decides something: the target is Up and has begun to fail."""
    return streak.up is True and not streak.ok and streak.count <= fall + PATIENCE


def next_start(*, began: float, ended: float, interval: float, soon: bool, chance: float) -> float:
    """When the next check begins, on the clock of `began` and `ended`. `chance` in [0, 1)."""
    if soon:
        return ended + QUICK
    return max(began + interval * (1.0 - JITTER * chance), ended + SHORTEST)
