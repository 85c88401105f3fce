"""The imported EndpointSlices of KEP-1645."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec

from isthmus.api import labels
from isthmus.mcs.conflict import merge
from isthmus.mcs.endpointslice import canonical_slices
from isthmus.model.names import ClusterId, EndpointId, ServiceKey
from isthmus.model.service import (
    AddressFamily,
    Endpoint,
    EndpointPort,
    Export,
    Port,
    Protocol,
    Service,
    ServiceType,
)

EU, US = ClusterId("eu-1"), ClusterId("us-1")
HTTP = Port(name="http", protocol=Protocol.TCP, port=80, app_protocol="http")
ADMIN = Port(name="admin", protocol=Protocol.TCP, port=81)
OWN_HTTP = EndpointPort(name="http", protocol=Protocol.TCP, port=8080)
OWN_ADMIN = EndpointPort(name="admin", protocol=Protocol.TCP, port=8081)
EXPORT = Export(
    cluster=EU,
    key=ServiceKey("shop", "cart"),
    created=1.0,
    type=ServiceType.CLUSTER_SET_IP,
    ports=(HTTP,),
    ip_families=(AddressFamily.IPV4, AddressFamily.IPV6),
)


def service(*exports: Export) -> Service:
    return merge(exports or (EXPORT,))


def endpoint(number: int, **changes: Any) -> Endpoint:
    one = Endpoint(
        id=EndpointId(f"cart-{number}"),
        cluster=EU,
        region="eu",
        zone="eu-a",
        addresses=(f"10.1.{number // 250}.{number % 250 + 1}",),
        ports=(OWN_HTTP,),
        node="n1",
    )
    return msgspec.structs.replace(one, **changes)


def slices(
    endpoints: list[Endpoint], of: Service | None = None, owner: str = "uid-1"
) -> list[dict[str, Any]]:
    return canonical_slices(of or service(), EU, endpoints, owner)


def by_name(rendered: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {one["metadata"]["name"]: one for one in rendered}


def test_a_slice_says_whose_it_is_and_never_belongs_to_a_local_service() -> None:
    (one,) = slices([endpoint(0, hostname="cart-0")])
    assert one["metadata"]["namespace"] == "shop"
    assert one["metadata"]["labels"] == {
        labels.IMPORT_NAME: "cart",
        labels.SOURCE_CLUSTER: "eu-1",
        labels.SLICE_MANAGED_BY: "isthmus.dev",
        labels.MANAGED_BY: "isthmus",
    }
    assert labels.SERVICE_NAME not in one["metadata"]["labels"]
    assert one["metadata"]["ownerReferences"] == [
        {
            "apiVersion": "multicluster.x-k8s.io/v1beta1",
            "kind": "ServiceImport",
            "name": "cart",
            "uid": "uid-1",
        }
    ]
    assert one["addressType"] == "IPv4"
    assert one["ports"] == [{"name": "http", "protocol": "TCP", "port": 8080, "appProtocol": "http"}]
    assert one["endpoints"] == [
        {
            "addresses": ["10.1.0.1"],
            "conditions": {"ready": True, "serving": True, "terminating": False},
            "hostname": "cart-0",
            "zone": "eu-a",
            "nodeName": "n1",
        }
    ]


def test_before_the_import_exists_a_slice_has_no_owner() -> None:
    (one,) = slices([endpoint(0)], owner="")
    assert "ownerReferences" not in one["metadata"]


def test_only_endpoints_that_kubernetes_calls_ready_are_published() -> None:
    assert slices([endpoint(0, ready=False), endpoint(1, ready=False, terminating=True)]) == []


def test_each_family_has_slices_of_its_own() -> None:
    six, four = slices([endpoint(0, addresses=("10.1.0.1", "fd00::1"))])[::-1]
    if six["addressType"] == "IPv4":
        six, four = four, six
    assert (four["addressType"], six["addressType"]) == ("IPv4", "IPv6")
    assert (four["endpoints"][0]["addresses"], six["endpoints"][0]["addresses"]) == (
        ["10.1.0.1"],
        ["fd00::1"],
    )


def test_a_family_that_the_service_does_not_have_is_not_published() -> None:
    only_four = service(replace(EXPORT, ip_families=(AddressFamily.IPV4,)))
    (one,) = slices([endpoint(0, addresses=("10.1.0.1", "fd00::1"))], only_four)
    assert one["addressType"] == "IPv4"


def test_a_port_that_another_cluster_won_leads_to_no_endpoint_of_this_one() -> None:
    other = replace(EXPORT, cluster=US, created=0.5, ports=(replace(HTTP, port=8000), ADMIN))
    both = service(other, replace(EXPORT, ports=(HTTP, ADMIN)))
    (one,) = slices([endpoint(0, ports=(OWN_HTTP, OWN_ADMIN))], both)
    assert [port["name"] for port in one["ports"]] == ["admin"]


def test_an_endpoint_that_serves_none_of_the_ports_is_left_out() -> None:
    other = replace(EXPORT, cluster=US, created=0.5, ports=(replace(HTTP, port=8000),))
    assert slices([endpoint(0)], service(other, EXPORT)) == []


def test_a_headless_service_without_ports_publishes_its_endpoints() -> None:
    bare = service(replace(EXPORT, type=ServiceType.HEADLESS, ports=()))
    (one,) = slices([endpoint(0)], bare)
    assert "ports" not in one
    assert len(one["endpoints"]) == 1


def test_endpoints_that_listen_elsewhere_stand_in_a_slice_of_their_own() -> None:
    rendered = slices([endpoint(0), endpoint(1, ports=(replace(OWN_HTTP, port=9090),))])
    assert sorted(one["ports"][0]["port"] for one in rendered) == [8080, 9090]
    assert len(by_name(rendered)) == 2


def test_small_sets_are_not_split_and_large_ones_hold_at_most_five_hundred() -> None:
    assert len(slices([endpoint(n) for n in range(500)])) == 1
    large = slices([endpoint(n) for n in range(1800)])
    assert all(0 < len(one["endpoints"]) <= 500 for one in large)
    told = [entry["addresses"][0] for one in large for entry in one["endpoints"]]
    assert sorted(told) == sorted(endpoint(n).addresses[0] for n in range(1800))
    assert len(by_name(large)) == len(large)


def test_a_change_of_one_endpoint_rewrites_only_its_slice() -> None:
    before = [endpoint(n) for n in range(1800)]
    after = [*before[:700], msgspec.structs.replace(before[700], zone="eu-b"), *before[701:]]
    old, new = by_name(slices(before)), by_name(slices(after))
    assert old.keys() == new.keys()
    assert len([name for name in old if old[name] != new[name]]) == 1


def test_the_order_of_endpoints_changes_nothing() -> None:
    endpoints = [endpoint(n) for n in range(700)]
    assert slices(endpoints) == slices(endpoints[::-1])


def test_slices_of_two_clusters_never_share_a_name() -> None:
    both = service(EXPORT, replace(EXPORT, cluster=US))
    ours = canonical_slices(both, EU, [endpoint(0)], "u")
    theirs = canonical_slices(both, US, [endpoint(0, cluster=US)], "u")
    assert not by_name(ours).keys() & by_name(theirs).keys()
