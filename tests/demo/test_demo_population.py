"""Addresses of the world, and pods, slices and exports that follow from manifests."""

from __future__ import annotations

import ipaddress
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from isthmus.api import core
from isthmus.demo.checks import complete, protocols, well, words
from isthmus.demo.manifests import Manifests, read_manifests
from isthmus.demo.policies import policies_for
from isthmus.demo.population import Population, populate, services, speech
from isthmus.demo.world import ANYIP_RANGE, world
from isthmus.traffic.accept import accept

SHOP = Path(__file__).resolve().parents[2] / "examples" / "shop"


@pytest.fixture(scope="module")
def shop() -> Manifests:
    return read_manifests(SHOP)


def populated(found: Manifests) -> list[Population]:
    return [populate(member, found, export_all=False) for member in world(3).members]


def slices_of(population: Population, name: str) -> list[dict[str, Any]]:
    return [
        body
        for kind, body in population.objects
        if kind == "EndpointSlice" and body["metadata"]["labels"]["kubernetes.io/service-name"] == name
    ]


def test_three_clusters_are_two_in_one_region_and_one_in_another() -> None:
    assert [(m.name, m.region) for m in world(3).members] == [("eu-1", "eu"), ("eu-2", "eu"), ("us-1", "us")]


def test_every_address_is_local_and_belongs_to_one_place_only() -> None:
    clusters = world(60)
    local = ipaddress.ip_network(ANYIP_RANGE)
    taken = [clusters.hub]
    for member in clusters.members:
        own = [member.api, member.agent, member.envoy, member.pod_address(0), member.pod_address(19_999)]
        assert all(ipaddress.ip_address(a) in ipaddress.ip_network(member.slice) for a in own)
        assert all(clusters.owner(a) == member.name for a in own)
        assert ipaddress.ip_address(member.pod_address(19_999)) in ipaddress.ip_network(member.pod_slice)
        assert ipaddress.ip_address(member.api) not in ipaddress.ip_network(member.pod_slice)
        taken += [*own, member.hub]
    assert all(ipaddress.ip_address(a) in local for a in taken)
    assert len(set(taken)) == len(taken)
    assert len({m.name for m in clusters.members}) == 60
    assert clusters.owner(clusters.hub) == clusters.owner("192.0.2.1") == clusters.owner("2001:db8::1") == ""


def test_service_ranges_do_not_overlap() -> None:
    ranges = [ipaddress.ip_network(m.service_cidr) for m in world(60).members]
    assert not any(a.overlaps(b) for a in ranges for b in ranges if a is not b)


def test_pods_follow_the_workload_and_named_ports_are_resolved(shop: Manifests) -> None:
    population = populated(shop)[0]
    (front,) = slices_of(population, "front")
    assert [p["port"] for p in front["ports"]] == [8080]
    (checkout,) = slices_of(population, "checkout")
    assert len(checkout["endpoints"]) == 3
    assert [(p["name"], p["port"]) for p in checkout["ports"]] == [("http-api", 8080), ("metrics", 9090)]
    assert {e["zone"] for e in checkout["endpoints"]} == {"eu-1a", "eu-1b"}
    (orders,) = slices_of(population, "orders")
    assert [e["hostname"] for e in orders["endpoints"]] == ["orders-0", "orders-1"]


def test_no_pod_address_is_used_twice_and_every_slice_address_is_served(shop: Manifests) -> None:
    addresses: list[str] = []
    for population in populated(shop):
        addresses += [pod.address for pod in population.pods] + [population.spare]
        served = {(listener.address, listener.port) for listener in population.listeners}
        for kind, body in population.objects:
            if kind == "EndpointSlice":
                for endpoint in body["endpoints"]:
                    assert all((endpoint["addresses"][0], port["port"]) in served for port in body["ports"])
    assert len(set(addresses)) == len(addresses)


