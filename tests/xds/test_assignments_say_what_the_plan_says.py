"""Whatever there is, what Envoy and gRPC are given adds up to the plan (traffic-semantics, section 6).

Clients draw a locality of priority 0 by its weight and its hosts evenly, so the arithmetic of an assignment
is what they draw; here it is held against the exact shares. The plans come from `plan()`.
"""

from __future__ import annotations

from collections import defaultdict
from fractions import Fraction
from typing import Any

import pytest
from envoy.config.core.v3 import health_check_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from hypothesis import given
from hypothesis import strategies as st
from worked_cases import KEY, PORT, policy_object, service_of

from isthmus.model.cluster import ClusterView
from isthmus.model.health import CheckKey, Verdict
from isthmus.model.names import ClusterId, EndpointId, Vantage
from isthmus.model.plan import TOTAL_BASIS_POINTS, Plan
from isthmus.model.policy import DEFAULT_POLICY, Policy
from isthmus.model.service import Endpoint, EndpointPort, Protocol
from isthmus.traffic.accept import accept
from isthmus.traffic.planner import plan
from isthmus.xds import envoy, grpc

CLUSTERS = ("eu-1", "eu-2", "us-1", "ap-1")
POLICIES: tuple[dict[str, Any], ...] = (
    {},
    {"strategy": "Locality"},
    {"strategy": "FailOver", "targets": [{"cluster": "us-1"}, {"cluster": "eu-2"}]},
    {
        "strategy": "ActiveActive",
        "targets": [{"cluster": "eu-1", "weight": 80}, {"cluster": "eu-2", "weight": 20}],
    },
    {"strategy": "ActiveActive", "targets": [{"cluster": "us-1"}, {"cluster": "ap-1"}]},
    {"tiers": [{"match": {"regions": ["eu"]}}], "fallback": "Any", "sessionAffinity": {"cookie": "sid"}},
    {"strategy": "FailOver", "targets": [{"cluster": "us-1"}], "fallback": "None"},
)
STATES = st.sampled_from(["up", "up", "down", "draining", "gone", "unchecked"])
WORLDS = st.lists(
    st.tuples(st.sampled_from(CLUSTERS), st.sampled_from(["a", "b"]), STATES, st.booleans()), max_size=14
)
RENDERERS = pytest.mark.parametrize(
    "render", [envoy.load_assignment, grpc.load_assignment], ids=["envoy", "grpc"]
)


def planned(world: list[tuple[str, str, str, bool]], number: int) -> tuple[Plan, set[str]]:
    """The plan of a world, and the addresses of everything in it that is not left out."""
    spec = POLICIES[number]
    policy = accept(policy_object(spec), "member") if spec else DEFAULT_POLICY
    assert isinstance(policy, Policy)
    endpoints: dict[ClusterId, list[Endpoint]] = {}
    verdicts: dict[CheckKey, Verdict] = {}
    for index, (name, zone, state, dual) in enumerate(world):
        cluster, identity = ClusterId(name), EndpointId(f"e{index}")
        endpoints.setdefault(cluster, []).append(
            Endpoint(
                id=identity,
                cluster=cluster,
                region=name[:2],
                zone=zone,
                addresses=(f"10.64.0.{index}", f"fd00::{index:x}") if dual else (f"10.64.0.{index}",),
                ports=(EndpointPort(name="http", protocol=Protocol.TCP, port=8080),),
                ready=state in ("up", "down", "unchecked"),
                serving=state != "gone",
                terminating=state == "draining",
            )
        )
        if state in ("up", "down"):
            verdicts[CheckKey(KEY, cluster, identity, "TCP/80")] = Verdict(up=state == "up")
    made = plan(
        service=service_of(*CLUSTERS, port=PORT),
        port=PORT,
        policy=policy,
        endpoints=endpoints,
        clusters={ClusterId(name): ClusterView(id=ClusterId(name), region=name[:2]) for name in CLUSTERS},
        verdict=verdicts.get,
        vantage=Vantage("eu", "a", ClusterId("eu-1")),
    )
    groups = (*made.shares, *made.standby, *made.unhealthy, *made.draining)
    return made, {address for group in groups for b in group.backends for address in b.addresses}


def drawn(assignment: endpoint_pb2.ClusterLoadAssignment) -> dict[str, Fraction]:
    """The probability of each host of priority 0, by its first address."""
    first = [place for place in assignment.endpoints if place.priority == 0]
    whole = sum(place.load_balancing_weight.value for place in first)
    found = {}
    for place in first:
        share = Fraction(place.load_balancing_weight.value, whole) / len(place.lb_endpoints)
        found |= {host.endpoint.address.socket_address.address: share for host in place.lb_endpoints}
    return found


@RENDERERS
@given(WORLDS, st.integers(0, len(POLICIES) - 1))
def test_hosts_are_drawn_by_the_exact_shares_of_their_groups(render: Any, world: Any, number: int) -> None:
    made, _ = planned(world, number)
    found = drawn(endpoint_pb2.ClusterLoadAssignment.FromString(render(made)))
    if not made.shares:
        return
    expected: dict[str, Fraction] = defaultdict(Fraction)
    for group in made.shares:
        for backend in group.backends:
            expected[backend.addresses[0]] += Fraction(
                group.basis_points, TOTAL_BASIS_POINTS * len(group.backends)
            )
    assert sum(expected.values()) == 1
    assert found == expected


@RENDERERS
@given(WORLDS, st.integers(0, len(POLICIES) - 1))
def test_nothing_is_given_that_the_plan_leaves_out_and_nothing_twice(
    render: Any, world: Any, number: int
) -> None:
    made, allowed = planned(world, number)
    assignment = endpoint_pb2.ClusterLoadAssignment.FromString(render(made))
    hosts = [host.endpoint for place in assignment.endpoints for host in place.lb_endpoints]
    addresses = [host.address.socket_address.address for host in hosts]
    addresses += [more.address.socket_address.address for host in hosts for more in host.additional_addresses]
    assert len(addresses) == len(set(addresses))
    assert set(addresses) <= allowed


@given(WORLDS, st.integers(0, len(POLICIES) - 1))
def test_a_strict_client_takes_every_assignment(world: Any, number: int) -> None:
    """gRFC A27 and A56: no gap between priorities, a weight everywhere, a locality once in a priority."""
    made, _ = planned(world, number)
    assignment = endpoint_pb2.ClusterLoadAssignment.FromString(grpc.load_assignment(made))
    priorities = sorted({place.priority for place in assignment.endpoints})
    assert priorities == list(range(len(priorities)))
    seen = [(place.priority, str(place.locality)) for place in assignment.endpoints]
    assert len(seen) == len(set(seen))
    assert all(place.load_balancing_weight.value and place.lb_endpoints for place in assignment.endpoints)
    states = {host.health_status for place in assignment.endpoints for host in place.lb_endpoints}
    assert states <= {health_check_pb2.HEALTHY}
