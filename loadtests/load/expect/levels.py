"""Levels: latency in calm, shares against the plan, counts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import ClassVar

from loadtests.load.expect.expectation import Expectation, Finding, Positive, Seen, expectation
from loadtests.load.samples import quantile

AFTERMATH_SECONDS = 2.0
"""Calm begins so long after a fault is undone."""


@expectation("p99")
class P99(Expectation, frozen=True, kw_only=True):
    """The p99 of calls in calm is at most so many milliseconds; who failed took the longest there is."""

    of_times: ClassVar[bool] = True

    ms: Positive

    def judge(self, seen: Seen) -> Iterator[Finding]:
        for door, rows in seen.at(self.doors):
            calm = [
                math.inf if r.why else r.ms
                for r in rows
                if not any(m.began - 0.5 <= r.at < m.undone + AFTERMATH_SECONDS for m in seen.marks)
            ]
            p99, text = quantile(calm, 0.99), f"of {len(calm)} calls in calm"
            if p99 == math.inf:
                p99, text = None, f"more than one in a hundred of {len(calm)} calls in calm failed"
            yield self.found(p99, self.ms, "ms", door=door, text=text)


@expectation("shares")
class Shares(Expectation, frozen=True, kw_only=True):
    """In every phase with a known plan each cluster serves its share p of n calls.

    Within 5 sqrt(p(1-p)/n) + 0.2 percentage points: doors draw, and draws scatter. The value is the worst
    deviation as a part of that bound.
    """

    of_phases: ClassVar[bool] = True

    def judge(self, seen: Seen) -> Iterator[Finding]:
        for mark in seen.marked(self.event):
            for door, rows in seen.at(self.doors):
                worst, text = 0.0, ""
                for phase in mark.phases:
                    during = [r for r in rows if phase.began <= r.at < phase.ended and not r.why]
                    if not during:
                        worst, text = math.inf, "a phase without calls"
                        break
                    counts = Counter(r.cluster for r in during)
                    for cluster in {*counts, *phase.shares}:
                        p = phase.shares.get(cluster, 0.0)
                        bound = 5 * math.sqrt(p * (1 - p) / len(during)) + 0.002
                        off = abs(counts[cluster] / len(during) - p) / bound
                        if off >= worst:
                            share = 100 * counts[cluster] / len(during)
                            worst, text = (
                                off,
                                f"{cluster}: {share:.1f} % of {len(during)}, planned {100 * p:.1f} %",
                            )
                value = worst if mark.phases and math.isfinite(worst) else None
                yield self.found(value, 1.0, "of the bound", door=door, event=mark.name, text=text)


@expectation("counted")
class Counted(Expectation, frozen=True, kw_only=True):
    """The fault counted at most so many of `what`, and at least one."""

    what: str
    most: Positive

    def judge(self, seen: Seen) -> Iterator[Finding]:
        for mark in seen.marked(self.event):
            value = mark.counts.get(self.what)
            text = self.what if value else f"no {self.what}"
            yield self.found(value or None, self.most, "", event=mark.name, text=text)
