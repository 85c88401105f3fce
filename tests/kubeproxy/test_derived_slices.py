"""Plans as EndpointSlices of the derived Service."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from isthmus.api import labels
from isthmus.kubeproxy.slices import ELSEWHERE, derived_slices
from isthmus.model.names import ClusterId, EndpointId, Locality, ServiceKey, Vantage
from isthmus.model.plan import Backend, Plan, PlanGroup, PlanKey, port_id
from isthmus.model.service import (
    AddressFamily,
    Endpoint,
    Export,
    Port,
    Protocol,
    Service,
    ServiceType,
)

EU, US = ClusterId("eu-1"), ClusterId("us-1")
KEY = ServiceKey("shop", "cart")
HTTP = Port(name="http", protocol=Protocol.TCP, port=80)
BARE = Port(name="", protocol=Protocol.UDP, port=53)
BOTH = (AddressFamily.IPV4, AddressFamily.IPV6)
NAME = "derived-abc"


def service(**changes: Any) -> Service:
    export = Export(cluster=EU, key=KEY, created=1.0, type=ServiceType.CLUSTER_SET_IP, ports=(HTTP, BARE))
    merged = Service(
        key=KEY,
        type=ServiceType.CLUSTER_SET_IP,
        ports=(BARE, HTTP),
        exports=(export,),
        ip_families=BOTH,
        affinity=None,
        internal_traffic_policy="Cluster",
        traffic_distribution="",
        labels=(),
        annotations=(),
        conflicts=(),
    )
    return replace(merged, **changes)


def backend(cluster: ClusterId, number: int, port: int | None = 8080, *addresses: str) -> Backend:
    own = addresses or (f"10.{1 if cluster == EU else 2}.{number // 250}.{number % 250 + 1}",)
    return Backend(id=EndpointId(f"cart-{number}"), cluster=cluster, addresses=own, port=port)


def group(cluster: ClusterId, *backends: Backend, zone: str = "z1", points: int = 10_000) -> PlanGroup:
    return PlanGroup(locality=Locality(cluster, "r", zone), step=0, basis_points=points, backends=backends)


def plans(port: Port, *shares: PlanGroup, **others: tuple[PlanGroup, ...]) -> dict[str, Plan]:
    key = PlanKey(KEY, port_id(port), Vantage("r", "z1", EU))
    return {port_id(port): Plan(key=key, port=port, shares=shares, **others)}


def addresses(rendered: list[dict[str, Any]]) -> list[str]:
    return sorted(text for one in rendered for entry in one["endpoints"] for text in entry["addresses"])


def test_a_slice_belongs_to_the_derived_service_and_to_nothing_of_the_mcs_api() -> None:
    (one,) = derived_slices(service(), plans(HTTP, group(EU, backend(EU, 0))), NAME, "uid-1")
    assert one["metadata"]["namespace"] == "shop"
    assert one["metadata"]["name"].startswith(f"{NAME}-")
    assert one["metadata"]["labels"] == {
        labels.SERVICE_NAME: NAME,
        labels.SLICE_MANAGED_BY: "isthmus.dev",
        labels.MANAGED_BY: "isthmus",
    }
    assert not any(key.startswith("multicluster.") for key in one["metadata"]["labels"])
    assert one["metadata"]["ownerReferences"] == [
        {"apiVersion": "v1", "kind": "Service", "name": NAME, "uid": "uid-1"}
    ]
    assert one["ports"] == [{"name": "http", "protocol": "TCP", "port": 8080}]
    assert one["endpoints"] == [
        {
            "addresses": ["10.1.0.1"],
            "conditions": {"ready": True, "serving": True, "terminating": False},
            "zone": "z1",
        }
    ]


def test_only_backends_with_a_share_are_there() -> None:
    given = plans(
        HTTP,
        group(EU, backend(EU, 0), points=7000),
        group(US, backend(US, 1), points=3000),
        standby=(group(US, backend(US, 2), points=0),),
        unhealthy=(group(EU, backend(EU, 3), points=0),),
        draining=(group(EU, backend(EU, 4), points=0),),
    )
    assert addresses(derived_slices(service(), given, NAME, "u")) == ["10.1.0.1", "10.2.0.2"]


def test_an_empty_plan_makes_no_slices() -> None:
    assert derived_slices(service(), plans(HTTP), NAME, "u") == []
    assert derived_slices(service(), {}, NAME, "u") == []


def test_a_headless_service_has_no_derived_slices() -> None:
    given = plans(HTTP, group(EU, backend(EU, 0)))
    assert derived_slices(service(type=ServiceType.HEADLESS), given, NAME, "u") == []


def test_ports_with_different_backends_stand_in_slices_of_their_own() -> None:
    given = plans(HTTP, group(EU, backend(EU, 0), backend(EU, 1))) | plans(
        BARE, group(EU, backend(EU, 0, 5353), backend(EU, 2, 5353))
    )
    told = {
        entry["addresses"][0]: {port["name"]: port["port"] for port in one["ports"]}
        for one in derived_slices(service(), given, NAME, "u")
        for entry in one["endpoints"]
    }
    assert told == {
        "10.1.0.1": {"http": 8080, "udp-53": 5353},
        "10.1.0.2": {"http": 8080},
        "10.1.0.3": {"udp-53": 5353},
    }


def test_each_family_has_slices_of_its_own() -> None:
    given = plans(HTTP, group(EU, backend(EU, 0, 8080, "10.1.0.1", "fd00::1")))
    rendered = derived_slices(service(), given, NAME, "u")
    assert {one["addressType"]: addresses([one]) for one in rendered} == {
        "IPv4": ["10.1.0.1"],
        "IPv6": ["fd00::1"],
    }
    only_four = service(ip_families=(AddressFamily.IPV4,))
    assert addresses(derived_slices(only_four, given, NAME, "u")) == ["10.1.0.1"]


def test_two_clusters_may_name_their_endpoints_alike() -> None:
    given = plans(HTTP, group(EU, backend(EU, 0)), group(US, backend(US, 0)))
    assert addresses(derived_slices(service(), given, NAME, "u")) == ["10.1.0.1", "10.2.0.1"]


def test_only_own_endpoints_keep_their_node() -> None:
    own = Endpoint(
        id=EndpointId("cart-0"),
        cluster=EU,
        region="r",
        zone="z1",
        addresses=("10.1.0.1",),
        ports=(),
        node="n1",
    )
    given = plans(HTTP, group(EU, backend(EU, 0)), group(US, backend(US, 0)))
    (one,) = derived_slices(service(), given, NAME, "u", own=[own])
    assert {entry["addresses"][0]: entry.get("nodeName") for entry in one["endpoints"]} == {
        "10.1.0.1": "n1",
        "10.2.0.1": None,
    }


def test_a_traffic_distribution_hints_zones_for_all_endpoints_or_for_none() -> None:
    near = service(traffic_distribution="PreferClose")
    zoned = group(EU, backend(EU, 0), zone="z1")
    (one,) = derived_slices(near, plans(HTTP, zoned), NAME, "u")
    assert one["endpoints"][0]["hints"] == {"forZones": [{"name": "z1"}]}
    mixed = derived_slices(near, plans(HTTP, zoned, group(US, backend(US, 1), zone="")), NAME, "u")
    assert not any("hints" in entry for one in mixed for entry in one["endpoints"])
    (plain,) = derived_slices(service(), plans(HTTP, zoned), NAME, "u")
    assert "hints" not in plain["endpoints"][0]


def test_a_service_that_keeps_callers_on_their_node_hints_nodes_and_never_those_of_other_clusters() -> None:
    """Rules: C4. Specs: -."""
    near = service(traffic_distribution="PreferSameNode")
    own = Endpoint(
        id=EndpointId("cart-0"),
        cluster=EU,
        region="r",
        zone="z1",
        addresses=("10.1.0.1",),
        ports=(),
        node="n1",
    )
    given = plans(HTTP, group(EU, backend(EU, 0)), group(US, backend(US, 0), zone="z2"))
    (one,) = derived_slices(near, given, NAME, "u", own=[own], same_node=True)
    hints = {entry["addresses"][0]: entry["hints"] for entry in one["endpoints"]}
    assert hints["10.1.0.1"] == {"forNodes": [{"name": "n1"}], "forZones": [{"name": "z1"}]}
    assert hints["10.2.0.1"] == {"forNodes": [{"name": ELSEWHERE}], "forZones": [{"name": "z2"}]}
    (older,) = derived_slices(near, given, NAME, "u", own=[own])
    assert all(list(entry["hints"]) == ["forZones"] for entry in older["endpoints"])


def test_slices_stay_small_and_one_backend_less_rewrites_at_most_two() -> None:
    backends = [backend(EU, number) for number in range(1300)]
    before = derived_slices(service(), plans(HTTP, group(EU, *backends)), NAME, "u")
    assert all(len(one["endpoints"]) <= 500 for one in before)
    assert len(addresses(before)) == 1300
    after = derived_slices(service(), plans(HTTP, group(EU, *backends[1:])), NAME, "u")
    old = {one["metadata"]["name"]: one for one in before}
    new = {one["metadata"]["name"]: one for one in after}
    assert 1 <= len([name for name in old.keys() | new.keys() if old.get(name) != new.get(name)]) <= 2


def test_every_worked_case_shows_exactly_the_backends_that_have_a_share(worked_case: Any) -> None:
    plan = worked_case.plan()
    merged = replace(worked_case.service, ip_families=(AddressFamily.IPV4,))
    rendered = derived_slices(merged, {port_id(plan.port): plan}, NAME, "u")
    shared = sorted(text for share in plan.shares for one in share.backends for text in one.addresses)
    assert addresses(rendered) == shared
    assert all(one["ports"] == [{"name": "http", "protocol": "TCP", "port": 8080}] for one in rendered)