def test_the_spare_listens_as_the_first_routed_service_does(shop: Manifests) -> None:
    population = populated(shop)[0]
    spare = [(x.port, x.speech) for x in population.listeners if x.address == population.spare]
    assert spare == [(8080, "http")]


def test_ports_answer_as_they_are_named_and_others_echo(shop: Manifests) -> None:
    kinds = {(x.port, x.speech) for x in populated(shop)[0].listeners}
    named = {(8080, "http"), (7070, "grpc"), (8443, "https")}
    assert kinds == named | {(9090, "echo"), (4222, "echo"), (6379, "echo")}


@pytest.mark.parametrize(
    ("port", "said"),
    [
        ({"name": "grpc"}, "grpc"),
        ({"name": "web", "appProtocol": "grpc"}, "grpc"),
        ({"name": "grpc", "appProtocol": "kubernetes.io/h2c"}, "http"),
        ({"name": "https-admin"}, "https"),
        ({"port": 443}, "https"),
        ({"port": 80}, "http"),
        ({"name": "tcp", "port": 443}, "echo"),
        ({"name": "grpc", "protocol": "UDP"}, "echo"),
    ],
)
def test_what_a_port_answers_follows_from_its_app_protocol_name_or_number(
    port: dict[str, Any], said: str
) -> None:
    assert speech(msgspec.convert({"port": 1} | port, core.ServicePort)) == said


def test_only_annotated_services_are_exported_unless_all_are() -> None:
    found = Manifests()
    found.services = [
        (service, {**raw, "metadata": {"name": raw["metadata"]["name"], "namespace": "shop"}})
        for service, raw in read_manifests(SHOP).services
    ]
    bare = [s for s, _ in found.services if s.metadata.annotations]
    assert len(bare) == 6
    assert all(s.exported for s in services(found, export_all=False))
    found.services = [
        (type(s)(metadata=type(s.metadata)(name=s.metadata.name), spec=s.spec), r) for s, r in found.services
    ]
    assert not any(s.exported for s in services(found, export_all=False))
    assert all(s.exported for s in services(found, export_all=True))


def test_a_service_without_a_policy_gets_one_that_spreads_and_checks(shop: Manifests) -> None:
    known = services(shop, export_all=False)
    made = policies_for(known, [], None)
    assert {p["metadata"]["name"] for p in made} == {s.name for s in known}
    asked = {"cart": {"protocol": "GRPC"}, "pay": {"protocol": "HTTPS"}}
    for policy in made:
        health = asked.get(policy["metadata"]["name"], {})
        wanted = {"strategy": "ActiveActive", "health": health, "dns": {"answer": "Endpoints"}}
        assert policy["spec"] == wanted
    assert protocols(made) == {
        f"shop/{service.name}": asked.get(service.name, {}).get("protocol", "TCP") for service in known
    }
    assert policies_for(known, shop.policies, None) == shop.policies
    assert policies_for(known, shop.policies, []) == []


def test_every_policy_of_the_shop_is_accepted(shop: Manifests) -> None:
    from isthmus.api.policy import GlobalTrafficPolicy
    from isthmus.model.policy import Policy

    for body in policies_for(services(shop, export_all=True), shop.policies, None):
        policy = msgspec.json.decode(msgspec.json.encode(body), type=GlobalTrafficPolicy)
        assert isinstance(accept(policy, "member"), Policy)


def test_what_is_found_well_is_told_by_protocol_when_every_cluster_has_been_asked() -> None:
    found = Counter({("TCP", "eu-1", True): 3, ("GRPC", "eu-2", True): 2, ("TCP", "eu-2", None): 1})
    assert not complete(found, ["eu-1", "eu-2"])
    assert words(found) == "2 GRPC, 3 TCP up, 1 not"
    found["TCP", "eu-2", False] = found.pop(("TCP", "eu-2", None))
    assert complete(found, ["eu-1", "eu-2"])
    assert not complete(found, ["eu-1", "eu-2", "us-1"])
    assert well(found) == {"GRPC": 2, "TCP": 3}
