"""An expectation: the words that scenarios write, and the judgement on what was seen. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, ClassVar, TypeVar

import msgspec

from loadtests.load.census import Taken
from loadtests.load.expect.spans import Span, total, without
from loadtests.load.marks import Mark, Way
from loadtests.load.samples import Death, Sample

BEFORE_SECONDS = 5.0
"""What was so long before a fault is how it was without it; callers of names ask anew in that time."""
LEAST_CALLS = 0.9
"""Of the calls that were due so many took place, or nobody knows how the others would have fared."""

LOAD = "load"
"""The finding that callers called as often as they were to."""

Positive = Annotated[float, msgspec.Meta(gt=0)]
NotNegative = Annotated[float, msgspec.Meta(ge=0)]
Part = Annotated[float, msgspec.Meta(gt=0, le=1)]
Most = Annotated[int, msgspec.Meta(ge=0)]


@dataclass(frozen=True, kw_only=True)
class Seen:
    """Everything that was seen, times on the monotonic clock.

    `rows` by when they were due, the dead left out: `callers` are the clusters that they stand in, `deaths`
    tell which of them were dead when, `rates` how many calls a second were due at each door. `watch` is
    who ran meanwhile, `rest` the same before the callers came and when they were gone.
    """

    began: float
    ended: float
    rows: Sequence[Sample]
    marks: Sequence[Mark]
    rates: Mapping[str, float] = field(default_factory=dict)
    callers: Sequence[str] = ()
    deaths: Sequence[Death] = ()
    others: Sequence[Sample] = ()
    """Calls through the doors of peers, which no expectation is about."""
    watch: Sequence[Taken] = ()
    rest: tuple[Taken, Taken] | None = None

    def at(self, doors: Sequence[str]) -> Iterator[tuple[str, list[Sample]]]:
        """The calls of each of these doors, or of all that there were to be calls at."""
        for door in doors or sorted({*self.rates, *self._by_door}):
            yield door, self._by_door.get(door, [])

    @cached_property
    def _by_door(self) -> dict[str, list[Sample]]:
        found: dict[str, list[Sample]] = {}
        for row in self.rows:
            found.setdefault(row.door, []).append(row)
        return found

    def due(self, door: str, spans: Sequence[Span]) -> float:
        """How many calls the living had to make there in that time; 0.0 where nobody said how many."""
        each = self.rates.get(door, 0.0) / max(1, len(self.callers))
        dead = {c: [(d.began, d.ended) for d in self.deaths if d.cluster == c] for c in self.callers}
        return sum(each * total(without(spans, dead[caller])) for caller in self.callers)

    def marked(self, event: str) -> list[Mark]:
        """The marks of that event, or of all."""
        return [mark for mark in self.marks if event in ("", mark.name)]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One answer. `value` None: it never came to that. `door` and `event` "": it is about no single one."""

    expectation: str
    door: str = ""
    event: str = ""
    value: float | None
    bound: float | None = None
    unit: str = ""
    passed: bool
    text: str = ""


