"""An expectation: the words that scenarios write, and the judgement on what was seen. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, TypeVar

import msgspec

from loadtests.load.census import Taken
from loadtests.load.marks import Mark
from loadtests.load.samples import Sample

BEFORE_SECONDS = 3.0
"""What was so long before a fault is how it was without it."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """Everything that was seen, times on the monotonic clock.

    `rows` by when they were due, the dead left out; `memory` as (when, megabytes). `watch` is who ran
    meanwhile, `rest` the same before the callers came and when they were gone.
    """

    began: float
    ended: float
    rows: Sequence[Sample]
    marks: Sequence[Mark]
    memory: Sequence[tuple[float, float]] = ()
    others: Sequence[Sample] = ()
    """Calls through the doors of peers, which no expectation is about."""
    watch: Sequence[Taken] = ()
    rest: tuple[Taken, Taken] | None = None

    def at(self, doors: Sequence[str]) -> Iterator[tuple[str, list[Sample]]]:
        """The calls of each of these doors, or of all that were used."""
        for door in doors or sorted(self._by_door):
            yield door, self._by_door.get(door, [])

    @cached_property
    def _by_door(self) -> dict[str, list[Sample]]:
        found: dict[str, list[Sample]] = {}
        for row in self.rows:
            found.setdefault(row.door, []).append(row)
        return found

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


def judge(expect: Sequence[Expectation], seen: Seen) -> list[Finding]:
    """All findings; before any expectation each fault must have been seen to bite."""
    found = [_bit(mark, seen) for mark in seen.marks]
    for wanted in expect:
        answers = list(wanted.judge(seen))
        if not answers:
            nothing = "there was nothing that could have shown it"
            answers = [Finding(expectation=wanted.name, value=None, passed=False, text=nothing)]
        found += answers
    return found


def _bit(mark: Mark, seen: Seen) -> Finding:
    """The fault has evidence of its own, and callers elsewhere went to its victims before."""
    text, passed = mark.evidence or "nothing showed that it bit", bool(mark.evidence)
    for way in mark.ways:
        before = (r for r in seen.rows if mark.began - BEFORE_SECONDS <= r.at < mark.began and not r.why)
        if not any(way.taken(r.caller, r.cluster) and r.caller != r.cluster for r in before):
            whither = f"went {way}" if way.caller else f"went to {way}"
            text, passed = f"nobody {whither} before it, so it could not show anything", False
    return Finding(expectation="bites", event=mark.name, value=None, passed=passed, text=text)
