"""A plan as a ClusterLoadAssignment (traffic-semantics, section 4, rows Envoy and gRPC).

Priority 0 holds every group with a share, its locality weight is its basis points, and only what the plan
counts as healthy is in it, so a client's own arithmetic (overprovisioning, whole percents, panic) never
matters. Behind it stand, each in priorities of their own, the standbys step by step, the unhealthy as last
resort, and for affinity the draining. Invariants: priorities are contiguous, a locality appears once in a
priority and has a weight, an address appears once in all, and no locality is empty.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from envoy.config.core.v3 import health_check_pb2
from envoy.config.endpoint.v3 import endpoint_components_pb2, endpoint_pb2

from isthmus.model.names import Locality
from isthmus.model.plan import Backend, Plan, PlanGroup
from isthmus.model.service import AddressFamily
from isthmus.xds.rows import resource_name

IPV4_FIRST = (AddressFamily.IPV4, AddressFamily.IPV6)
MAX_STANDBY_PRIORITIES = 100
"""Envoy takes priorities up to 128; standbys of later steps share the last one."""
LABELS = "isthmus.dev"
"""Where a locality's metadata say which cluster it is and on which tier it stands, for access logs."""


@dataclass(slots=True)
class _Place:
    """A locality within one priority. A host is its addresses, the one to try first in front."""

    tier: int
    weight: int = 0
    hosts: list[tuple[tuple[str, ...], int]] = field(default_factory=list)


def assignment(
    plan: Plan, families: Sequence[AddressFamily] = IPV4_FIRST, *, draining: bool = False, tiers: bool = False
) -> bytes:
    """The serialised assignment of a service port; no endpoints at all where the plan is empty.

    `families`: which addresses of a backend are used, in order of preference; one of a family that is not
    named is not used. `draining`: whether old sessions may still find what drains. `tiers`: whether
    localities are labelled. Raises ValueError for the plan of a service as a whole, which has no port.
    """
    if plan.port is None:
        raise ValueError(f"the plan of {plan.key.service} as a whole has no load assignment")
    made = endpoint_pb2.ClusterLoadAssignment(cluster_name=resource_name(plan.key.service, plan.port.port))
    seen: set[tuple[str, int]] = set()
    priority = 0
    for groups, shared, health in _priorities(plan, draining):
        places = _merge(groups, shared, families, seen)
        for locality, place in places.items():
            group = made.endpoints.add(priority=priority)
            _fill(group, locality, place, health)
            if tiers:
                labels = group.metadata.filter_metadata[LABELS].fields
                labels["cluster"].string_value, labels["tier"].number_value = locality.cluster, place.tier
        priority += bool(places)
    return bytes(made.SerializeToString(deterministic=True))


def _priorities(plan: Plan, draining: bool) -> Iterable[tuple[Sequence[PlanGroup], bool, int]]:
    """Groups by priority, whether their weights are shares, and how healthy a client is to think them."""
    yield plan.shares, True, health_check_pb2.HEALTHY
    steps: dict[int, list[PlanGroup]] = {}
    for group in plan.standby:
        steps.setdefault(group.step, []).append(group)
    ordered = [steps[step] for step in sorted(steps)]
    for groups in ordered[: MAX_STANDBY_PRIORITIES - 1]:
        yield groups, False, health_check_pb2.HEALTHY
    yield (
        [g for groups in ordered[MAX_STANDBY_PRIORITIES - 1 :] for g in groups],
        False,
        health_check_pb2.HEALTHY,
    )
    yield plan.unhealthy, False, health_check_pb2.HEALTHY
    if draining:
        yield plan.draining, False, health_check_pb2.DRAINING


def _merge(
    groups: Sequence[PlanGroup],
    shared: bool,
    families: Sequence[AddressFamily],
    seen: set[tuple[str, int]],
) -> dict[Locality, _Place]:
    """What each locality holds; without shares it weighs as much as it has hosts."""
    places: dict[Locality, _Place] = {}
    for group in groups:
        place = places.setdefault(group.locality, _Place(group.step))
        place.weight += group.basis_points
        for backend in group.backends:
            port = backend.port
            if port is None:
                continue
            fresh = tuple(a for a in _addresses(backend, families) if (a, port) not in seen)
            if fresh:
                seen.update((address, port) for address in fresh)
                place.hosts.append((fresh, port))
    for place in places.values():
        if not shared:
            place.weight = len(place.hosts)
    return {locality: place for locality, place in places.items() if place.hosts}


def _addresses(backend: Backend, families: Sequence[AddressFamily]) -> list[str]:
    """One address of each family, in their order."""
    found = []
    for family in families:
        for address in backend.addresses:
            if (":" in address) == (family is AddressFamily.IPV6):
                found.append(address)
                break
    return found


def _fill(
    group: endpoint_components_pb2.LocalityLbEndpoints, locality: Locality, place: _Place, health: int
) -> None:
    group.locality.region, group.locality.zone = locality.region, locality.zone
    group.locality.sub_zone = locality.cluster
    group.load_balancing_weight.value = place.weight
    for (first, *others), port in place.hosts:
        endpoint = group.lb_endpoints.add(health_status=health).endpoint
        socket = endpoint.address.socket_address
        socket.address, socket.port_value = first, port
        for address in others:
            socket = endpoint.additional_addresses.add().address.socket_address
            socket.address, socket.port_value = address, port
