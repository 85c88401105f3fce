"""From results to up and down: runs of successes and failures (traffic-semantics, sections 1 and 5).

Invariants: what was never up cannot be down; the first success ever makes up at once, because unknown counts
as up and there is nothing to be careful about; afterwards `fall` failures in a row make down and `rise`
successes in a row make up. Failures that are not in a row count too, until CLEAR successes in a row forgive
them: MANY times `fall` of them make down, so that what fails every second time is not up forever. A change
may be held back from outside (hold-down, distrust); the next result of the same kind that is not makes it.
"""

from __future__ import annotations

from dataclasses import dataclass

MANY = 5
CLEAR = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Streak:
    """Where one target stands: its verdict, how many results in a row are alike, how much is not forgiven."""

    up: bool | None = None
    ok: bool = False
    count: int = 0
    """Consecutive results equal to `ok`."""
    faults: int = 0
    """Failures since the last change of verdict, or since so many successes in a row as clear them."""

    def wavering(self, *, rise: int, fall: int) -> bool:
        """Whether results have begun to speak against the verdict and one more can change it."""
        if self.up is None or self.ok == self.up:
            return self.up is True and self.faults >= MANY * fall - 1
        return self.count >= (fall if self.up else rise) - 1


UNKNOWN = Streak()


def step(streak: Streak, ok: bool, *, rise: int, fall: int, held: bool = False) -> Streak:
    """The streak after one more result; `held` keeps the verdict as it is while it still counts.

    The very same one where nothing more can be said, as for nearly every check.
    """
    if ok and streak.up and streak.ok and not streak.faults and streak.count >= max(rise, CLEAR):
        return streak
    count = streak.count + 1 if streak.count and streak.ok == ok else 1
    if ok:
        faults = 0 if count >= CLEAR else streak.faults
        enough = count >= rise
    else:
        faults = streak.faults + 1
        enough = count >= fall or faults >= MANY * fall
    up = streak.up
    if up is None:
        up = True if ok else None
    elif not held and up != ok and enough:
        up = ok
    return Streak(up=up, ok=ok, count=count, faults=0 if up != streak.up else faults)
