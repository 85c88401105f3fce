"""What callers saw, one row for each call, in columns: half an hour of load fits into some ten megabytes."""

from __future__ import annotations

import math
from array import array
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

import msgspec


class Sample(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A call as its caller saw it. `at`: monotonic seconds when it was due, `ms` from then to its end.

    `cluster` served it, or is where one that failed was led (an answer, an address or the library said so);
    "" where nobody can say.
    `why` "": it was answered; else what went wrong, in few words (the set of them is small).
    """

    at: float
    ms: float
    door: str
    caller: str
    cluster: str
    why: str = ""

    @property
    def end(self) -> float:
        return self.at + self.ms / 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """Callers of a cluster that were dead themselves, from and until on the monotonic clock."""

    cluster: str
    began: float
    ended: float = math.inf


class Samples:
    """Rows in the order in which they arrived."""

    def __init__(self, rows: Iterable[Sample] = ()) -> None:
        self._at = array("d")
        self._ms = array("f")
        self._words = array("H")
        """Four to a row: door, caller, cluster, why."""
        self._names: list[str] = []
        self._numbers: dict[str, int] = {}
        for row in rows:
            self.add(row)

    def __len__(self) -> int:
        return len(self._at)

    def __iter__(self) -> Iterator[Sample]:
        names = self._names
        for row, (at, ms) in enumerate(zip(self._at, self._ms, strict=True)):
            door, caller, cluster, why = self._words[4 * row : 4 * row + 4]
            yield Sample(at, ms, names[door], names[caller], names[cluster], names[why])

    def add(self, row: Sample) -> None:
        self._at.append(row.at)
        self._ms.append(row.ms)
        for word in (row.door, row.caller, row.cluster, row.why):
            self._words.append(self._number(word))

    def _number(self, word: str) -> int:
        found = self._numbers.get(word)
        if found is None:
            found = self._numbers[word] = len(self._names)
            self._names.append(word)
        return found

    def living(self, deaths: Sequence[Death]) -> list[Sample]:
        """Those whose caller was not dead for a moment of them, by when they were due."""
        kept = [row for row in self if not _dead(row, deaths)]
        return sorted(kept, key=lambda row: row.at)


def _dead(row: Sample, deaths: Sequence[Death]) -> bool:
    return any(d.cluster == row.caller and row.at < d.ended and row.end > d.began for d in deaths)


def of_doors(rows: Iterable[Sample], doors: Collection[str]) -> list[Sample]:
    return [row for row in rows if row.door in doors]


def quantile(values: Sequence[float], share: float) -> float | None:
    """Nearest rank; None of nothing."""
    ordered = sorted(values)
    return ordered[math.ceil(share * len(ordered)) - 1] if ordered else None
