"""Spans of time as (beginning, end) in seconds, the end left out. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Span = tuple[float, float]


def without(spans: Iterable[Span], cut: Sequence[Span]) -> list[Span]:
    """What is left of the spans when all that lies in `cut` is taken away, in order."""
    left = [span for span in spans if span[0] < span[1]]
    for began, ended in cut:
        left = [
            part
            for low, high in left
            for part in ((low, min(high, began)), (max(low, ended), high))
            if part[0] < part[1]
        ]
    return sorted(left)


def total(spans: Iterable[Span]) -> float:
    """Seconds of all of them; they do not overlap."""
    return sum(ended - began for began, ended in spans)


def within(at: float, spans: Iterable[Span]) -> bool:
    return any(began <= at < ended for began, ended in spans)
