"""How fast callers go elsewhere, come back, and find the latency that they had."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import msgspec

from isthmus.demo.disturbance import moved_ms, settled_ms
from isthmus.demo.load import Request
from loadtests.load.expect.expectation import BEFORE_SECONDS, Expectation, Finding, Seen, expectation
from loadtests.load.marks import Mark, Way
from loadtests.load.samples import Sample

WINDOW_SECONDS = 0.5
_VICTIM = "x"
FEWEST = 30
"""A window of fewer calls proves nothing about a cluster that served none of them."""


@expectation("moves")
class Moves(Expectation, frozen=True, kw_only=True):
    """Callers feel a fault so long: until the last call that failed, was held up, or reached a victim."""

    seconds: float

    def judge(self, seen: Seen) -> Iterator[Finding]:
        for mark in seen.marked(self.event):
            for door, rows in seen.at(self.doors):
                during = [r for r in rows if mark.began <= r.at < mark.ended]
                value = None
                if during and mark.ways:
                    # Whichever forbidden way a call went, it reached the one victim there is.
                    led = [
                        msgspec.structs.replace(r, cluster="x" if mark.reached(r.caller, r.cluster) else "")
                        for r in during
                    ]
                    value = moved_ms(_as_requests(led), _VICTIM, mark.began) / 1000
                yield self.found(value, self.seconds, "s", door=door, event=mark.name)


@expectation("stale")
class Stale(Expectation, frozen=True, kw_only=True):
    """So long into a fault at most does a call begin that is led to a victim: answers are no older."""

    seconds: float

    def judge(self, seen: Seen) -> Iterator[Finding]:
        for mark in seen.marked(self.event):
            for door, rows in seen.at(self.doors):
                during = [r for r in rows if mark.began <= r.at < mark.ended]
                led = [r.at - mark.began for r in during if mark.reached(r.caller, r.cluster)]
                lost = sum(bool(r.why) for r in during)
                value = max(led, default=0.0) if during and mark.ways else None
                text = f"{len(led)} of {len(during)} calls were led there, {lost} failed"
                yield self.found(value, self.seconds, "s", door=door, event=mark.name, text=text)


@expectation("returns")
class Returns(Expectation, frozen=True, kw_only=True):
    """So soon after a fault is undone a victim serves callers of other clusters again."""

    seconds: float

    def judge(self, seen: Seen) -> Iterator[Finding]:
        for mark in seen.marked(self.event):
            for door, rows in seen.at(self.doors):
                back = [_back(rows, mark, way) for way in mark.ways]
                never = not back or None in back
                value = None if never else max(b for b in back if b is not None)
                text = "" if value is not None else "not before the load ended"
                yield self.found(value, self.seconds, "s", door=door, event=mark.name, text=text)


def _back(rows: Sequence[Sample], mark: Mark, way: Way) -> float | None:
    since = (
        r.end - mark.undone
        for r in rows
        if r.at >= mark.undone and way.taken(r.caller, r.cluster) and r.caller != r.cluster and not r.why
    )
    return min(since, default=None)


@expectation("settles")
class Settles(Expectation, frozen=True, kw_only=True):
    """So soon after a fault's beginning the p99 is back at its level before, while it still lasts."""

    seconds: float

    def judge(self, seen: Seen) -> Iterator[Finding]:
        for mark in seen.marked(self.event):
            for door, rows in seen.at(self.doors):
                took = settled_ms(_as_requests(rows), mark.began, mark.ended)
                value = None if took is None else took / 1000
                text = "" if value is not None else "not before the fault was undone"
                yield self.found(value, self.seconds, "s", door=door, event=mark.name, text=text)


@expectation("swings")
class Swings(Expectation, frozen=True, kw_only=True):
    """From before a fault to the load's end a victim is left and joined so often: once each is two."""

    most: int = 2

    def judge(self, seen: Seen) -> Iterator[Finding]:
        for mark in seen.marked(self.event):
            for door, rows in seen.at(self.doors):
                for way in mark.ways:
                    since = mark.began - BEFORE_SECONDS
                    later = [r for r in rows if r.at >= since]
                    served = _served(later, way, since, seen.ended)
                    turns = sum(a != b for a, b in pairwise(served))
                    value = float(turns) if served else None
                    text = f"{way} was left or joined {turns} times"
                    yield self.found(value, self.most, "turns", door=door, event=mark.name, text=text)


def _served(rows: Sequence[Sample], way: Way, began: float, ended: float) -> list[bool]:
    """Whether any call of others went this way, window by window; small ones are joined with the next."""
    callers = {way.caller} if way.caller else {r.caller for r in rows}
    windows: list[bool] = []
    taken: list[Sample] = []
    at, position = began, 0
    while at < ended:
        at += WINDOW_SECONDS
        while position < len(rows) and rows[position].at < at:
            row = rows[position]
            if row.caller in callers and row.caller != way.cluster and not row.why:
                taken.append(row)
            position += 1
        if len(taken) >= FEWEST:
            windows.append(any(r.cluster == way.cluster for r in taken))
            taken = []
    return windows


def _as_requests(rows: Sequence[Sample]) -> list[Request]:
    return [Request(r.at, r.ms, r.caller, r.door, 0 if r.why else 200, r.cluster) for r in rows]