class Expectation(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`doors` and `event`: empty means all. A door without a single call passes nothing."""

    name: ClassVar[str] = ""
    of_victims: ClassVar[bool] = False
    """It is about those whom callers were meant to leave; not every fault has such."""
    from_beginning: ClassVar[bool] = False
    """`seconds` count from a fault's beginning: one that does not last longer could not show anything."""
    of_times: ClassVar[bool] = False
    """It is about time alone, not about calls that failed or were led astray: time passes while the machine
    stands still as well."""
    of_phases: ClassVar[bool] = False
    """It holds shares against those of a fault's phases; few faults have such."""

    doors: tuple[str, ...] = ()
    event: str = ""

    def judge(self, seen: Seen) -> Iterator[Finding]:
        raise NotImplementedError

    def found(
        self,
        value: float | None,
        bound: float | None,
        unit: str,
        *,
        door: str = "",
        event: str = "",
        text: str = "",
    ) -> Finding:
        """Passed when there is a value and it is at most the bound."""
        return Finding(
            expectation=self.name,
            door=door,
            event=event,
            value=None if value is None else round(value, 4),
            bound=bound,
            unit=unit,
            passed=value is not None and bound is not None and value <= bound,
            text=text,
        )


EXPECTATIONS: dict[str, type[Expectation]] = {}

_E = TypeVar("_E", bound=type[Expectation])


def expectation(name: str) -> Callable[[_E], _E]:
    """Register a kind of expectation under the name that scenarios call it by."""

    def register(kind: _E) -> _E:
        kind.name = name
        EXPECTATIONS[name] = kind
        return kind

    return register


def missed_times_only(findings: Sequence[Finding]) -> bool:
    """Whether something was missed, and nothing but times, or calls for which callers came too late."""
    missed = [finding.expectation for finding in findings if not finding.passed]
    kinds = (EXPECTATIONS.get(name) for name in missed if name != LOAD)
    return bool(missed) and all(kind is not None and kind.of_times for kind in kinds)


def judge(expect: Sequence[Expectation], seen: Seen, *, by_chance: bool = False) -> list[Finding]:
    """All findings; before any expectation the load must have taken place, and each fault have bitten.

    `by_chance`: accidents follow each other as they were drawn, so one may find its work done; it is told,
    and of each kind of fault one at least must have bitten.
    """
    found = [*_called(seen), *_bites(seen, by_chance)]
    for wanted in expect:
        answers = list(wanted.judge(seen))
        if not answers:
            nothing = "there was nothing that could have shown it"
            answers = [Finding(expectation=wanted.name, value=None, passed=False, text=nothing)]
        found += answers
    return found


def went_there(rows: Sequence[Sample], mark: Mark) -> bool:
    """Whether these calls went a way that the fault closed before it began, between two clusters."""
    return any(_went(way, row) for row in _before(rows, mark) for way in mark.ways)


def share_before(rows: Sequence[Sample], mark: Mark) -> float | None:
    """The share of calls that went to victims before the fault began; None when none was answered."""
    before = _before(rows, mark)
    return sum(mark.reached(r.caller, r.cluster) for r in before) / len(before) if before else None


def _before(rows: Sequence[Sample], mark: Mark) -> list[Sample]:
    return [r for r in rows if mark.began - BEFORE_SECONDS <= r.at < mark.began and not r.why]


def _went(way: Way, row: Sample) -> bool:
    return way.taken(row.caller, row.cluster) and row.caller != row.cluster


def _called(seen: Seen) -> Iterator[Finding]:
    """The calls that were due took place, at the door where the most are missing."""
    whole = [(seen.began, seen.ended)]
    doors = [(len(rows), seen.due(door, whole), door) for door, rows in seen.at(())]
    counted = [(max(0.0, 1 - calls / due), calls, due, door) for calls, due, door in doors if due]
    if counted:
        missing, calls, due, door = max(counted)
        yield Finding(
            expectation=LOAD,
            door=door,
            value=round(missing, 4),
            bound=round(1 - LEAST_CALLS, 4),
            unit="missing",
            passed=calls >= LEAST_CALLS * due,
            text=f"{calls} of {due:.0f} calls that were due took place, the fewest of all doors",
        )


def _bites(seen: Seen, by_chance: bool) -> Iterator[Finding]:
    found = [(mark.fault, _bit(mark, seen)) for mark in seen.marks]
    enough = {fault for fault, bite in found if bite.passed} if by_chance else set()
    for fault, bite in found:
        if fault in enough and not bite.passed:
            bite = msgspec.structs.replace(bite, passed=True, text=f"{bite.text}; another {fault} did bite")
        yield bite


def _bit(mark: Mark, seen: Seen) -> Finding:
    """The fault has evidence of its own, and callers elsewhere went to its victims before."""
    text, passed = mark.evidence or "nothing showed that it bit", bool(mark.evidence)
    for way in mark.ways:
        if not any(_went(way, row) for row in _before(seen.rows, mark)):
            whither = f"went {way}" if way.caller else f"went to {way}"
            text, passed = f"nobody {whither} before it, so it could not show anything", False
    return Finding(expectation="bites", event=mark.name, value=None, passed=passed, text=text)
