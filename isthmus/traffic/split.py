"""The arithmetic of shares, exact (traffic-semantics, section 3).

Invariant: shares sum to exactly 1 (10,000 basis points) whenever a group of the ladder has an endpoint that
is not left out, and are empty otherwise. What is done for each group is done in whole numbers: fractions of
several hundred groups would take milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import gcd, lcm
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
    """What groups and steps get, exactly; `panic` when nothing on the ladder was healthy.

    `pulls`: the shares of groups as whole numbers without a common divisor, all above 0 (absent: none).
    """

    pulls: Mapping[Locality, int]
    loads: tuple[Load, ...]
    panic: bool

    @property
    def shares(self) -> dict[Locality, Fraction]:
        """Of groups, 0 to 1."""
        whole = sum(self.pulls.values())
        return {place: Fraction(pull, whole) for place, pull in self.pulls.items()}


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
    health = [_health_of(rung, counts, inflation, factor) for rung in rungs]
    panic = not any(health)
    if panic:
        counts = {place: Counts(sum(found), 0, 0) for place, found in counts.items()}
        inflation = {}
        health = [_health_of(rung, counts, inflation, factor) for rung in rungs]
        if not any(health):
            return Split(pulls={}, loads=tuple(Load(_ZERO, _ZERO) for _ in rungs), panic=False)
    loads = fall(health)
    pairs = tuple(Load(h, share) for h, share in zip(health, loads, strict=True))
    divided = [
        (load, _pulls(_parts(rung, counts, inflation), rung.weights, factor))
        for rung, load in zip(rungs, loads, strict=True)
        if load
    ]
    return Split(pulls=_together(divided), loads=pairs, panic=panic)


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


def basis_points(pulls: Mapping[Locality, int]) -> dict[Locality, int]:
    """Shares as basis points that sum to 10,000, by largest remainder; `pulls` as in `Split`.

    Each gets at least 1, taken from the largest; ties by (cluster, region, zone).
    """
    whole = sum(pulls.values())
    points: dict[Locality, int] = {}
    remainders: list[tuple[int, Locality]] = []
    for place in sorted(pulls):
        points[place], rest = divmod(pulls[place] * TOTAL_BASIS_POINTS, whole)
        remainders.append((rest, place))
    remainders.sort(key=lambda entry: -entry[0])
    missing = TOTAL_BASIS_POINTS - sum(points.values())
    for _, place in remainders[:missing]:
        points[place] += 1
    for place, given in points.items():
        if not given:
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


def _health_of(
    rung: Rung, counts: Mapping[Locality, Counts], inflation: Mapping[ClusterId, Fraction], factor: Fraction
) -> Fraction:
    """H of a step, without dividing it: most steps get no load."""
    healthy = 0
    total: Fraction | int = 0
    for place in rung.localities:
        found = counts[place]
        healthy += found.healthy
        known = found.healthy + found.unhealthy
        total += known * inflation[place.cluster] if place.cluster in inflation else known
    return _health(healthy, total, factor)


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


def _pulls(parts: Sequence[_Part], weights: Mapping[ClusterId, int], factor: Fraction) -> dict[Locality, int]:
    """How a step is divided: clusters by weight times health, a cluster's endpoints evenly."""
    able = [part for part in parts if part.healthy]
    each = [  # what one endpoint pulls
        (weights[part.cluster] if weights else part.total)
        * _health(part.healthy, part.total, factor)
        / part.healthy
        for part in able
    ]
    common = lcm(*(pull.denominator for pull in each))
    found: dict[Locality, int] = {}
    for part, pull in zip(able, each, strict=True):
        whole = pull.numerator * (common // pull.denominator)
        if whole:
            found.update((place, whole * number) for place, number in part.groups if number)
    return found


def _together(divided: Sequence[tuple[Fraction, Mapping[Locality, int]]]) -> dict[Locality, int]:
    """Steps, each with its load and how that is divided, as one division of the whole."""
    scales = [load / sum(pulls.values()) for load, pulls in divided]
    common = lcm(*(scale.denominator for scale in scales))
    whole = {
        place: pull * scale.numerator * (common // scale.denominator)
        for scale, (_, pulls) in zip(scales, divided, strict=True)
        for place, pull in pulls.items()
    }
    divisor = gcd(*whole.values())
    return {place: pull // divisor for place, pull in whole.items()}
