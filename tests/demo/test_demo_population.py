"""Addresses of the world, and pods, slices and exports that follow from manifests."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Any

import pytest

from isthmus.demo.manifests import Manifests, read_manifests
from isthmus.demo.policies import policies_for
from isthmus.demo.population import Population, populate, services
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
    assert [(x.port, x.http) for x in population.listeners if x.address == population.spare] == [(8080, True)]


def test_http_and_grpc_ports_answer_and_others_echo(shop: Manifests) -> None:
    kinds = {(x.port, x.http) for x in populated(shop)[0].listeners}
    assert kinds == {(8080, True), (7070, True), (9090, False), (4222, False), (6379, False)}


def test_only_annotated_services_are_exported_unless_all_are() -> None:
    found = Manifests()
    found.services = [
        (service, {**raw, "metadata": {"name": raw["metadata"]["name"], "namespace": "shop"}})
        for service, raw in read_manifests(SHOP).services
    ]
    bare = [s for s, _ in found.services if s.metadata.annotations]
    assert len(bare) == 5
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
    assert all(
        p["spec"] == {"strategy": "ActiveActive", "health": {}, "dns": {"answer": "Endpoints"}} for p in made
    )
    assert policies_for(known, shop.policies, None) == shop.policies
    assert policies_for(known, shop.policies, []) == []


def test_every_policy_of_the_shop_is_accepted(shop: Manifests) -> None:
    import msgspec

    from isthmus.api.policy import GlobalTrafficPolicy
    from isthmus.model.policy import Policy

    for body in policies_for(services(shop, export_all=True), shop.policies, None):
        policy = msgspec.json.decode(msgspec.json.encode(body), type=GlobalTrafficPolicy)
        assert isinstance(accept(policy, "member"), Policy)
