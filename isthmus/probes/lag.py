"""How long the event loop stood still: what passes then for a target's silence is our own.

A clock ticks on the loop; a tick that comes late tells how long nothing else came either. Times are seconds
of the loop's clock.
"""

from __future__ import annotations

import asyncio

TICK = 0.05
PUNCTUAL = 0.01
LIMIT = 0.2


def excuses(*, late: float, timeout: float) -> bool:
    """Whether a timeout says nothing about its target, the loop having stood still for `late` of it."""
    return late > min(LIMIT, timeout / 2)


class Lag:
    """Counts how long the running loop has stood still, from `start` to `stop`."""

    def __init__(self) -> None:
        self._lost = 0.0
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._due = loop.time() + TICK
        self._timer = loop.call_at(self._due, self._tick)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def lost(self, now: float) -> float:
        """Seconds lost since the start, those that end right now included."""
        late = now - self._due
        return self._lost + (late if self._timer is not None and late > PUNCTUAL else 0.0)

    def _tick(self) -> None:
        self._lost = self.lost(asyncio.get_running_loop().time())
        self.start()
