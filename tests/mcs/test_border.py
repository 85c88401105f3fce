"""What another cluster may say, and what is refused."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.api import hub
from isthmus.mcs.border import (
    ImportedEndpoints,
    address_refusal,
    exported_endpoints,
    exported_service,
    joined,
)
from isthmus.model.refusal import Refused
from isthmus.model.service import Export


def service(namespace: str = "isthmus-eu-1", name: str = "cart.shop", **spec: Any) -> Export | Refused:
    whole: dict[str, Any] = {
        "cluster": "eu-1",
        "service": {"namespace": "shop", "name": "cart"},
        "exportedAt": "2026-01-02T03:04:05.000001Z",
        "ports": [{"name": "http", "port": 80}],
        "ipFamilies": ["IPv4"],
    }
    obj = {"metadata": {"namespace": namespace, "name": name}, "spec": whole | spec}
    return exported_service(msgspec.convert(obj, hub.ExportedService))


def endpoints(
    listed: list[dict[str, Any]],
    namespace: str = "isthmus-eu-1",
    name: str = "cart.shop.0-0",
    forbidden: frozenset[str] = frozenset(),
    **spec: Any,
) -> ImportedEndpoints | Refused:
    whole: dict[str, Any] = {
        "cluster": "eu-1",
        "service": {"namespace": "shop", "name": "cart"},
        "ports": [{"name": "http", "port": 8080}],
        "endpoints": listed,
    }
    obj = {"metadata": {"namespace": namespace, "name": name}, "spec": whole | spec}
    return exported_endpoints(msgspec.convert(obj, hub.ExportedEndpoints), forbidden=forbidden)


GOOD = {"id": "a", "addresses": ["10.1.0.1"]}


def test_a_good_object_is_believed() -> None:
    export = service()
    assert isinstance(export, Export)
    assert (export.cluster, str(export.key), export.created) == ("eu-1", "shop/cart", 1767323045.000001)
    part = endpoints([GOOD])
    assert isinstance(part, ImportedEndpoints)
    assert [one.id for one in part.endpoints] == ["a"]


@pytest.mark.parametrize("claimed", ["us-1", "", "EU-1", "eu-1.prod", "a.b.c", "x" * 300])
def test_a_cluster_cannot_speak_for_another(claimed: str) -> None:
    for outcome in (service(cluster=claimed), endpoints([GOOD], cluster=claimed)):
        assert isinstance(outcome, Refused)
        assert outcome.reason == "WrongSpeaker"
    assert isinstance(service(namespace="default"), Refused)


def test_one_service_has_one_export_object() -> None:
    for outcome in (
        service(name="other"),
        endpoints([GOOD], name="other.shop.0-0"),
        endpoints([], name="cart.shop"),
    ):
        assert isinstance(outcome, Refused)
        assert outcome.reason == "InvalidName"


PORT = {"name": "http", "port": 80}


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"service": {"namespace": "shop", "name": "Cart"}}, "InvalidName"),
        ({"service": {"namespace": "a.b", "name": "cart"}}, "InvalidName"),
        ({"exportedAt": "yesterday"}, "InvalidTimestamp"),
        ({"exportedAt": "1999-01-01T00:00:00Z"}, "InvalidTimestamp"),
        ({"exportedAt": "2026-01-01T00:00:00"}, "InvalidTimestamp"),
        ({"type": "ExternalName"}, "InvalidType"),
        ({"ports": []}, "InvalidPorts"),
        ({"ports": [{"port": 0}]}, "InvalidPorts"),
        ({"ports": [{"port": 65_536}]}, "InvalidPorts"),
        ({"ports": [{"port": 80, "protocol": "ICMP"}]}, "InvalidPorts"),
        ({"ports": [{"port": 80, "name": "Not A Label"}]}, "InvalidPorts"),
        ({"ports": [{"port": 80, "appProtocol": "a\nb"}]}, "InvalidPorts"),
        ({"ports": [PORT, {"name": "http", "port": 81}]}, "InvalidPorts"),
        ({"ports": [PORT, {"name": "web", "port": 80}]}, "InvalidPorts"),
        ({"ports": [{"name": f"p{n}", "port": n + 1} for n in range(101)]}, "InvalidPorts"),
        ({"ipFamilies": []}, "InvalidIPFamilies"),
        ({"ipFamilies": ["IPv5"]}, "InvalidIPFamilies"),
        ({"ipFamilies": ["IPv4", "IPv4"]}, "InvalidIPFamilies"),
        ({"sessionAffinity": "Cookie"}, "InvalidSessionAffinity"),
        (
            {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 0}}},
            "InvalidSessionAffinity",
        ),
        ({"internalTrafficPolicy": "Sideways"}, "InvalidTrafficPolicy"),
        ({"trafficDistribution": "Prefer Close"}, "InvalidTrafficDistribution"),
        ({"labels": {"a": "not a value"}}, "InvalidMetadata"),
        ({"labels": {f"k{n}": "v" for n in range(65)}}, "InvalidMetadata"),
        ({"annotations": {"isthmus.dev/applied": "x"}}, "InvalidMetadata"),
        ({"annotations": {"a": "x" * 20_000}}, "InvalidMetadata"),
        ({"expectedEndpoints": 0}, "InvalidExpectedEndpoints"),
        ({"probe": {"interval": "1ms"}}, "InvalidProbe"),
        ({"probe": {"protocol": "SMTP"}}, "InvalidProbe"),
        ({"algorithm": 0}, "InvalidAlgorithm"),
    ],
)
def test_a_malformed_export_is_refused_with_a_reason(spec: dict[str, Any], reason: str) -> None:
    outcome = service(**spec)
    assert isinstance(outcome, Refused)
    assert outcome.reason == reason
    assert outcome.message
    assert len(outcome.message) < 500


def test_a_newer_algorithm_is_heard() -> None:
    assert isinstance(service(algorithm=2), Export)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.8.8",
        "0.0.0.0",
        "0.1.2.3",
        "169.254.169.254",
        "169.254.1.1",
        "168.63.129.16",
        "100.100.100.200",
        "224.0.0.1",
        "255.255.255.255",
        "240.0.0.1",
        "::",
        "::1",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "2001:0:53aa:64c:0:fbff:adff:0",
        "fd00:ec2::254",
        "fd00:ec2::23",
        "fd20:ce::254",
        "10.0.0.1/8",
        "010.0.0.1",
        "localhost",
        "",
    ],
)
def test_an_address_that_turns_callers_against_themselves_is_refused(address: str) -> None:
    part = endpoints([GOOD, {"id": "x", "addresses": [address]}])
    assert isinstance(part, ImportedEndpoints)
    assert [one.id for one in part.endpoints] == ["a"]
    assert [one.reason for one in part.refused] in (["ForbiddenAddress"], ["InvalidEndpoint"])


@pytest.mark.parametrize(
    "address",
    ["10.0.0.1", "172.31.255.255", "100.64.0.1", "192.168.1.1", "203.0.114.7", "fd00::1", "2600::1"],
)
def test_an_ordinary_address_is_welcome(address: str) -> None:
    assert address_refusal(ip_address(address)) == ""


def test_our_own_nodes_and_api_servers_are_refused_however_they_are_written() -> None:
    ours = frozenset({"10.9.9.9", "fd00::9"})
    part = endpoints(
        [
            {"id": "a", "addresses": ["10.9.9.9"]},
            {"id": "b", "addresses": ["fd00:0::0009"]},
            GOOD | {"id": "c"},
        ],
        forbidden=ours,
    )
    assert isinstance(part, ImportedEndpoints)
    assert [one.id for one in part.endpoints] == ["c"]
    (refusal,) = part.refused
    assert (refusal.reason, refusal.count) == ("ForbiddenAddress", 2)
    assert refusal.message == (
        "spec.endpoints[0].addresses[0]: belongs to this cluster's own nodes or an API server"
    )


@pytest.mark.parametrize(
    "bad",
    [
        {"id": "x", "addresses": []},
        {"id": "x", "addresses": ["10.0.0.1", "127.0.0.1"]},
        {"id": "x", "addresses": [f"10.0.0.{n}" for n in range(1, 10)]},
        {"id": "", "addresses": ["10.0.0.1"]},
        {"id": "a b", "addresses": ["10.0.0.1"]},
        {"id": "x" * 254, "addresses": ["10.0.0.1"]},
        {"id": "a", "addresses": ["10.0.0.1"]},
        {"id": "x", "addresses": ["10.0.0.1"], "hostname": "a.b"},
        {"id": "x", "addresses": ["10.0.0.1"], "nodeName": "N_1"},
        {"id": "x", "addresses": ["10.0.0.1"], "zone": "not a zone"},
        {"id": "x", "addresses": ["10.0.0.1"], "region": "r" * 64},
    ],
)
def test_one_bad_endpoint_is_dropped_and_named_and_the_others_live_on(bad: dict[str, Any]) -> None:
    part = endpoints([GOOD, bad, {"id": "z", "addresses": ["10.1.0.9"]}])
    assert isinstance(part, ImportedEndpoints)
    assert [one.id for one in part.endpoints] == ["a", "z"]
    (refusal,) = part.refused
    assert "spec.endpoints[1]." in refusal.message


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"ports": [{"name": "a", "port": 0}]}, "InvalidPorts"),
        ({"ports": [{"name": "a", "port": 1}, {"name": "a", "port": 2}]}, "InvalidPorts"),
        ({"ports": [{"name": f"p{n}", "port": 1} for n in range(101)]}, "InvalidPorts"),
        ({"ports": [{"port": 1, "protocol": ""}]}, "InvalidPorts"),
        ({"network": "not a network"}, "InvalidNetwork"),
    ],
)
def test_a_malformed_endpoints_object_is_refused_with_a_reason(spec: dict[str, Any], reason: str) -> None:
    outcome = endpoints([GOOD], **spec)
    assert isinstance(outcome, Refused)
    assert outcome.reason == reason


def test_more_endpoints_than_an_object_may_hold_are_refused() -> None:
    many = [{"id": f"p{n}", "addresses": ["10.0.0.1"]} for n in range(501)]
    outcome = endpoints(many)
    assert isinstance(outcome, Refused)
    assert outcome.reason == "TooManyEndpoints"
    assert isinstance(endpoints(many[:500]), ImportedEndpoints)


def test_two_ports_of_an_endpoint_may_share_one_number() -> None:
    part = endpoints([GOOD], ports=[{"name": "a", "port": 80}, {"name": "b", "port": 80}])
    assert isinstance(part, ImportedEndpoints)


def test_addresses_become_canonical_with_ipv4_first() -> None:
    part = endpoints([{"id": "a", "addresses": ["fd00:0:0::1", "10.1.0.1"]}])
    assert isinstance(part, ImportedEndpoints)
    assert part.endpoints[0].addresses == ("10.1.0.1", "fd00::1")


def test_an_endpoint_that_is_moving_between_objects_counts_once() -> None:
    first, second = endpoints([GOOD]), endpoints([GOOD | {"ready": False}, GOOD | {"id": "b"}])
    assert isinstance(first, ImportedEndpoints)
    assert isinstance(second, ImportedEndpoints)
    assert [(one.id, one.ready) for one in joined([first, second])] == [("a", True), ("b", True)]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
WORDS = st.text(max_size=30) | st.sampled_from(
    [
        "eu-1",
        "isthmus-eu-1",
        "cart",
        "shop",
        "cart.shop",
        "cart.shop.0-0",
        "IPv4",
        "TCP",
        "ClientIP",
        "10.0.0.1",
        "Headless",
    ]
)
NUMBERS = st.integers() | st.integers(0, 70_000)
SPEAKERS = st.tuples(WORDS, WORDS) | st.just(("isthmus-eu-1", "eu-1"))
NAMES = st.builds(hub.ServiceName, namespace=WORDS, name=WORDS) | st.just(
    hub.ServiceName(namespace="shop", name="cart")
)
SERVICE_SPECS = st.builds(
    hub.ExportedServiceSpec,
    service=NAMES,
    algorithm=NUMBERS,
    exported_at=WORDS
    | st.just("2026-01-02T03:04:05Z")
    | st.datetimes().map(lambda when: when.isoformat() + "+23:59"),
    type=WORDS,
    ports=st.lists(
        st.builds(hub.ExportedPort, name=WORDS, protocol=WORDS, port=NUMBERS, app_protocol=st.none() | WORDS)
    ),
    ip_families=st.lists(WORDS, max_size=3),
    session_affinity=WORDS,
    labels=st.dictionaries(WORDS, WORDS),
    annotations=st.dictionaries(WORDS, WORDS),
    expected_endpoints=st.none() | NUMBERS,
    probe=st.none()
    | st.dictionaries(st.text(max_size=10) | st.sampled_from(["path", "port", "interval"]), JSON),
)


@given(SPEAKERS, WORDS | st.just("cart.shop"), SERVICE_SPECS)
def test_no_exported_service_raises(
    speaker: tuple[str, str], name: str, spec: hub.ExportedServiceSpec
) -> None:
    spec = msgspec.structs.replace(spec, cluster=speaker[1])
    obj = hub.ExportedService(metadata=hub.ObjectMeta(namespace=speaker[0], name=name), spec=spec)
    assert isinstance(exported_service(obj), Export | Refused)


ENDPOINT_SPECS = st.builds(
    hub.ExportedEndpointsSpec,
    service=NAMES,
    network=WORDS,
    ports=st.lists(st.builds(hub.ExportedEndpointPort, name=WORDS, protocol=WORDS, port=NUMBERS), max_size=3),
    endpoints=st.lists(
        st.builds(
            hub.ExportedEndpoint,
            id=WORDS,
            addresses=st.lists(WORDS | st.ip_addresses().map(str), max_size=3),
            hostname=WORDS,
            zone=WORDS,
        )
    ),
)


@given(SPEAKERS, WORDS | st.just("cart.shop.0-0"), ENDPOINT_SPECS)
def test_no_exported_endpoints_raise(
    speaker: tuple[str, str], name: str, spec: hub.ExportedEndpointsSpec
) -> None:
    spec = msgspec.structs.replace(spec, cluster=speaker[1])
    obj = hub.ExportedEndpoints(metadata=hub.ObjectMeta(namespace=speaker[0], name=name), spec=spec)
    outcome = exported_endpoints(obj)
    if isinstance(outcome, ImportedEndpoints):
        refused = sum(one.count for one in outcome.refused)
        assert len(outcome.endpoints) + refused == len(spec.endpoints)
        told = [ip_address(text) for one in outcome.endpoints for text in one.addresses]
        assert not any(address_refusal(address) for address in told)
