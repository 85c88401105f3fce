"""Plans as load assignments: every rule of traffic-semantics, section 4, row Envoy."""

from __future__ import annotations

from typing import Any

import pytest
from envoy.config.core.v3 import health_check_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from hypothesis import given
from hypothesis import strategies as st

from isthmus.model.names import ClusterId, EndpointId, Locality, ServiceKey, Vantage
from isthmus.model.plan import Backend, Plan, PlanGroup, PlanKey
from isthmus.model.policy import DoorSettings, SessionAffinity
from isthmus.model.service import AddressFamily, Port, Protocol
from isthmus.xds.envoy import load_assignment

PORT = Port(name="http", protocol=Protocol.TCP, port=80)
KEY = PlanKey(ServiceKey("shop", "web"), "TCP/80", Vantage("eu", "eu-1a", ClusterId("eu-1")))


def backend(address: str, *more: str, port: int | None = 8080) -> Backend:
    return Backend(id=EndpointId(address), cluster=ClusterId("eu-1"), addresses=(address, *more), port=port)


def group(place: str, step: int, points: int, *backends: Backend) -> PlanGroup:
    cluster, region, zone = place.split("/")
    return PlanGroup(
        locality=Locality(ClusterId(cluster), region, zone), step=step, basis_points=points, backends=backends
    )


def rendered(**plan: Any) -> endpoint_pb2.ClusterLoadAssignment:
    return endpoint_pb2.ClusterLoadAssignment.FromString(load_assignment(Plan(key=KEY, port=PORT, **plan)))


def outline(assignment: endpoint_pb2.ClusterLoadAssignment) -> list[tuple[int, str, int, list[str]]]:
    """(priority, sub_zone/region/zone, weight, addresses) by locality."""
    return [
        (
            found.priority,
            f"{found.locality.sub_zone}/{found.locality.region}/{found.locality.zone}",
            found.load_balancing_weight.value,
            [e.endpoint.address.socket_address.address for e in found.lb_endpoints],
        )
        for found in assignment.endpoints
    ]


def test_groups_with_a_share_are_priority_zero_weighted_by_basis_points() -> None:
    found = rendered(
        shares=(
            group("eu-1/eu/a", 0, 7000, backend("10.0.0.1")),
            group("us-1/us/a", 2, 3000, backend("10.1.0.1")),
        )
    )
    assert found.cluster_name == "web.shop.svc.clusterset.local:80"
    assert outline(found) == [(0, "eu-1/eu/a", 7000, ["10.0.0.1"]), (0, "us-1/us/a", 3000, ["10.1.0.1"])]


def test_standbys_follow_step_by_step_and_the_unhealthy_stand_last_as_healthy() -> None:
    found = rendered(
        shares=(group("eu-1/eu/a", 0, 10000, backend("10.0.0.1")),),
        standby=(
            group("eu-2/eu/a", 3, 0, backend("10.1.0.1"), backend("10.1.0.2")),
            group("eu-3/eu/a", 3, 0, backend("10.2.0.1")),
            group("us-1/us/a", 7, 0, backend("10.3.0.1")),
        ),
        unhealthy=(group("eu-1/eu/a", 0, 0, backend("10.0.0.2")),),
        draining=(group("eu-1/eu/a", 0, 0, backend("10.0.0.3")),),
    )
    assert outline(found) == [
        (0, "eu-1/eu/a", 10000, ["10.0.0.1"]),
        (1, "eu-2/eu/a", 2, ["10.1.0.1", "10.1.0.2"]),
        (1, "eu-3/eu/a", 1, ["10.2.0.1"]),
        (2, "us-1/us/a", 1, ["10.3.0.1"]),
        (3, "eu-1/eu/a", 1, ["10.0.0.2"]),
    ]
    states = {e.health_status for g in found.endpoints for e in g.lb_endpoints}
    assert states == {health_check_pb2.HEALTHY}


def test_with_affinity_the_draining_keep_their_sessions_in_the_last_priority() -> None:
    found = rendered(
        shares=(group("eu-1/eu/a", 0, 10000, backend("10.0.0.1")),),
        draining=(group("eu-1/eu/a", 0, 0, backend("10.0.0.3")),),
        doors=DoorSettings(affinity=SessionAffinity(cookie="sid")),
    )
    last = found.endpoints[-1]
    assert last.priority == 1
    assert [e.health_status for e in last.lb_endpoints] == [health_check_pb2.DRAINING]


