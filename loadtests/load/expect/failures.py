"""How many calls failed, and how many had to."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence

from loadtests.load.expect.expectation import BEFORE_SECONDS, Expectation, Finding, Seen, expectation
from loadtests.load.marks import Mark
from loadtests.load.samples import Sample

_TOLD = 3


@expectation("failures")
class Failures(Expectation, frozen=True, kw_only=True):
    """At most so many calls failed, or at most such a ratio of all where one is given."""

    most: int = 0
    ratio: float | None = None

    def judge(self, seen: Seen) -> Iterator[Finding]:
        for door, rows in seen.at(self.doors):
            if self.event:
                rows = [r for m in seen.marked(self.event) for r in rows if m.began <= r.at < m.undone]
            bad = [row for row in rows if row.why]
            text = f"{len(bad)} of {len(rows)} calls failed" + causes(bad)
            if not rows:
                yield self.found(
                    None, self.most, "calls", door=door, event=self.event, text="no call was made"
                )
            elif self.ratio is not None:
                ratio = len(bad) / len(rows)
                yield self.found(ratio, self.ratio, "of all", door=door, event=self.event, text=text)
            else:
                yield self.found(len(bad), self.most, "calls", door=door, event=self.event, text=text)


@expectation("in-flight")
class InFlight(Expectation, frozen=True, kw_only=True):
    """Only calls fail that were on their way to the victims when these were found out, after `seconds`.

    So none that was due later, and of those before no more than the victims' share (with five standard
    deviations, for calls are drawn). `share`: what it was, where no whole cluster is a victim.
    """

    seconds: float
    share: float | None = None

    def judge(self, seen: Seen) -> Iterator[Finding]:
        for mark in seen.marked(self.event):
            for door, rows in seen.at(self.doors):
                until = min((m.began for m in seen.marks if m.began > mark.began), default=seen.ended)
                bad = [r for r in rows if r.why and mark.began - 1 <= r.at < until]
                late = [r for r in bad if r.at > mark.began + self.seconds]
                bound = lost_at_most(rows, mark, self.seconds, self.share)
                text = f"{len(bad)} calls failed, {len(late)} of them later than {self.seconds:g} s" + causes(
                    bad
                )
                value = None if late or bound is None else float(len(bad))
                yield self.found(value, bound, "calls", door=door, event=mark.name, text=text)


@expectation("detection")
class Detection(Expectation, frozen=True, kw_only=True):
    """The ratio of failures while a fault lasts is at most detection time x share / duration."""

    seconds: float

    def judge(self, seen: Seen) -> Iterator[Finding]:
        for mark in seen.marked(self.event):
            for door, rows in seen.at(self.doors):
                during = [r for r in rows if mark.began <= r.at < mark.ended]
                most = lost_at_most(rows, mark, self.seconds)
                bad = [r for r in during if r.why]
                text = f"{len(bad)} of {len(during)} calls failed" + causes(bad)
                if not during or most is None:
                    yield self.found(None, None, "of all", door=door, event=mark.name, text=text)
                else:
                    ratio, bound = len(bad) / len(during), round(most / len(during), 4)
                    yield self.found(ratio, bound, "of all", door=door, event=mark.name, text=text)


def lost_at_most(
    rows: Sequence[Sample], mark: Mark, seconds: float, share: float | None = None
) -> float | None:
    """How many calls the victims can swallow until they are found out; None when nobody can tell.

    Their share is `share`, or what they served before; n calls were due, np are lost, give or take
    5 sqrt(np(1-p)).
    """
    before = [r for r in rows if mark.began - BEFORE_SECONDS <= r.at < mark.began and not r.why]
    if not before:
        return None
    reached = sum(mark.reached(r.caller, r.cluster) for r in before)
    p = reached / len(before) if share is None else share
    n = sum(mark.began <= r.at <= mark.began + seconds for r in rows)
    return float(math.ceil(n * p + 5 * math.sqrt(n * p * (1 - p))))


def causes(bad: Sequence[Sample]) -> str:
    """The commonest reasons, to be told after a number of calls that failed; "" where none did."""
    common = Counter(row.why for row in bad).most_common(_TOLD)
    return f" ({', '.join(f'{count} {why}' for why, count in common)})" if common else ""
