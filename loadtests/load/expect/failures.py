"""How many calls failed, and how many had to."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import ClassVar

from loadtests.load.expect.expectation import (
    LEAST_CALLS,
    Expectation,
    Finding,
    Most,
    Part,
    Positive,
    Seen,
    expectation,
    share_before,
)
from loadtests.load.expect.spans import within, without
from loadtests.load.samples import Sample

_TOLD = 3


@expectation("failures")
class Failures(Expectation, frozen=True, kw_only=True):
    """At most so many calls failed, or at most such a ratio of all where one is given.

    Nine in ten that were due took place, or it fails too. With `event` only while that lasted; never those
    that were under way while one of `apart` lasted.
    """

    most: Most = 0
    ratio: Part | None = None
    apart: tuple[str, ...] = ()

    def judge(self, seen: Seen) -> Iterator[Finding]:
        cut = [(m.began, m.undone) for m in seen.marks if m.name in self.apart]
        lasted = [(m.began, m.undone) for m in seen.marked(self.event)]
        where = f" outside of {', '.join(self.apart)}" if cut else ""
        spans = without(lasted if self.event else [(seen.began, seen.ended)], cut)
        for door, all_of_them in seen.at(self.doors):
            rows = [r for r in all_of_them if within(r.at, spans)]
            rows = [r for r in rows if not any(r.at < began <= r.end for began, _ in cut)]
            bad = [row for row in rows if row.why]
            due = seen.due(door, spans)
            value: float | None = len(bad) if self.ratio is None else len(bad) / max(1, len(rows))
            text = f"{len(bad)} of {len(rows)} calls failed{where}" + causes(bad)
            if not rows or len(rows) < LEAST_CALLS * due:
                value, text = None, f"{len(rows)} calls took place where {due:.0f} were due"
            bound, unit = (self.most, "calls") if self.ratio is None else (self.ratio, "of all")
            yield self.found(value, bound, unit, door=door, event=self.event, text=text)


@expectation("in-flight")
class InFlight(Expectation, frozen=True, kw_only=True):
    """Only calls fail that were on their way to the victims when these were found out, after `seconds`.

    So none that was due later; and no more than the victims' share of those that were due until then, and
    those that were open at the cut. Calls are drawn, so that share has two standard deviations to it.
    `share`: what it was, where no whole cluster is a victim.
    """

    from_beginning: ClassVar[bool] = True

    seconds: Positive
    share: Part | None = None

    def judge(self, seen: Seen) -> Iterator[Finding]:
        for mark in seen.marked(self.event):
            until = min((m.began for m in seen.marks if m.began > mark.began), default=math.inf)
            for door, rows in seen.at(self.doors):
                cut = [r for r in rows if r.at < mark.began < r.end]
                # What is open when the next fault begins was cut by that one.
                due = [r for r in rows if mark.began <= r.at and r.end <= until]
                bad = [r for r in (*cut, *due) if r.why]
                late = [r for r in bad if r.at > mark.began + self.seconds]
                lost = self.share or share_before(rows, mark)
                early = sum(r.at <= mark.began + self.seconds for r in due)
                bound = _drawn_at_most(early, lost) + len(cut) if lost else None
                torn = sum(bool(r.why) for r in cut)
                text = (
                    f"{len(bad)} calls failed: {torn} of {len(cut)} that were open at the cut, {len(late)} "
                    f"due later than {self.seconds:g} s" + causes(bad)
                )
                value = None if late or not due else float(len(bad))
                yield self.found(value, bound, "calls", door=door, event=mark.name, text=text)


@expectation("detection")
class Detection(Expectation, frozen=True, kw_only=True):
    """The ratio of failures while a fault lasts is at most detection time x share / duration."""

    of_victims: ClassVar[bool] = True
    from_beginning: ClassVar[bool] = True

    seconds: Positive

    def judge(self, seen: Seen) -> Iterator[Finding]:
        for mark in seen.marked(self.event):
            for door, rows in seen.at(self.doors):
                during = [r for r in rows if mark.began <= r.at < mark.ended]
                share = share_before(rows, mark)
                bad = [r for r in during if r.why]
                text = f"{len(bad)} of {len(during)} calls failed" + causes(bad)
                if not during or not share:
                    yield self.found(None, None, "of all", door=door, event=mark.name, text=text)
                else:
                    bound = round(self.seconds * share / (mark.ended - mark.began), 4)
                    ratio = len(bad) / len(during)
                    yield self.found(ratio, bound, "of all", door=door, event=mark.name, text=text)


def _drawn_at_most(calls: int, share: float) -> float:
    return float(math.ceil(calls * share + 2 * math.sqrt(calls * share * (1 - share))))


def causes(bad: Sequence[Sample]) -> str:
    """The commonest reasons, to be told after a number of calls that failed; "" where none did."""
    common = Counter(row.why for row in bad).most_common(_TOLD)
    return f" ({', '.join(f'{count} {why}' for why, count in common)})" if common else ""
