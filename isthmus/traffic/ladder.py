"""The ladder: which groups stand on which step for a caller at one vantage (traffic-semantics, section 2).

Invariant: a group stands on at most one step, the first that matches it; nothing outside the policy's tiers
(and its fallback) is ever on the ladder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import assert_never

from isthmus.model.cluster import ClusterView
from isthmus.model.names import ClusterId, Locality, Vantage
from isthmus.model.policy import Match, Policy, Scope, Tier


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """One step of the ladder that holds at least one group.

    `tier` is the index of the policy's tier, None for the fallback. `weights` empty: a cluster's weight is
    its total on this step. `standby`: the tier's clusters without weight. `deprioritised`: moved here because
    their clusters are unknown.
    """

    tier: int | None
    localities: tuple[Locality, ...]
    weights: Mapping[ClusterId, int]
    standby: bool = False
    deprioritised: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Ladder:
    """Steps in order, and the groups that no step takes."""

    rungs: tuple[Rung, ...]
    outside: tuple[Locality, ...]


def build_ladder(
    policy: Policy,
    vantage: Vantage,
    clusters: Mapping[ClusterId, ClusterView],
    localities: Iterable[Locality],
) -> Ladder:
    """Put every group on its step; a cluster without a ClusterView is a known one without labels."""
    vantage = _placed(vantage, clusters)
    remaining = sorted(localities)
    rungs: list[Rung] = []
    for index, tier in enumerate(policy.tiers):
        takes = matcher(tier.match, clusters, vantage)
        taken = [place for place in remaining if takes(place)]
        if taken:
            rungs.extend(_rungs_of(index, tier, taken))
            gone = set(taken)
            remaining = [place for place in remaining if place not in gone]
    if policy.fallback_any and remaining:
        rungs.append(Rung(tier=None, localities=tuple(remaining), weights={}))
        remaining = []
    if policy.deprioritise_unknown:
        rungs = _deprioritise(rungs, vantage.cluster, clusters)
    return Ladder(rungs=tuple(rungs), outside=tuple(remaining))


def tells_apart(policy: Policy, one: Vantage, other: Vantage) -> bool:
    """Whether callers at two places of one cluster may have different ladders; False: they never do."""
    scopes = {match.scope for tier in policy.tiers for match in (tier.match, tier.match.within) if match}
    if one.region != other.region:
        return not scopes.isdisjoint((Scope.SAME_ZONE, Scope.SAME_REGION))
    return one.zone != other.zone and Scope.SAME_ZONE in scopes


def matcher(
    match: Match, clusters: Mapping[ClusterId, ClusterView], vantage: Vantage
) -> Callable[[Locality], bool]:
    """Whether a tier takes a group; an unknown ("") region or zone is the same as no other."""

    def named(place: Locality) -> bool:
        if place.cluster in match.clusters or (place.region != "" and place.region in match.regions):
            return True
        if match.selector is None:
            return False
        view = clusters.get(place.cluster)
        return match.selector.matches(dict(view.labels) if view is not None else {})

    takes: Callable[[Locality], bool] = named
    if match.scope is not None:
        in_scope = _in_scope(match.scope, vantage)

        def either(place: Locality) -> bool:
            return in_scope(place) or named(place)

        takes = either if match.clusters or match.regions or match.selector is not None else in_scope
    if match.within is None:
        return takes
    within = matcher(match.within, clusters, vantage)
    return lambda place: within(place) and takes(place)


def _in_scope(scope: Scope, vantage: Vantage) -> Callable[[Locality], bool]:
    here, region, zone = vantage.cluster, vantage.region, vantage.zone
    match scope:
        case Scope.SAME_ZONE:
            known = bool(region and zone)
            return lambda place: known and place.region == region and place.zone == zone
        case Scope.SAME_CLUSTER:
            return lambda place: place.cluster == here
        case Scope.SAME_REGION:
            return lambda place: region != "" and place.region == region
        case Scope.ANY:
            return lambda _place: True
        case _:
            assert_never(scope)


def _placed(vantage: Vantage, clusters: Mapping[ClusterId, ClusterView]) -> Vantage:
    """A caller who does not know its region stands in its cluster's."""
    view = clusters.get(vantage.cluster)
    if vantage.region or view is None:
        return vantage
    return vantage._replace(region=view.region)


def _rungs_of(index: int, tier: Tier, taken: list[Locality]) -> list[Rung]:
    """The tier's step, and behind it one of all its standbys."""
    if not tier.weights:
        return [Rung(tier=index, localities=tuple(taken), weights={})]
    weights = {cluster: weight for cluster, weight in tier.weights if weight > 0}
    active = tuple(place for place in taken if place.cluster in weights)
    standby = tuple(place for place in taken if place.cluster not in weights)
    rungs = [
        Rung(tier=index, localities=active, weights=weights),
        Rung(tier=index, localities=standby, weights={}, standby=True),
    ]
    return [rung for rung in rungs if rung.localities]


def _deprioritise(rungs: list[Rung], own: ClusterId, clusters: Mapping[ClusterId, ClusterView]) -> list[Rung]:
    """Move groups of unknown clusters behind the last known step, unless all remotes are unknown."""
    on_ladder = {place.cluster for rung in rungs for place in rung.localities}
    remote = on_ladder - {own}
    unknown = {cluster for cluster in remote if (view := clusters.get(cluster)) is not None and view.unknown}
    if not unknown or unknown == remote:
        return rungs
    known_rungs: list[Rung] = []
    unknown_rungs: list[Rung] = []
    for rung in rungs:
        known = tuple(place for place in rung.localities if place.cluster not in unknown)
        moved = tuple(place for place in rung.localities if place.cluster in unknown)
        if known:
            known_rungs.append(_part(rung, known, deprioritised=False))
        if moved:
            unknown_rungs.append(_part(rung, moved, deprioritised=True))
    return known_rungs + unknown_rungs


def _part(rung: Rung, localities: tuple[Locality, ...], *, deprioritised: bool) -> Rung:
    return Rung(
        tier=rung.tier,
        localities=localities,
        weights=rung.weights,
        standby=rung.standby,
        deprioritised=deprioritised,
    )
