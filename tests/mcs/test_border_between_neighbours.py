"""Own pods, own offers, and clusters that say the same or contradict themselves."""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from isthmus.api import hub
from isthmus.mcs.border import (
    Address,
    ImportedEndpoints,
    exported_endpoints,
    exported_service,
    joined,
    offered,
)
from isthmus.mcs.hubobjects import exported_endpoints as endpoint_objects
from isthmus.mcs.hubobjects import hub_namespace, object_name
from isthmus.mcs.limits import MAX_ENDPOINTS
from isthmus.model.names import ClusterId, EndpointId, ServiceKey
from isthmus.model.refusal import Refused
from isthmus.model.service import Endpoint, EndpointPort, Export, Protocol

KEY = ServiceKey("shop", "cart")
EU, US = ClusterId("eu-1"), ClusterId("us-1")
HTTP = EndpointPort(name="http", protocol=Protocol.TCP, port=8080)


class Range:
    """Pods of one range."""

    def __init__(self, text: str) -> None:
        self._network = ipaddress.ip_network(text)

    def __contains__(self, address: Address) -> bool:
        return address in self._network


def endpoint(name: str, *addresses: str, cluster: ClusterId = EU, **more: Any) -> Endpoint:
    return Endpoint(
        id=EndpointId(name), cluster=cluster, region="", zone="", addresses=addresses, ports=(HTTP,), **more
    )


def heard(
    listed: list[dict[str, Any]], cluster: str = "eu-1", chunk: str = "0-0", **more: Any
) -> ImportedEndpoints:
    spec = {
        "cluster": cluster,
        "service": {"namespace": "shop", "name": "cart"},
        "ports": [{"name": "http", "port": 8080}],
        "endpoints": listed,
    }
    metadata = {"namespace": hub_namespace(ClusterId(cluster)), "name": f"cart.shop.{chunk}"}
    obj = msgspec.convert({"metadata": metadata, "spec": spec}, hub.ExportedEndpoints)
    answer = exported_endpoints(obj, **more)
    assert isinstance(answer, ImportedEndpoints)
    return answer


def test_an_address_of_our_own_pods_is_refused_to_a_neighbour() -> None:
    part = heard(
        [{"id": "theirs", "addresses": ["10.65.0.1"]}, {"id": "ours", "addresses": ["10.64.0.9"]}],
        pods=Range("10.64.0.0/16"),
    )
    assert [one.id for one in part.endpoints] == ["theirs"]
    (refused,) = part.refused
    assert refused.reason == "ForbiddenAddress"
    assert "own pods" in refused.message


def test_two_clusters_that_name_the_same_endpoint_each_keep_their_own() -> None:
    """An id is unique within its cluster; an address that two claim takes nothing from either."""
    same = [{"id": "cart-0", "addresses": ["10.70.0.1"]}]
    eu, us = heard(same, "eu-1"), heard(same, "us-1")
    assert [(one.cluster, one.id) for one in joined([eu])] == [(EU, "cart-0")]
    assert [(one.cluster, one.id) for one in joined([us])] == [(US, "cart-0")]


def test_chunks_that_contradict_each_other_give_the_same_answer_whatever_came_first() -> None:
    """The first in the order of names counts, as the chain sorts them."""
    first = heard([{"id": "a", "addresses": ["10.1.0.1"]}], chunk="0-0")
    second = heard([{"id": "a", "addresses": ["10.1.0.2"], "ready": False}], chunk="0-1")
    assert [(one.id, one.addresses) for one in joined([first, second])] == [("a", ("10.1.0.1",))]


def test_one_service_holds_ten_thousand_endpoints_of_a_cluster_however_many_are_said() -> None:
    parts = [
        heard([{"id": f"p{n:06}", "addresses": [f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}"]} for n in numbers])
        for numbers in (range(at, at + 500) for at in range(0, 100_000, 500))
    ]
    found = joined(parts)
    assert len(found) == MAX_ENDPOINTS
    assert found == joined(reversed(parts))


def test_a_cluster_offers_only_what_its_neighbours_believe_and_counts_the_rest() -> None:
    good = endpoint("good", "10.1.0.1")
    own = [
        good,
        endpoint("loop", "127.0.0.1"),
        endpoint("link", "10.1.0.2", "169.254.0.1"),
        endpoint("zoned", "10.1.0.3", hostname="Not A Label"),
        msgspec.structs.replace(endpoint("named", "10.1.0.4"), ports=(replace(HTTP, name="Not A Label"),)),
    ]
    offer = offered(KEY, EU, own)
    assert offer.endpoints == (good,)
    assert {one.reason: one.count for one in offer.refused} == {
        "ForbiddenAddress": 2,
        "InvalidEndpoint": 1,
        "InvalidPorts": 1,
    }
    assert offer.refused[0].message == "endpoint loop: addresses[0]: is loopback"


def test_of_a_hundred_thousand_own_endpoints_ten_thousand_are_offered_and_the_rest_counted() -> None:
    many = [endpoint(f"p{n:06}", f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}") for n in range(100_000)]
    offer = offered(KEY, EU, many)
    assert len(offer.endpoints) == MAX_ENDPOINTS
    assert [(one.reason, one.count) for one in offer.refused] == [("TooManyEndpoints", 90_000)]


def test_what_is_offered_is_believed_and_weighs_the_same_on_both_sides() -> None:
    own = [endpoint(f"p{n}", f"10.1.0.{n}", node="n1") for n in range(1, 200)] + [endpoint("bad", "0.0.0.0")]
    offer = offered(KEY, EU, own)
    parts = []
    for rendered in endpoint_objects(KEY, EU, offer.endpoints).values():
        part = exported_endpoints(msgspec.convert(rendered, hub.ExportedEndpoints))
        assert isinstance(part, ImportedEndpoints)
        assert part.refused == ()
        parts.append(part)
    assert joined(parts) == tuple(sorted(offer.endpoints, key=lambda one: one.id))
    assert sum(part.load.endpoints for part in parts) == offer.load.endpoints == 199
    assert sum(part.load.bytes for part in parts) == offer.load.bytes


def export(name: str, namespace: str, **spec: Any) -> Export | Refused:
    whole = {
        "cluster": "eu-1",
        "service": {"namespace": namespace, "name": name},
        "exportedAt": "2026-01-02T03:04:05Z",
        "ports": [{"name": "http", "port": 80}],
        "ipFamilies": ["IPv4"],
    }
    metadata = {"namespace": "isthmus-eu-1", "name": f"{name}.{namespace}"}
    return exported_service(
        msgspec.convert({"metadata": metadata, "spec": whole | spec}, hub.ExportedService)
    )


def test_names_that_are_long_only_when_joined_are_believed() -> None:
    """Each label may have 63 characters; what the two become together on the hub is a name of objects."""
    longest = "x" * 63
    answer = export(longest, longest)
    assert isinstance(answer, Export)
    assert len(object_name(answer.key)) == 127
    assert isinstance(export("x" * 64, "shop"), Refused)


@pytest.mark.parametrize("count", [101, 1_000])
def test_a_thousand_ports_are_refused_in_a_short_message(count: int) -> None:
    answer = export("cart", "shop", ports=[{"name": f"p{n}", "port": n + 1} for n in range(count)])
    assert isinstance(answer, Refused)
    assert (answer.reason, answer.message) == ("InvalidPorts", f"spec.ports: {count} are more than 100")


def test_fields_of_a_newer_version_are_passed_over() -> None:
    """Unknown fields change nothing, so agents of different versions hear the same of what both know."""
    assert export("cart", "shop", algorithm=7, shiny={"deep": [1, 2]}) == export("cart", "shop")
