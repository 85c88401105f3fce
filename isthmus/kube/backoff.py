"""How long to wait after a failure: exponential, capped, jittered."""

from __future__ import annotations

from dataclasses import dataclass

ASKED_SECONDS = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Seconds of the first wait, the longest, and the factor between them."""

    first: float = 0.8
    longest: float = 30.0
    factor: float = 2.0

    def delay(self, failures: int, random: float, asked: float | None = None) -> float:
        """Seconds to wait after `failures` earlier failures in a row; `random` in [0, 1).

        Jitter takes up to half away, so that many do not come back together. What the server asked for
        (Retry-After) is honoured up to two minutes.
        """
        # The exponent is bounded, because a float overflows after some thousand failures.
        full = min(self.longest, self.first * self.factor ** min(failures, 64))
        return max(full * (1.0 - random / 2.0), min(asked or 0.0, ASKED_SECONDS))
