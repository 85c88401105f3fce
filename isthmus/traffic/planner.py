"""`plan()`: who gets which share of a service port's callers at one vantage (traffic-semantics, 1 to 3).

Invariant: pure and deterministic; the order of inputs never shows in the result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from isthmus.model.cluster import ClusterView
from isthmus.model.health import CheckKey, Verdict
from isthmus.model.names import ClusterId, Locality, Vantage
from isthmus.model.plan import Backend, LeftOut, Plan, PlanGroup, PlanKey, port_id
from isthmus.model.policy import Policy
from isthmus.model.service import Endpoint, Port, Service
from isthmus.traffic.endpointstate import Census, Group, take_census
from isthmus.traffic.ladder import Ladder, build_ladder
from isthmus.traffic.split import Counts, Split, basis_points, split

OUTSIDE = "outside the tiers of the policy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reckoning:
    """A plan with the steps that led to it, for people who ask why."""

    plan: Plan
    policy: Policy
    census: Census
    ladder: Ladder
    split: Split


def plan(
    *,
    service: Service,
    port: Port | None,
    policy: Policy,
    endpoints: Mapping[ClusterId, Sequence[Endpoint]],
    clusters: Mapping[ClusterId, ClusterView],
    verdict: Callable[[CheckKey], Verdict | None],
    vantage: Vantage,
) -> Plan:
    """Decide the shares of one service port (None: of the service as a whole) for callers at `vantage`.

    `endpoints` by source cluster; a cluster missing from `clusters` is a known one. `verdict` is asked for
    every ready endpoint. Never raises: where nothing can serve, the plan is empty.
    """
    return reckon(
        service=service,
        port=port,
        policy=policy,
        endpoints=endpoints,
        clusters=clusters,
        verdict=verdict,
        vantage=vantage,
    ).plan


def reckon(
    *,
    service: Service,
    port: Port | None,
    policy: Policy,
    endpoints: Mapping[ClusterId, Sequence[Endpoint]],
    clusters: Mapping[ClusterId, ClusterView],
    verdict: Callable[[CheckKey], Verdict | None],
    vantage: Vantage,
) -> Reckoning:
    """`plan()`, with its intermediate results."""
    census = take_census(service=service, port=port, endpoints=endpoints, clusters=clusters, verdict=verdict)
    return decide(
        service=service, port=port, policy=policy, census=census, clusters=clusters, vantage=vantage
    )


def decide(
    *,
    service: Service,
    port: Port | None,
    policy: Policy,
    census: Census,
    clusters: Mapping[ClusterId, ClusterView],
    vantage: Vantage,
) -> Reckoning:
    """What follows from the census of a port at one vantage."""
    ladder = build_ladder(policy, vantage, clusters, census.groups)
    counts = {place: _count(group) for place, group in census.groups.items()}
    divided = split(ladder.rungs, counts, _expected(service, policy), policy.overprovisioning_percent)
    groups = _draw(census, ladder, divided)
    made = Plan(
        key=PlanKey(service.key, port_id(port), vantage),
        port=port,
        shares=groups.shares,
        standby=groups.standby,
        unhealthy=groups.unhealthy,
        draining=groups.draining,
        left_out=_left_out(census, ladder.outside),
        panic=divided.panic,
        wavering=census.wavering,
        doors=policy.doors,
        policy="" if policy.origin == "default" else f"{policy.origin} {policy.key}",
        ready_anywhere=census.ready_anywhere,
    )
    return Reckoning(plan=made, policy=policy, census=census, ladder=ladder, split=divided)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Drawn:
    shares: tuple[PlanGroup, ...]
    standby: tuple[PlanGroup, ...]
    unhealthy: tuple[PlanGroup, ...]
    draining: tuple[PlanGroup, ...]


def _draw(census: Census, ladder: Ladder, divided: Split) -> _Drawn:
    """The groups of the ladder, in its order, by what becomes of them."""
    points = basis_points(divided.pulls)
    shares: list[PlanGroup] = []
    standby: list[PlanGroup] = []
    unhealthy: list[PlanGroup] = []
    draining: list[PlanGroup] = []

    def add(to: list[PlanGroup], place: Locality, step: int, backends: tuple[Backend, ...]) -> None:
        if backends:
            share = points.get(place, 0) if to is shares else 0
            to.append(PlanGroup(locality=place, step=step, basis_points=share, backends=backends))

    for step, rung in enumerate(ladder.rungs):
        for place in rung.localities:
            group = census.groups[place]
            counted = shares if points.get(place, 0) else standby
            if divided.panic:
                add(counted, place, step, group.everyone)
                continue
            add(counted, place, step, group.healthy)
            add(unhealthy, place, step, group.unhealthy)
            add(draining, place, step, group.draining)
    return _Drawn(
        shares=tuple(shares), standby=tuple(standby), unhealthy=tuple(unhealthy), draining=tuple(draining)
    )


def _count(group: Group) -> Counts:
    return Counts(len(group.healthy), len(group.unhealthy), len(group.draining))


def _expected(service: Service, policy: Policy) -> dict[ClusterId, int]:
    """Expected endpoints by cluster: the policy's number for all, else each export's own."""
    if policy.expected_endpoints is not None:
        return {export.cluster: policy.expected_endpoints for export in service.exports}
    return {
        export.cluster: export.expected_endpoints
        for export in service.exports
        if export.expected_endpoints is not None
    }


def _left_out(census: Census, outside: Iterable[Locality]) -> tuple[LeftOut, ...]:
    beyond = [
        LeftOut(place.cluster, backend.id, OUTSIDE)
        for place in outside
        for backend in census.groups[place].everyone
    ]
    return tuple(sorted((*census.left_out, *beyond))) if beyond else census.left_out
