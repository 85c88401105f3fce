"""Contract: Services and their cluster IPs (10.96.0.0/16, as the contract server is configured)."""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator
from typing import Any

import pytest
from apicontract import Api, Object

RANGE = ipaddress.ip_network("10.96.0.0/16")


def service(name: str, **spec: Any) -> Object:
    spec.setdefault("ports", [{"port": 80}])
    return {"metadata": {"name": name}, "spec": spec}


@pytest.fixture
def services(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/services"


async def test_a_service_gets_an_address_and_defaults(api: Api, services: str) -> None:
    made = await api.post(services, service("a"))
    spec = made.body["spec"]
    assert made.code == 201
    assert ipaddress.ip_address(spec["clusterIP"]) in RANGE
    assert spec["clusterIPs"] == [spec["clusterIP"]]
    assert spec["ports"] == [{"port": 80, "protocol": "TCP", "targetPort": 80}]
    assert (spec["type"], spec["sessionAffinity"]) == ("ClusterIP", "None")
    assert (spec["ipFamilies"], spec["ipFamilyPolicy"]) == (["IPv4"], "SingleStack")
    assert "generation" not in made.body["metadata"]


async def test_addresses_are_distinct_and_released_on_delete(api: Api, services: str) -> None:
    first = (await api.post(services, service("a"))).body["spec"]["clusterIP"]
    second = (await api.post(services, service("b"))).body["spec"]["clusterIP"]
    assert first != second
    await api.delete(f"{services}/a")
    again = await api.post(services, service("c", clusterIP=first))
    assert (again.code, again.body["spec"]["clusterIP"]) == (201, first)


async def test_a_chosen_address_must_be_free_and_in_range(api: Api, services: str) -> None:
    taken = (await api.post(services, service("a"))).body["spec"]["clusterIP"]
    for address in (taken, "192.0.2.1", "not-an-address"):
        refused = await api.post(services, service("b", clusterIP=address))
        assert (refused.code, refused.body["reason"]) == (422, "Invalid"), address
        wanted = "spec.clusterIPs[0]" if address == "not-an-address" else "spec.clusterIPs"
        assert wanted in refused.fields(), address
    assert (await api.get(f"{services}/b")).code == 404


async def test_headless_and_external_services_have_no_address(api: Api, services: str) -> None:
    headless = (await api.post(services, service("a", clusterIP="None", ports=[]))).body["spec"]
    assert (headless["clusterIP"], headless["clusterIPs"]) == ("None", ["None"])
    external = await api.post(services, service("b", type="ExternalName", externalName="example.test"))
    assert external.code == 201
    assert "clusterIP" not in external.body["spec"]


async def test_an_address_never_changes_and_need_not_be_repeated(api: Api, services: str) -> None:
    made = (await api.post(services, service("a"))).body
    changed = await api.merge(f"{services}/a", {"spec": {"clusterIP": "10.96.7.7", "clusterIPs": None}})
    assert changed.code == 422
    kept = await api.put(f"{services}/a", service("a", ports=[{"port": 81}]))
    assert kept.code == 200
    assert kept.body["spec"]["clusterIP"] == made["spec"]["clusterIP"]
    taken = await api.post(services, service("b", clusterIP=made["spec"]["clusterIP"]))
    assert taken.code == 422


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"ports": []}, "spec.ports"),
        ({"ports": [{"port": 0}]}, "spec.ports[0].port"),
        ({"ports": [{"port": 80}, {"name": "b", "port": 81}]}, "spec.ports[0].name"),
        ({"ports": [{"name": "a", "port": 80}, {"name": "a", "port": 81}]}, "spec.ports[1].name"),
        ({"ports": [{"name": "a", "port": 80}, {"name": "b", "port": 80}]}, "spec.ports[1]"),
        ({"ports": [{"port": 80, "protocol": "SMOKE"}]}, "spec.ports[0].protocol"),
        ({"type": "Sideways"}, "spec.type"),
        ({"trafficDistribution": "PreferFar"}, "spec.trafficDistribution"),
        ({"ipFamilies": ["IPv6"]}, "spec.ipFamilies[0]"),
        ({"ipFamilyPolicy": "RequireDualStack"}, "spec.ipFamilyPolicy"),
    ],
)
async def test_bad_services_name_the_field(api: Api, services: str, spec: Object, field: str) -> None:
    refused = await api.post(services, service("a", **spec))
    assert refused.code == 422
    assert field in refused.fields()


async def test_service_names_are_dns_labels(api: Api, services: str) -> None:
    for name in ("1st", "with.dot", "a" * 64):
        assert (await api.post(services, service(name))).fields() == ["metadata.name"]


async def test_the_status_of_a_service_has_its_own_door(api: Api, services: str) -> None:
    made = (await api.post(services, service("a", type="LoadBalancer"))).body
    status = {"loadBalancer": {"ingress": [{"ip": "192.0.2.7"}]}}
    assert (await api.merge(f"{services}/a", {"status": status})).body["status"] == made["status"]
    done = await api.merge(
        f"{services}/a/status", {"status": status, "spec": {"sessionAffinity": "ClientIP"}}
    )
    assert done.code == 200, done.body
    assert done.body["status"]["loadBalancer"]["ingress"][0]["ip"] == "192.0.2.7"
    assert done.body["spec"] == made["spec"]
    await api.post(services, service("b"))
    refused = await api.merge(f"{services}/b/status", {"status": status})
    assert refused.fields() == ["status.loadBalancer.ingress"]


async def test_the_kubernetes_service_has_the_first_address(api: Api) -> None:
    found = (await api.get("/api/v1/namespaces/default/services/kubernetes")).body
    assert found["spec"]["clusterIP"] == str(RANGE[1])


@pytest.fixture
async def few(small: Api) -> AsyncIterator[str]:
    """The path of services in a cluster with 14 addresses, all but one of them free."""
    made = await small.post("/api/v1/namespaces", {"metadata": {"generateName": "contract-"}})
    space = f"/api/v1/namespaces/{made.body['metadata']['name']}"
    yield f"{space}/services"
    await small.delete(space)
    await small.until_gone(space)


async def test_dual_stack_services_have_an_address_of_each_family(small: Api, few: str) -> None:
    single = (await small.post(few, service("single"))).body["spec"]
    assert (single["ipFamilies"], len(single["clusterIPs"])) == (["IPv4"], 1)
    both = (await small.post(few, service("both", ipFamilyPolicy="PreferDualStack"))).body["spec"]
    assert both["ipFamilies"] == ["IPv4", "IPv6"]
    assert ipaddress.ip_address(both["clusterIPs"][1]) in ipaddress.ip_network("fd00:97::/112")
    six = (await small.post(few, service("six", ipFamilies=["IPv6"]))).body["spec"]
    assert six["clusterIPs"] == [six["clusterIP"]]
    assert ":" in six["clusterIP"]


async def test_a_full_range_refuses_and_serves_again_after_a_release(small: Api, few: str) -> None:
    made = [await small.post(few, service(f"s{index}")) for index in range(14)]
    assert [answer.code for answer in made] == [201] * 13 + [500]
    text = "Internal error occurred: failed to allocate a serviceIP: range is full"
    assert (made[-1].body["reason"], made[-1].body["message"]) == ("InternalError", text)
    await small.delete(f"{few}/s5")
    await small.until_answer("POST", few, service("again"), code=201)
