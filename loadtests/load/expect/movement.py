"""How fast callers go elsewhere, come back, and find the latency that they had."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import ClassVar

import msgspec

from isthmus.demo.disturbance import back_ms, level_ms, moved_ms
from isthmus.demo.load import Request
from loadtests.load.expect.expectation import (
    BEFORE_SECONDS,
    Expectation,
    Finding,
    Most,
    NotNegative,
    Positive,
    Seen,
    expectation,
    went_there,
)
from loadtests.load.expect.spans import Span, within, without
from loadtests.load.marks import Mark, Way
from loadtests.load.samples import Sample, quantile

WINDOW_SECONDS = 0.5
_VICTIM = "x"
FEWEST = 30
"""A window of fewer calls proves nothing about a cluster that served none of them."""
STAYS_MS = 100.0
"""A p99 over so much, and over its level, is a relapse: it is what a steady load must stay below.

A machine that runs a whole clusterset stutters, so that single windows of calls may be over it.
"""
LOST_MS = 5_000.0
"""A call that failed counts as the longest there is."""
_NEVER_THERE = "nobody went there by this door before it, so it could not show anything"


@expectation("moves")
class Moves(Expectation, frozen=True, kw_only=True):
    """Callers feel a fault so long: until the last call that failed, was held up, or reached a victim."""

    of_victims: ClassVar[bool] = True
    from_beginning: ClassVar[bool] = True

    seconds: Positive

    def judge(self, seen: Seen) -> Iterator[Finding]:
        for mark in seen.marked(self.event):
            for door, rows in seen.at(self.doors):
                during = [r for r in rows if mark.began <= r.at < mark.ended]
                there = went_there(rows, mark)
                value, text = None, "" if there else _NEVER_THERE
                if during and there:
                    # Whichever forbidden way a call went, it reached the one victim there is.
                    led = [
                        msgspec.structs.replace(
                            r, cluster=_VICTIM if mark.reached(r.caller, r.cluster) else ""
                        )
                        for r in during
                    ]
                    value = moved_ms(_as_requests(led), _VICTIM, mark.began) / 1000
                yield self.found(value, self.seconds, "s", door=door, event=mark.name, text=text)


@expectation("stale")
class Stale(Expectation, frozen=True, kw_only=True):
    """So long into a fault at most does a call begin that is led astray: to a victim, or to nobody at all."""

    of_victims: ClassVar[bool] = True
    from_beginning: ClassVar[bool] = True

    seconds: Positive

    def judge(self, seen: Seen) -> Iterator[Finding]:
        for mark in seen.marked(self.event):
            for door, rows in seen.at(self.doors):
                during = [r for r in rows if mark.began <= r.at < mark.ended]
                astray = [r for r in during if r.why or mark.reached(r.caller, r.cluster)]
                lost = sum(bool(r.why) for r in astray)
                there = went_there(rows, mark)
                value = max((r.at - mark.began for r in astray), default=0.0) if during and there else None
                text = f"{len(astray)} of {len(during)} calls were led astray, {lost} failed"
                text = text if there else _NEVER_THERE
                yield self.found(value, self.seconds, "s", door=door, event=mark.name, text=text)


@expectation("returns")
class Returns(Expectation, frozen=True, kw_only=True):
    """So soon after a fault is undone a victim serves callers of other clusters again."""

    of_times: ClassVar[bool] = True
    of_victims: ClassVar[bool] = True

    seconds: Positive

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
    """So soon after a fault's beginning the p99 is back at its level before, and it stays there.

    It stays: from `seconds` after the beginning, and again from `seconds` after it was undone until the next
    begins, relapses last no longer than `seconds` in all; there is none while the p99 of all those calls is
    at its level, or below STAYS_MS. What other faults disturb meanwhile, for as long each, is theirs.
    `over`: counted from when it is undone, for one that callers are not meant to leave. `calm_ms`: below it a
    p99 is back too, for a fault that takes processor time of the machine that callers share.
    """

    of_times: ClassVar[bool] = True
    from_beginning: ClassVar[bool] = True

    seconds: Positive
    over: bool = False
    calm_ms: NotNegative = 0.0

    def judge(self, seen: Seen) -> Iterator[Finding]:
        for mark in seen.marked(self.event):
            for door, rows in seen.at(self.doors):
                yield self._settled(seen, mark, door, rows)

    def _settled(self, seen: Seen, mark: Mark, door: str, rows: Sequence[Sample]) -> Finding:
        requests = _as_requests(rows)
        until = min((m.began for m in seen.marks if m.began >= mark.undone), default=seen.ended)
        low, high = (mark.undone, until) if self.over else (mark.began, mark.ended)
        before = level_ms(requests, mark.began)
        level = max(self.calm_ms, before or 0.0)
        took = None if before is None else back_ms(requests, low, high, level)
        if took is None:
            whole = "the next began" if self.over else "the fault was undone"
            told = f"p99 was not at {level:.0f} ms again before {whole}"
            text = told if before else "nobody called before it"
            return self.found(None, self.seconds, "s", door=door, event=mark.name, text=text)
        spans = [(mark.undone, until)] if self.over else [(mark.began, mark.ended), (mark.undone, until)]
        bar, disturbed = max(level, STAYS_MS), self._disturbed(seen)
        found = (_relapses(rows, without([span], disturbed), bar) for span in spans)
        relapsed, p99 = max(found)
        text = f"p99 was to be {level:.0f} ms again; then {p99:.0f} ms, with {relapsed:g} s of relapses"
        value = took / 1000 if relapsed <= self.seconds else None
        return self.found(value, self.seconds, "s", door=door, event=mark.name, text=text)

    def _disturbed(self, seen: Seen) -> list[Span]:
        """When p99 may be higher: as each fault begins, and as it ends."""
        beginnings = [(m.began, m.began + self.seconds) for m in seen.marks]
        return beginnings + [(m.ended, m.undone + self.seconds) for m in seen.marks]


def _relapses(rows: Sequence[Sample], spans: Sequence[Span], bar: float) -> tuple[float, float]:
    """For how many seconds p99 was over the bar in these spans, and the p99 of all that was due in them.

    For none, where the latter is not over it.
    """
    taken = [(r.at, LOST_MS if r.why else r.ms) for r in rows if within(r.at, spans)]
    p99 = quantile([ms for _, ms in taken], 0.99) or 0.0
    windows: dict[int, list[float]] = {}
    for at, ms in taken:
        windows.setdefault(int(at / WINDOW_SECONDS), []).append(ms)
    over = sum((quantile(window, 0.99) or 0.0) > bar for window in windows.values())
    return WINDOW_SECONDS * over if p99 > bar else 0.0, p99


@expectation("swings")
class Swings(Expectation, frozen=True, kw_only=True):
    """From before a fault to the load's end a victim is left and joined so often: once each is two."""

    of_victims: ClassVar[bool] = True

    most: Most = 2

    def judge(self, seen: Seen) -> Iterator[Finding]:
        for mark in seen.marked(self.event):
            for door, rows in seen.at(self.doors):
                # Who never went there does not leave, and who is dead does not swing.
                lives = went_there(rows, mark) and any(r.at >= mark.undone and not r.why for r in rows)
                for way in mark.ways:
                    since = mark.began - BEFORE_SECONDS
                    later = [r for r in rows if r.at >= since]
                    served = _served(later, way, since, seen.ended)
                    turns = sum(a != b for a, b in pairwise(served))
                    value = float(turns) if served and lives else None
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
