"""From results to up and down: consecutive successes and failures (traffic-semantics, sections 1 and 5).

Invariants: what was never up cannot be down; the first success ever makes up at once, because unknown counts
as up and there is nothing to be careful about; afterwards `fall` failures in a row make down and `rise`
successes in a row make up. A change may be held back from outside (hold-down, distrust) and is made by the
next result of the same kind that is not.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Streak:
    """Where one target stands: its verdict, and how many results in a row are alike."""

    up: bool | None = None
    ok: bool = False
    count: int = 0
    """Consecutive results equal to `ok`."""

    def wavering(self, *, rise: int, fall: int) -> bool:
        """Whether results have begun to speak against the verdict and one more can change it."""
        if self.up is None or self.ok == self.up:
            return False
        return self.count >= (fall if self.up else rise) - 1


UNKNOWN = Streak()


def step(streak: Streak, ok: bool, *, rise: int, fall: int, held: bool = False) -> Streak:
    """The streak after one more result; `held` keeps the verdict as it is while it still counts."""
    count = streak.count + 1 if streak.count and streak.ok == ok else 1
    up = streak.up
    if up is None:
        up = True if ok else None
    elif not held and up != ok and count >= (rise if ok else fall):
        up = ok
    return Streak(up=up, ok=ok, count=count)
