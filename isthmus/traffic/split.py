"""The arithmetic of shares, in exact fractions (traffic-semantics, section 3).

Invariant: shares sum to exactly 1 (10,000 basis points) whenever a group of the ladder has an endpoint that
is not left out, and are empty otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from isthmus.model.names import ClusterId, Locality
from isthmus.model.plan import TOTAL_BASIS_POINTS
from isthmus.traffic.ladder import Rung

_ZERO = Fraction(0)
_ONE = Fraction(1)


class Counts(NamedTuple):
    """Endpoints of a group, or of several, by state."""

    healthy: int
    unhealthy: int
    draining: int


class Load(NamedTuple):
    """What one step of the ladder can take and what it gets, both 0..1."""

    health: Fraction
    share: Fraction


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Exact shares by group (absent: none) and by step; `panic` when nothing on the ladder was healthy."""

    shares: Mapping[Locality, Fraction]
    loads: tuple[Load, ...]
    panic: bool


class _Part(NamedTuple):
    """One cluster's part of one step; `total` may be scaled by expectedEndpoints."""

    cluster: ClusterId
    healthy: int
    total: Fraction | int
    groups: tuple[tuple[Locality, int], ...]


def split(
    rungs: Sequence[Rung],
    counts: Mapping[Locality, Counts],
    expected: Mapping[ClusterId, int],
    overprovisioning_percent: int,
) -> Split:
    """Divide the whole over the groups of the ladder.

    `counts` holds every group of the service, also those outside the ladder (`expected` compares with a
    cluster's endpoints in all its zones). `expected` lists the clusters that should have a number of them.
    """
    factor = Fraction(overprovisioning_percent, 100)
    inflation = _inflation(counts, expected)
    steps = [_parts(rung, counts, inflation) for rung in rungs]
    health = [_health(sum(p.healthy for p in parts), _total(parts), factor) for parts in steps]
    panic = not any(health)
    if panic:
        counts = {place: Counts(sum(found), 0, 0) for place, found in counts.items()}
        steps = [_parts(rung, counts, {}) for rung in rungs]
        health = [_health(sum(p.healthy for p in parts), _total(parts), factor) for parts in steps]
        if not any(health):
            return Split(shares={}, loads=tuple(Load(_ZERO, _ZERO) for _ in rungs), panic=False)
    loads = fall(health)
    shares: dict[Locality, Fraction] = {}
    for rung, parts, load in zip(rungs, steps, loads, strict=True):
        if load:
            shares.update(_divide(load, parts, rung.weights, factor))
    pairs = tuple(Load(h, share) for h, share in zip(health, loads, strict=True))
    return Split(shares=shares, loads=pairs, panic=panic)


def fall(health: Sequence[Fraction]) -> list[Fraction]:
    """Let the load fall down the ladder: each step takes what it can, scaled up if that is too little."""
    whole = sum(health, _ZERO)
    if not whole:
        return [_ZERO for _ in health]
    if whole < _ONE:
        return [part / whole for part in health]
    left = _ONE
    loads = []
    for part in health:
        taken = min(part, left)
        left -= taken
        loads.append(taken)
    return loads


def basis_points(shares: Mapping[Locality, Fraction]) -> dict[Locality, int]:
    """Round shares that sum to 1 into basis points that sum to 10,000, by largest remainder.

    A positive share gets at least 1, taken from the largest; ties by (cluster, region, zone).
    """
    if not shares:
        return {}
    points: dict[Locality, int] = {}
    remainders: list[tuple[Fraction, Locality]] = []
    for place in sorted(shares):
        exact = shares[place] * TOTAL_BASIS_POINTS
        points[place] = exact.numerator // exact.denominator
        remainders.append((exact - points[place], place))
    remainders.sort(key=lambda entry: -entry[0])
    missing = TOTAL_BASIS_POINTS - sum(points.values())
    for _, place in remainders[:missing]:
        points[place] += 1
    for place, given in points.items():
        if shares[place] and not given:
            largest = min(points, key=lambda candidate: (-points[candidate], candidate))
            if points[largest] > 1:
                points[largest] -= 1
                points[place] = 1
    return points


def _health(healthy: int, total: Fraction | int, factor: Fraction) -> Fraction:
    """H: how much of its part a step or a cluster can take; nothing where there is nothing."""
    if not total:
        return _ZERO
    if healthy * factor.numerator >= total * factor.denominator:  # most: without arithmetic in fractions
        return _ONE
    return factor * healthy / total


def _total(parts: Sequence[_Part]) -> Fraction | int:
    return sum(part.total for part in parts)


def _inflation(
    counts: Mapping[Locality, Counts], expected: Mapping[ClusterId, int]
) -> dict[ClusterId, Fraction]:
    """max(1, N / n) for the clusters that lack expected endpoints, n over all zones."""
    present: dict[ClusterId, int] = {}
    for place, found in counts.items():
        present[place.cluster] = present.get(place.cluster, 0) + found.healthy + found.unhealthy
    return {
        cluster: Fraction(wanted, present[cluster])
        for cluster, wanted in expected.items()
        if 0 < present.get(cluster, 0) < wanted
    }


def _parts(
    rung: Rung, counts: Mapping[Locality, Counts], inflation: Mapping[ClusterId, Fraction]
) -> list[_Part]:
    """The step's groups by cluster."""
    by_cluster: dict[ClusterId, list[Locality]] = {}
    for place in rung.localities:
        by_cluster.setdefault(place.cluster, []).append(place)
    parts = []
    for cluster, places in by_cluster.items():
        groups = tuple((place, counts[place].healthy) for place in places)
        total: Fraction | int = sum(counts[place].healthy + counts[place].unhealthy for place in places)
        healthy = sum(number for _, number in groups)
        if cluster in inflation:
            total *= inflation[cluster]
        parts.append(_Part(cluster, healthy, total, groups))
    return parts


def _divide(
    load: Fraction, parts: Sequence[_Part], weights: Mapping[ClusterId, int], factor: Fraction
) -> dict[Locality, Fraction]:
    """Divide a step's load: clusters by weight times health, a cluster's endpoints evenly."""
    pulls = [
        (weights[part.cluster] if weights else part.total) * _health(part.healthy, part.total, factor)
        for part in parts
    ]
    whole = sum(pulls, _ZERO)
    shares: dict[Locality, Fraction] = {}
    for part, pull in zip(parts, pulls, strict=True):
        if pull:
            each = load * pull / (whole * part.healthy)
            shares.update((place, each * number) for place, number in part.groups if number)
    return shares
