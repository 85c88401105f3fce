"""Section 1 of traffic-semantics: the state of every endpoint, canaries, drain, and why one is left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from worked_cases import KEY, PORT, service_of

from isthmus.model.cluster import ClusterView
from isthmus.model.health import CheckKey, Verdict
from isthmus.model.names import ClusterId, EndpointId, Locality, ServiceKey, Vantage
from isthmus.model.plan import Backend, Plan
from isthmus.model.policy import DEFAULT_POLICY, DoorSettings, Policy
from isthmus.model.service import Endpoint, EndpointPort, Port, Protocol, Service
from isthmus.traffic import plan
from isthmus.traffic.endpointstate import Census, take_census

UDP = Port(name="dns", protocol=Protocol.UDP, port=53)
LISTENS = (
    EndpointPort(name="http", protocol=Protocol.TCP, port=8080),
    EndpointPort(name="dns", protocol=Protocol.UDP, port=5353),
)
A = ClusterId("a")
UP, DOWN = Verdict(up=True), Verdict(up=False)
CANARY_UP, CANARY_DOWN = Verdict(up=True, canary=True), Verdict(up=False, canary=True)


def pod(name: str, **changes: Any) -> Endpoint:
    plain = Endpoint(
        id=EndpointId(name), cluster=A, region="eu", zone="z", addresses=("10.64.0.1",), ports=LISTENS
    )
    return msgspec.structs.replace(plain, **changes)


def verdicts(port: str = "TCP/80", **named: Verdict) -> dict[CheckKey, Verdict]:
    return {CheckKey(KEY, A, EndpointId(name), port): verdict for name, verdict in named.items()}


def census(
    pods: Sequence[Endpoint],
    said: Mapping[CheckKey, Verdict] | None = None,
    *,
    service: Service | None = None,
    port: Port | None = PORT,
    views: Mapping[ClusterId, ClusterView] | None = None,
) -> Census:
    return take_census(
        service=service or service_of("a"),
        port=port,
        endpoints={A: pods},
        clusters=views or {},
        verdict=(said or {}).get,
    )


def states(found: Census) -> dict[str, str]:
    rows: dict[str, str] = {entry.endpoint: "left out" for entry in found.left_out}
    for group in found.groups.values():
        named: list[tuple[str, tuple[Backend, ...]]] = [
            ("healthy", group.healthy),
            ("unhealthy", group.unhealthy),
            ("draining", group.draining),
        ]
        rows |= {backend.id: state for state, backends in named for backend in backends}
    return rows


def two_ports(**changes: Any) -> Service:
    service = service_of("a")
    exports = tuple(replace(export, ports=(PORT, UDP)) for export in service.exports)
    return replace(service, ports=(PORT, UDP), exports=exports, **changes)


@pytest.mark.parametrize(
    ("conditions", "verdict", "state"),
    [
        ({}, None, "healthy"),
        ({}, UP, "healthy"),
        ({}, Verdict(up=None), "healthy"),
        ({}, DOWN, "unhealthy"),
        ({"ready": False, "serving": True, "terminating": True}, None, "draining"),
        ({"ready": False, "serving": True, "terminating": True}, DOWN, "draining"),
        ({"ready": True, "serving": True, "terminating": True}, UP, "healthy"),
        ({"ready": False, "serving": True, "terminating": False}, UP, "left out"),
        ({"ready": False, "serving": False, "terminating": True}, UP, "left out"),
        ({"ready": False, "serving": False, "terminating": False}, UP, "left out"),
    ],
)
def test_the_first_row_that_fits_is_the_state(
    conditions: dict[str, bool], verdict: Verdict | None, state: str
) -> None:
    said = {} if verdict is None else verdicts(one=verdict)
    assert states(census([pod("one", **conditions)], said)) == {"one": state}


@pytest.mark.parametrize("drained", ["export", "cluster"])
def test_a_drain_makes_all_that_serves_draining_whatever_probes_say(drained: str) -> None:
    service = service_of("a")
    if drained == "export":
        service = replace(service, exports=(replace(service.exports[0], draining=True),))
    views = {A: ClusterView(id=A, draining=drained == "cluster")}
    pods = [pod("up"), pod("down"), pod("late", ready=False), pod("gone", ready=False, serving=False)]
    found = census(pods, verdicts(up=UP, down=DOWN), service=service, views=views)
    assert states(found) == {"up": "draining", "down": "draining", "late": "draining", "gone": "left out"}


def test_an_endpoint_counts_only_where_its_cluster_exposes_the_port() -> None:
    found = take_census(
        service=service_of("a"),
        port=UDP,
        endpoints={A: [pod("a1")], ClusterId("b"): [pod("b1", cluster="b")]},
        clusters={},
        verdict={}.get,
    )
    assert [tuple(entry) for entry in found.left_out] == [
        ("a", "a1", "its cluster does not expose port dns (UDP/53)"),
        ("b", "b1", "its cluster does not export the service"),
    ]
    assert not found.groups
    assert not found.ready_anywhere


def test_an_endpoint_that_does_not_listen_or_has_no_address_is_left_out_with_the_reason() -> None:
    found = census([pod("deaf", ports=()), pod("nowhere", addresses=()), pod("late", ready=False)])
    assert [(entry.endpoint, entry.reason) for entry in found.left_out] == [
        ("deaf", "does not listen on port http (TCP/80)"),
        ("late", "not ready in Kubernetes"),
        ("nowhere", "has no address"),
    ]
    assert found.ready_anywhere


def test_all_canaries_down_speak_for_the_endpoints_without_a_verdict_of_their_own() -> None:
    pods = [pod("c1"), pod("c2"), pod("own"), pod("mute"), pod("new")]
    said = verdicts(c1=CANARY_DOWN, c2=CANARY_DOWN, own=UP, new=Verdict(up=None))
    assert states(census(pods, said)) == {
        "c1": "unhealthy",
        "c2": "unhealthy",
        "own": "healthy",
        "mute": "unhealthy",
        "new": "unhealthy",
    }


@pytest.mark.parametrize("second", [CANARY_UP, Verdict(up=None, canary=True)])
def test_one_canary_that_is_not_down_keeps_the_others_from_being_inferred(second: Verdict) -> None:
    pods = [pod("c1"), pod("c2"), pod("mute")]
    found = states(census(pods, verdicts(c1=CANARY_DOWN, c2=second)))
    assert found == {"c1": "unhealthy", "c2": "healthy", "mute": "healthy"}


def test_canaries_speak_for_their_own_network_only() -> None:
    pods = [pod("c1"), pod("mute"), pod("far", network="vpc-2")]
    found = states(census(pods, verdicts(c1=CANARY_DOWN)))
    assert found == {"c1": "unhealthy", "mute": "unhealthy", "far": "healthy"}


def test_a_canary_that_is_no_longer_ready_is_no_evidence() -> None:
    pods = [pod("c1", ready=False), pod("mute")]
    assert states(census(pods, verdicts(c1=CANARY_DOWN))) == {"c1": "left out", "mute": "healthy"}


def test_a_port_that_nobody_probes_takes_over_what_canaries_of_other_ports_say() -> None:
    pods = [pod("c1"), pod("mute")]
    dead = census(pods, verdicts(c1=CANARY_DOWN), service=two_ports(), port=UDP)
    assert states(dead) == {"c1": "unhealthy", "mute": "unhealthy"}
    alive = census(pods, verdicts(c1=CANARY_UP), service=two_ports(), port=UDP)
    assert states(alive) == {"c1": "healthy", "mute": "healthy"}


def test_verdicts_of_another_port_that_are_no_canaries_say_nothing() -> None:
    found = census([pod("one")], verdicts(one=DOWN), service=two_ports(), port=UDP)
    assert states(found) == {"one": "healthy"}


def test_for_the_service_as_a_whole_an_endpoint_is_down_if_every_probed_port_is() -> None:
    pods = [pod("both"), pod("half"), pod("single"), pod("free")]
    said = verdicts(both=DOWN, half=DOWN, single=DOWN) | verdicts("UDP/53", both=DOWN, half=UP)
    found = states(census(pods, said, service=two_ports(), port=None))
    assert found == {"both": "unhealthy", "half": "healthy", "single": "unhealthy", "free": "healthy"}


def test_an_endpoint_without_a_region_stands_in_its_clusters() -> None:
    views = {A: ClusterView(id=A, region="eu-west")}
    found = census([pod("one", region="", zone=""), pod("two", region="eu")], views=views)
    assert set(found.groups) == {Locality(A, "eu-west", ""), Locality(A, "eu", "z")}


@pytest.mark.parametrize(("wavering", "expected"), [(True, True), (False, False)])
def test_a_plan_wavers_while_a_verdict_does(wavering: bool, expected: bool) -> None:
    assert planned([pod("one")], verdicts(one=Verdict(up=True, wavering=wavering))).wavering is expected


def test_verdicts_of_a_drained_cluster_change_nothing_and_do_not_waver() -> None:
    views = {A: ClusterView(id=A, draining=True)}
    assert not census([pod("one")], verdicts(one=Verdict(up=True, wavering=True)), views=views).wavering


def test_a_plan_names_the_policy_in_force_and_carries_its_doors() -> None:
    doors = DoorSettings(dns_answer="Endpoints")
    ruled = Policy(key=ServiceKey("shop", "slow"), origin="hub", doors=doors)
    made = planned([pod("one")], policy=ruled)
    assert (made.policy, made.doors) == ("hub shop/slow", doors)
    assert planned([pod("one")]).policy == ""


def test_in_panic_what_a_later_step_has_stands_by_with_all_its_backends() -> None:
    far = pod("far", cluster=ClusterId("b"), region="us")
    said = {CheckKey(KEY, far.cluster, far.id, "TCP/80"): DOWN, **verdicts(one=DOWN)}
    made = plan(
        service=service_of("a", "b"),
        port=PORT,
        policy=DEFAULT_POLICY,
        endpoints={A: [pod("one")], far.cluster: [far]},
        clusters={},
        verdict=said.get,
        vantage=Vantage("eu", "z", A),
    )
    assert made.panic
    assert [(g.step, g.backends[0].id, g.basis_points) for g in made.shares] == [(0, "one", 10_000)]
    assert [(g.step, g.backends[0].id, g.basis_points) for g in made.standby] == [(1, "far", 0)]


def test_a_plan_says_whether_kubernetes_has_a_ready_endpoint_anywhere() -> None:
    assert planned([pod("one")], verdicts(one=DOWN)).ready_anywhere
    assert not planned([pod("one", ready=False)]).ready_anywhere


def test_backends_carry_addresses_the_target_port_and_the_hostname() -> None:
    (group,) = planned([pod("one", hostname="db-0", addresses=("10.64.0.1", "fd00::1"))]).shares
    assert group.backends == (
        Backend(
            id=EndpointId("one"), cluster=A, addresses=("10.64.0.1", "fd00::1"), port=8080, hostname="db-0"
        ),
    )


def planned(
    pods: Sequence[Endpoint],
    said: Mapping[CheckKey, Verdict] | None = None,
    policy: Policy = DEFAULT_POLICY,
) -> Plan:
    return plan(
        service=service_of("a"),
        port=PORT,
        policy=policy,
        endpoints={A: pods},
        clusters={},
        verdict=(said or {}).get,
        vantage=Vantage("eu", "z", A),
    )
