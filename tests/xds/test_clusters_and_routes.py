"""Clusters, virtual hosts, listeners and the bootstrap, as far as no golden file says it better."""

from __future__ import annotations

import json

import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from hypothesis import given
from hypothesis import strategies as st

from isthmus.errors import ConfigError
from isthmus.model.names import ClusterId, ServiceKey, Vantage
from isthmus.model.policy import DoorSettings, Retry
from isthmus.model.service import Port, Protocol
from isthmus.xds import envoy
from isthmus.xds.bootstrap import envoy_bootstrap

WEB = ServiceKey("shop", "web")
HTTP = Port(name="http", protocol=Protocol.TCP, port=80)
GRPC = Port(name="grpc", protocol=Protocol.TCP, port=9000)
REDIS = Port(name="redis", protocol=Protocol.TCP, port=6379)


def routes(*hosts: bytes) -> route_pb2.RouteConfiguration:
    return route_pb2.RouteConfiguration.FromString(envoy.route_configuration(hosts))


def domains(ports: list[Port]) -> dict[str, list[str]]:
    found = routes(envoy.virtual_host(WEB, ports, DoorSettings()))
    return {host.name.rpartition(":")[2]: list(host.domains) for host in found.virtual_hosts}


def test_the_bare_name_means_port_80_where_that_is_http() -> None:
    found = domains([GRPC, HTTP, REDIS])
    assert set(found) == {"80", "9000"}
    assert "web.shop" in found["80"]
    assert "web.shop" not in found["9000"]
    assert "web.shop:9000" in found["9000"]


def test_the_bare_name_means_the_first_http_port_without_one_on_80() -> None:
    other = Port(name="http-admin", protocol=Protocol.TCP, port=8080)
    found = domains([REDIS, GRPC, other, Port(name="redis", protocol=Protocol.TCP, port=80)])
    assert "web.shop" in found["9000"]
    assert "web.shop" not in found["8080"]


def test_a_service_without_http_has_no_virtual_host() -> None:
    assert envoy.virtual_host(WEB, [REDIS], DoorSettings()) == b""


def test_a_port_with_its_own_settings_has_its_own_timeout() -> None:
    hosts = envoy.virtual_host(WEB, [HTTP, GRPC], DoorSettings(timeout=3), {"TCP/9000": DoorSettings()})
    by_port = {h.name.rpartition(":")[2]: h.routes[-1].route.timeout for h in routes(hosts).virtual_hosts}
    assert by_port["80"].seconds == 3
    assert by_port["9000"].seconds == 0


def test_only_safe_methods_are_hedged_and_nothing_is_with_a_timeout_per_try() -> None:
    plain = routes(envoy.virtual_host(WEB, [HTTP], DoorSettings())).virtual_hosts[0].routes
    assert [r.route.hedge_policy.hedge_on_per_try_timeout for r in plain] == [True, False, False]
    timed = DoorSettings(retry=Retry(attempts=5, per_try_timeout=0.25))
    found = routes(envoy.virtual_host(WEB, [HTTP], timed)).virtual_hosts[0].routes
    assert not any(r.route.HasField("hedge_policy") for r in found)
    assert {r.route.retry_policy.per_try_timeout.nanos for r in found} == {250_000_000}
    assert {r.route.retry_policy.num_retries.value for r in found} == {5}


def test_without_retries_there_is_one_plain_route() -> None:
    found = routes(envoy.virtual_host(WEB, [HTTP], DoorSettings(retry=None))).virtual_hosts[0].routes
    assert len(found) == 1
    assert not found[0].route.HasField("retry_policy")


NAME = st.from_regex(r"[a-z]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
PORTS = st.lists(
    st.builds(
        Port,
        name=st.sampled_from(["", "http", "grpc", "http-x", "redis"]),
        protocol=st.sampled_from(Protocol),
        port=st.sampled_from([80, 81, 443, 8080]),
        app_protocol=st.sampled_from(["", "http", "redis"]),
    ),
    max_size=4,
)


@given(
    st.dictionaries(st.builds(ServiceKey, st.sampled_from(["svc", "a", "b"]) | NAME, NAME), PORTS, max_size=5)
)
def test_no_domain_and_no_virtual_host_appears_twice(services: dict[ServiceKey, list[Port]]) -> None:
    found = routes(*(envoy.virtual_host(key, ports, DoorSettings()) for key, ports in services.items()))
    names = [host.name for host in found.virtual_hosts]
    every = [domain for host in found.virtual_hosts for domain in host.domains]
    assert len(set(names)) == len(names)
    assert len(set(every)) == len(every)


def test_health_never_touches_a_cluster() -> None:
    """The cluster of a port depends on the port and its settings alone: equal bytes do not warm again."""
    assert envoy.cluster(WEB, HTTP, DoorSettings()) == envoy.cluster(WEB, HTTP, DoorSettings())
    assert envoy.cluster(WEB, HTTP, DoorSettings()) != envoy.cluster(WEB, GRPC, DoorSettings())


def test_a_tcp_port_is_a_cluster_without_http_options() -> None:
    found = cluster_pb2.Cluster.FromString(envoy.cluster(WEB, REDIS, DoorSettings()))
    assert found.name == "web.shop.svc.clusterset.local:6379"
    assert not found.typed_extension_protocol_options


def test_the_listener_is_where_the_class_says() -> None:
    found = listener_pb2.Listener.FromString(envoy.listener("10.64.255.10", 15001))
    assert found.address.socket_address.address == "10.64.255.10"
    assert found.address.socket_address.port_value == 15001


@pytest.mark.parametrize(
    ("xds", "admin", "listen"),
    [
        ("localhost:18000", "localhost:9901", "127.0.0.1:15001"),
        ("localhost:18000", "127.0.0.1:9901", "everywhere"),
        ("localhost", "127.0.0.1:9901", "127.0.0.1:15001"),
        ("localhost:99999", "127.0.0.1:9901", "127.0.0.1:15001"),
    ],
)
def test_addresses_that_cannot_be_used_are_config_errors(xds: str, admin: str, listen: str) -> None:
    with pytest.raises(ConfigError):
        envoy_bootstrap("n", Vantage("eu", "a", ClusterId("eu-1")), xds, admin, listen)


def test_the_control_plane_may_be_a_name_and_the_result_is_json() -> None:
    vantage = Vantage("eu", "a", ClusterId("eu-1"))
    found = envoy_bootstrap("n", vantage, "isthmus.isthmus-system:18000", "[::1]:9901")
    assert found["static_resources"]["clusters"][0]["type"] == "STRICT_DNS"
    assert found["admin"]["address"]["socket_address"]["address"] == "::1"
    assert json.loads(json.dumps(found)) == found