def test_the_same_locality_in_one_priority_is_merged_and_an_address_appears_once() -> None:
    found = rendered(
        shares=(
            group("eu-1/eu/a", 0, 4000, backend("10.0.0.1")),
            group("eu-1/eu/a", 1, 6000, backend("10.0.0.1"), backend("10.0.0.2")),
        ),
        unhealthy=(group("eu-1/eu/a", 0, 0, backend("10.0.0.2")),),
    )
    assert outline(found) == [(0, "eu-1/eu/a", 10000, ["10.0.0.1", "10.0.0.2"])]


def test_priorities_are_contiguous_when_steps_have_nothing_to_offer() -> None:
    found = rendered(
        standby=(
            group("eu-2/eu/a", 1, 0),
            group("eu-3/eu/a", 2, 0, backend("10.0.0.1", port=None)),
            group("us-1/us/a", 3, 0, backend("10.3.0.1")),
        )
    )
    assert outline(found) == [(0, "us-1/us/a", 1, ["10.3.0.1"])]


def test_an_empty_plan_is_an_empty_assignment() -> None:
    assert outline(rendered()) == []


def test_a_ladder_longer_than_envoy_allows_ends_in_one_shared_priority() -> None:
    standby = tuple(group(f"c{i}/r/z", i, 0, backend(f"10.0.{i // 250}.{i % 250}")) for i in range(300))
    found = rendered(standby=standby)
    assert max(g.priority for g in found.endpoints) <= 128
    assert len(found.endpoints) == 300


def test_the_preferred_family_is_used_and_a_family_not_named_is_not() -> None:
    plan = Plan(
        key=KEY,
        port=PORT,
        shares=(group("eu-1/eu/a", 0, 10000, backend("10.0.0.1", "fd00::1"), backend("10.0.0.2")),),
    )

    def addresses(*families: AddressFamily) -> list[str]:
        found = endpoint_pb2.ClusterLoadAssignment.FromString(load_assignment(plan, families))
        return [a for entry in outline(found) for a in entry[3]]

    assert addresses(AddressFamily.IPV4, AddressFamily.IPV6) == ["10.0.0.1", "10.0.0.2"]
    assert addresses(AddressFamily.IPV6, AddressFamily.IPV4) == ["fd00::1", "10.0.0.2"]
    assert addresses(AddressFamily.IPV6) == ["fd00::1"]


def test_the_plan_of_a_service_as_a_whole_has_no_assignment() -> None:
    with pytest.raises(ValueError):
        load_assignment(Plan(key=KEY._replace(port=""), port=None))


def test_every_worked_case_keeps_its_shares(worked_case: Any) -> None:
    found = endpoint_pb2.ClusterLoadAssignment.FromString(load_assignment(worked_case.plan()))
    first = {place: weight for priority, place, weight, _ in outline(found) if priority == 0}
    assert first == worked_case.shares


GROUPS = st.lists(
    st.builds(
        lambda cluster, zone, step, hosts: group(
            f"{cluster}/r/{zone}", step, 0, *(backend(f"10.0.0.{h}") for h in hosts)
        ),
        st.sampled_from(["a", "b"]),
        st.sampled_from(["1", "2"]),
        st.integers(0, 4),
        st.lists(st.integers(1, 9), max_size=3),
    ),
    max_size=6,
)


@given(GROUPS, GROUPS, GROUPS, st.booleans())
def test_any_plan_is_an_assignment_that_strict_clients_take(
    standby: list[PlanGroup], unhealthy: list[PlanGroup], draining: list[PlanGroup], affinity: bool
) -> None:
    doors = DoorSettings(affinity=SessionAffinity(cookie="sid") if affinity else None)
    found = rendered(
        standby=tuple(standby), unhealthy=tuple(unhealthy), draining=tuple(draining), doors=doors
    )
    entries = outline(found)
    priorities = [priority for priority, *_ in entries]
    assert sorted(set(priorities)) == list(range(len(set(priorities))))
    assert priorities == sorted(priorities)
    assert len({(priority, place) for priority, place, *_ in entries}) == len(entries)
    addresses = [a for entry in entries for a in entry[3]]
    assert len(set(addresses)) == len(addresses)
    assert all(weight > 0 and hosts for _, _, weight, hosts in entries)
