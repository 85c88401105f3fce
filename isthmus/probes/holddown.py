"""Hold-down: an endpoint that flaps comes back later each time (traffic-semantics, section 5).

The first Down within ten minutes adds nothing; each further one doubles the wait, from two seconds to at most
sixty. When it is over no check may have failed for as long, and at most for `QUIET` seconds: else a target at
the edge of its timeout would be up whenever two checks in a row happen to pass. Hold-down delays Up only, so
that there is at most one Up in a hold-down window. Times are seconds of any monotonic clock.
"""

from __future__ import annotations

from dataclasses import dataclass

WINDOW = 600.0
FIRST, LAST = 2.0, 60.0
QUIET = 5.0
_REMEMBERED = 7
"""Downs that matter: the wait after this many is LAST."""


@dataclass(frozen=True, slots=True)
class HoldDown:
    """The recent Downs of one target, the latest last."""

    downs: tuple[float, ...] = ()

    def down(self, now: float) -> HoldDown:
        """After one more Down."""
        recent = [at for at in self.downs if now - at < WINDOW]
        return HoldDown((*recent, now)[-_REMEMBERED:])

    @property
    def until(self) -> float:
        """No Up before this time; the time of the last Down itself where it does not wait."""
        return self.downs[-1] + self._wait if self.downs else float("-inf")

    def holds(self, now: float, failed: float) -> bool:
        """Whether there is no Up now, where the last check that failed ended at `failed`."""
        return now < max(self.until, failed + min(QUIET, self._wait))

    @property
    def _wait(self) -> float:
        further = len(self.downs) - 1
        return min(LAST, FIRST * 2.0 ** (further - 1)) if further > 0 else 0.0


NEVER_DOWN = HoldDown()
