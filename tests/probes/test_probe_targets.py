"""Which endpoints are checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.model.health import CheckKey, CheckProtocol, CheckTarget, HealthCheck
from isthmus.model.names import ClusterId, EndpointId, ServiceKey
from isthmus.model.policy import DEFAULT_POLICY, Policy
from isthmus.model.service import Endpoint, EndpointPort, Export, Port, Protocol, Service, ServiceType
from isthmus.probes.targets import CANARIES, targets

KEY = ServiceKey("shop", "checkout")
HTTP = Port(name="http", protocol=Protocol.TCP, port=80)
GRPC = Port(name="grpc", protocol=Protocol.TCP, port=9000)
QUIC = Port(name="quic", protocol=Protocol.UDP, port=443)
OWN, FAR = ClusterId("own"), ClusterId("far")
CHECK = HealthCheck(protocol=CheckProtocol.HTTP, path="/healthz")
ASKING = Policy(health=CHECK)


def all_targets(
    service: Service,
    endpoints: dict[ClusterId, list[Endpoint]],
    policy_of: Callable[[Port], Policy],
    own: ClusterId,
) -> dict[CheckKey, CheckTarget]:
    """The checks of all clusters."""
    found: dict[CheckKey, CheckTarget] = {}
    for export in service.exports:
        found |= targets(service, export, endpoints.get(export.cluster, []), policy_of, own)
    return found


def service(*exports: Export, ports: tuple[Port, ...] = (HTTP,)) -> Service:
    return Service(
        key=KEY,
        type=ServiceType.CLUSTER_SET_IP,
        ports=ports,
        exports=exports,
        ip_families=(),
        affinity=None,
        internal_traffic_policy="Cluster",
        traffic_distribution="",
        labels=(),
        annotations=(),
        conflicts=(),
    )


def export(cluster: ClusterId, *ports: Port, **more: Any) -> Export:
    return Export(
        cluster=cluster, key=KEY, created=0.0, type=ServiceType.CLUSTER_SET_IP, ports=ports or (HTTP,), **more
    )


def endpoint(name: str, cluster: ClusterId = FAR, **more: Any) -> Endpoint:
    ports = (
        EndpointPort(name="http", protocol=Protocol.TCP, port=8080),
        EndpointPort(name="grpc", protocol=Protocol.TCP, port=9090),
        EndpointPort(name="quic", protocol=Protocol.UDP, port=8443),
    )
    return Endpoint(
        id=EndpointId(name),
        cluster=cluster,
        region="eu",
        zone="a",
        **{"addresses": ("10.64.0.1",), "ports": ports, **more},
    )


def always(policy: Policy) -> Callable[[Port], Policy]:
    return lambda _port: policy


def names(found: dict[CheckKey, CheckTarget]) -> list[str]:
    return sorted(key.endpoint for key in found)


def test_without_any_wish_three_canaries_speak_for_each_cluster_and_network() -> None:
    endpoints = {
        OWN: [endpoint(f"o{n}", OWN) for n in range(2)],
        FAR: [endpoint(f"f{n}", network=f"net{n % 2}") for n in range(20)],
    }
    found = all_targets(service(export(OWN), export(FAR)), endpoints, always(DEFAULT_POLICY), OWN)
    counts: dict[tuple[str, str], int] = {}
    for key, target in found.items():
        counts[key.cluster, target.network] = counts.get((key.cluster, target.network), 0) + 1
        assert target.canary
        assert target.own_cluster == (key.cluster == OWN)
        assert target.check == HealthCheck()
    assert counts == {("own", ""): 2, ("far", "net0"): CANARIES, ("far", "net1"): CANARIES}


@given(st.sets(st.text(max_size=6), max_size=30), st.text(max_size=6), st.randoms())
def test_a_newcomer_moves_at_most_one_canary(members: set[str], newcomer: str, rng: Any) -> None:
    def chosen(ids: set[str]) -> set[str]:
        order = sorted(ids)
        rng.shuffle(order)
        given = {FAR: [endpoint(name) for name in order]}
        return set(names(all_targets(service(export(FAR)), given, always(DEFAULT_POLICY), OWN)))

    before, after = chosen(members), chosen(members | {newcomer})
    assert len(before) == min(CANARIES, len(members))
    assert after - before <= {newcomer}
    assert len(before - after) <= 1


def test_with_health_in_the_policy_every_endpoint_that_counts_is_checked() -> None:
    endpoints = {
        FAR: [
            *(endpoint(f"f{n}") for n in range(10)),
            endpoint("terminating", ready=False, serving=True, terminating=True),
            endpoint("not ready", ready=False, serving=True),
            endpoint("no address", addresses=()),
            endpoint("no such port", ports=()),
        ]
    }
    found = all_targets(service(export(FAR)), endpoints, always(ASKING), OWN)
    assert names(found) == sorted([*(f"f{n}" for n in range(10)), "terminating"])
    assert {target.canary for target in found.values()} == {False}
    assert {target.check for target in found.values()} == {CHECK}
    drained = all_targets(service(export(FAR, draining=True)), endpoints, always(ASKING), OWN)
    assert set(names(drained)) - set(names(found)) == {"not ready"}


def test_a_probe_on_an_export_asks_for_that_cluster_alone_and_the_policy_wins() -> None:
    endpoints = {OWN: [endpoint(f"o{n}", OWN) for n in range(9)], FAR: [endpoint(f"f{n}") for n in range(9)]}
    probe = HealthCheck(port=7)
    merged = service(export(OWN), export(FAR, probe=probe))
    found = all_targets(merged, endpoints, always(DEFAULT_POLICY), OWN)
    assert sum(key.cluster == "far" for key in found) == 9
    assert sum(key.cluster == "own" for key in found) == CANARIES
    assert {target.port for key, target in found.items() if key.cluster == "far"} == {7}
    assert {target.check for target in all_targets(merged, endpoints, always(ASKING), OWN).values()} == {
        CHECK
    }


def test_each_tcp_port_that_the_cluster_exposes_is_checked_at_the_endpoints_own_port() -> None:
    merged = service(export(OWN, HTTP, GRPC, QUIC), export(FAR, HTTP), ports=(HTTP, GRPC, QUIC))
    endpoints = {OWN: [endpoint("o", OWN)], FAR: [endpoint("f")]}
    found = all_targets(merged, endpoints, always(DEFAULT_POLICY), OWN)
    assert {(key.cluster, key.port, target.port) for key, target in found.items()} == {
        ("own", "TCP/80", 8080),
        ("own", "TCP/9000", 9090),
        ("far", "TCP/80", 8080),
    }
    asking = replace(ASKING, health=HealthCheck(port=1234))
    found = all_targets(merged, endpoints, always(asking), OWN)
    assert ("own", "UDP/443", 1234) in {(key.cluster, key.port, target.port) for key, target in found.items()}


def test_the_first_address_is_checked_and_canaries_are_ready() -> None:
    endpoints = {
        FAR: [
            endpoint("a", addresses=("10.64.0.9", "fd00::9")),
            endpoint("b", ready=False, serving=True, terminating=True),
        ]
    }
    (target,) = all_targets(service(export(FAR)), endpoints, always(DEFAULT_POLICY), OWN).values()
    assert target.address == "10.64.0.9"


def test_a_service_without_endpoints_has_no_checks() -> None:
    assert all_targets(service(export(FAR)), {}, always(ASKING), OWN) == {}


def test_a_policy_for_one_port_asks_for_that_port_alone() -> None:
    merged = service(export(FAR, HTTP, GRPC), ports=(HTTP, GRPC))
    endpoints = {FAR: [endpoint(f"f{n}") for n in range(10)]}
    found = all_targets(merged, endpoints, {HTTP: ASKING, GRPC: DEFAULT_POLICY}.__getitem__, OWN)
    by_port = {port: [t for key, t in found.items() if key.port == port] for port in ("TCP/80", "TCP/9000")}
    assert {(len(rows), rows[0].check, rows[0].canary) for rows in by_port.values()} == {
        (10, CHECK, False),
        (CANARIES, HealthCheck(), True),
    }


@pytest.mark.parametrize(
    ("protocol", "port", "checked"),
    [
        (CheckProtocol.DNS, None, {"TCP/80", "UDP/443"}),
        (CheckProtocol.DNS, 53, {"TCP/80", "UDP/443", "SCTP/5"}),
        (CheckProtocol.ICMP, None, {"TCP/80", "UDP/443", "SCTP/5"}),
        (CheckProtocol.GRPC, None, {"TCP/80"}),
        (None, 8080, {"TCP/80", "UDP/443", "SCTP/5"}),
    ],
)
def test_a_port_is_checked_where_the_checks_protocol_can_speak_for_it(
    protocol: CheckProtocol | None, port: int | None, checked: set[str]
) -> None:
    m3ua = Port(name="m3ua", protocol=Protocol.SCTP, port=5)
    merged = service(export(FAR, HTTP, QUIC, m3ua), ports=(HTTP, QUIC, m3ua))
    listening = EndpointPort(name="m3ua", protocol=Protocol.SCTP, port=5)
    endpoints = {FAR: [msgspec.structs.replace(one := endpoint("f"), ports=(*one.ports, listening))]}
    asking = Policy(health=HealthCheck(protocol=protocol, port=port))
    found = all_targets(merged, endpoints, always(asking), OWN)
    assert {key.port for key in found} == checked
    assert {key.port: target.udp for key, target in found.items() if protocol is CheckProtocol.DNS} == {
        name: port is not None or name == "UDP/443" for name in checked if protocol is CheckProtocol.DNS
    }


def test_a_target_carries_the_name_that_its_callers_use() -> None:
    (target,) = all_targets(service(export(FAR)), {FAR: [endpoint("a")]}, always(ASKING), OWN).values()
    assert target.name == "checkout.shop.svc.clusterset.local"
