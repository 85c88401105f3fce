"""Levels: latency in calm, shares against the plan, memory."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterator

from loadtests.load.expect.expectation import Expectation, Finding, Seen, expectation
from loadtests.load.samples import quantile

AFTERMATH_SECONDS = 3.0
"""Calm begins so long after a fault is undone."""


@expectation("p99")
class P99(Expectation, frozen=True, kw_only=True):
    """The p99 of calls in calm is at most so many milliseconds."""

    ms: float

    def judge(self, seen: Seen) -> Iterator[Finding]:
        for door, rows in seen.at(self.doors):
            calm = [
                r.ms
                for r in rows
                if not r.why
                and not any(m.began - 0.5 <= r.at < m.undone + AFTERMATH_SECONDS for m in seen.marks)
            ]
            text = f"of {len(calm)} calls in calm"
            yield self.found(quantile(calm, 0.99), self.ms, "ms", door=door, text=text)


@expectation("shares")
class Shares(Expectation, frozen=True, kw_only=True):
    """In every phase with a known plan each cluster serves its share p of n calls.

    Within 5 sqrt(p(1-p)/n) + 0.2 percentage points: doors draw, and draws scatter. The value is the worst
    deviation as a part of that bound.
    """

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


@expectation("memory")
class Memory(Expectation, frozen=True, kw_only=True):
    """Isthmus takes at most so many percent more memory in the last quarter than in the first (medians)."""

    percent: float

    def judge(self, seen: Seen) -> Iterator[Finding]:
        taken = [mb for _, mb in seen.memory]
        quarter = len(taken) // 4
        if not quarter:
            return
        first, last = statistics.median(taken[:quarter]), statistics.median(taken[-quarter:])
        grown = 100 * (last - first) / first
        yield self.found(grown, self.percent, "%", text=f"from {first:.0f} to {last:.0f} MB")


@expectation("counted")
class Counted(Expectation, frozen=True, kw_only=True):
    """The fault counted at most so many of `what`, and at least one."""

    what: str
    most: float

    def judge(self, seen: Seen) -> Iterator[Finding]:
        for mark in seen.marked(self.event):
            value = mark.counts.get(self.what)
            text = self.what if value else f"no {self.what}"
            yield self.found(value or None, self.most, "", event=mark.name, text=text)
