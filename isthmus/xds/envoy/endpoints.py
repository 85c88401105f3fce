"""A plan as a ClusterLoadAssignment (traffic-semantics, section 4, row Envoy).

Priority 0 holds every group with a share, its locality weight is its basis points, and only what the plan
counts as healthy is in it, so Envoy's own arithmetic (overprovisioning, whole percents, panic) never matters.
Behind it stand, each in priorities of their own, the standbys step by step, the unhealthy as last resort, and
for affinity the draining. Invariants: priorities are contiguous, a locality appears once in a priority, an
address once in all, and no locality is empty.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from envoy.config.core.v3 import health_check_pb2
from envoy.config.endpoint.v3 import endpoint_pb2

from isthmus.model.names import Locality
from isthmus.model.plan import Backend, Plan, PlanGroup
from isthmus.model.service import AddressFamily
from isthmus.xds.rows import resource_name

IPV4_FIRST = (AddressFamily.IPV4, AddressFamily.IPV6)
MAX_STANDBY_PRIORITIES = 100
"""Envoy takes priorities up to 128; standbys of later steps share the last one."""


def load_assignment(plan: Plan, families: Sequence[AddressFamily] = IPV4_FIRST) -> bytes:
    """The serialised assignment of a service port; no endpoints at all where the plan is empty.

    `families`: which address of a backend is used, in order of preference; one of a family that is not named
    is not used. Raises ValueError for the plan of a service as a whole, which has no port.
    """
    if plan.port is None:
        raise ValueError(f"the plan of {plan.key.service} as a whole has no load assignment")
    assignment = endpoint_pb2.ClusterLoadAssignment(
        cluster_name=resource_name(plan.key.service, plan.port.port)
    )
    seen: set[tuple[str, int]] = set()
    priority = 0
    for groups, shared, health in _priorities(plan):
        localities = _merge(groups, shared, families, seen)
        for locality, (weight, addresses) in localities.items():
            _add(assignment, locality, priority, weight, addresses, health)
        priority += bool(localities)
    return bytes(assignment.SerializeToString(deterministic=True))


def _priorities(plan: Plan) -> Iterable[tuple[Sequence[PlanGroup], bool, int]]:
    """Groups by priority, whether their weights are shares, and how healthy Envoy is to think them."""
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
    if plan.doors.affinity is not None:
        yield plan.draining, False, health_check_pb2.DRAINING


def _merge(
    groups: Sequence[PlanGroup],
    shared: bool,
    families: Sequence[AddressFamily],
    seen: set[tuple[str, int]],
) -> dict[Locality, tuple[int, list[tuple[str, int]]]]:
    """Weight and addresses by locality; without shares a locality weighs as many as it has addresses."""
    weights: dict[Locality, int] = {}
    addresses: dict[Locality, list[tuple[str, int]]] = {}
    for group in groups:
        weights[group.locality] = weights.get(group.locality, 0) + group.basis_points
        found = addresses.setdefault(group.locality, [])
        for backend in group.backends:
            address = _address(backend, families)
            if address is not None and address not in seen:
                seen.add(address)
                found.append(address)
    return {
        locality: (weights[locality] if shared else len(found), found)
        for locality, found in addresses.items()
        if found
    }


def _address(backend: Backend, families: Sequence[AddressFamily]) -> tuple[str, int] | None:
    if backend.port is None:
        return None
    for family in families:
        for address in backend.addresses:
            if (":" in address) == (family is AddressFamily.IPV6):
                return address, backend.port
    return None


def _add(
    assignment: endpoint_pb2.ClusterLoadAssignment,
    locality: Locality,
    priority: int,
    weight: int,
    addresses: Iterable[tuple[str, int]],
    health: int,
) -> None:
    group = assignment.endpoints.add(priority=priority)
    place = group.locality
    place.region, place.zone, place.sub_zone = locality.region, locality.zone, locality.cluster
    group.load_balancing_weight.value = weight
    for address, port in addresses:
        endpoint = group.lb_endpoints.add(health_status=health)
        socket = endpoint.endpoint.address.socket_address
        socket.address, socket.port_value = address, port
