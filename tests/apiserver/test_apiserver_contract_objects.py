"""Contract: create, read and replace, discovery, and what the built-in kinds refuse."""

from __future__ import annotations

from typing import Any

import pytest
from apicontract import Api, Routes


def config(name: str, **data: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "data": data}


@pytest.fixture
def maps(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/configmaps"


async def test_a_created_object_gets_its_identity_from_the_server(
    api: Api, maps: str, namespace: str
) -> None:
    body = config("a", x="1")
    body["metadata"]["uid"] = "mine"
    made = await api.post(maps, body)
    meta = made.body["metadata"]
    assert made.code == 201
    assert made.body["kind"] == "ConfigMap"
    assert meta["namespace"] == namespace
    assert meta["uid"] != "mine"
    assert meta["creationTimestamp"].endswith("Z")
    assert int(meta["resourceVersion"]) > 0
    assert "Date" in made.headers
    assert (await api.get(f"{maps}/a")).body == made.body


async def test_generate_name_makes_distinct_names(api: Api, maps: str) -> None:
    made = [await api.post(maps, {"metadata": {"generateName": "job-"}}) for _ in range(3)]
    names = {answer.body["metadata"]["name"] for answer in made}
    assert len(names) == 3
    assert all(name.startswith("job-") and len(name) > 4 for name in names)


async def test_a_second_create_of_a_name_is_refused(api: Api, maps: str) -> None:
    await api.post(maps, config("a"))
    again = await api.post(maps, config("a"))
    assert (again.code, again.body["reason"]) == (409, "AlreadyExists")
    assert again.body["message"] == 'configmaps "a" already exists'
    assert again.body["kind"] == "Status"


async def test_what_does_not_exist_is_a_404_with_a_status(api: Api, maps: str) -> None:
    for answer in (await api.get(f"{maps}/none"), await api.put(f"{maps}/none", config("none"))):
        assert (answer.code, answer.body["reason"]) == (404, "NotFound")
        assert answer.body["details"] == {"name": "none", "kind": "configmaps"}
    assert (await api.get("/apis/nowhere.test/v1/things")).code == 404


async def test_bad_names_and_labels_are_named_as_fields(api: Api, maps: str) -> None:
    body = config("Not_A_Name")
    body["metadata"]["labels"] = {"good": "not good"}
    refused = await api.post(maps, body)
    assert (refused.code, refused.body["reason"]) == (422, "Invalid")
    assert set(refused.fields()) == {"metadata.name", "metadata.labels"}


async def test_malformed_bodies_are_bad_requests(api: Api, maps: str) -> None:
    for body in (b"{", b"[]", b'{"kind": "Pod", "metadata": {"name": "a"}}'):
        refused = await api.post(maps, body)
        assert (refused.code, refused.body["reason"]) == (400, "BadRequest"), body
    other = await api.call("POST", maps, b"<a/>", kind="text/xml")
    assert other.code == 415


async def test_a_replace_under_an_old_resource_version_conflicts(api: Api, maps: str) -> None:
    first = (await api.post(maps, config("a", x="1"))).body
    second = await api.put(f"{maps}/a", {**first, "data": {"x": "2"}})
    assert second.code == 200
    stale = await api.put(f"{maps}/a", {**first, "data": {"x": "3"}})
    assert (stale.code, stale.body["reason"]) == (409, "Conflict")
    assert "the object has been modified" in stale.body["message"]
    assert (await api.get(f"{maps}/a")).body["data"] == {"x": "2"}


async def test_a_replace_with_another_uid_conflicts(api: Api, maps: str) -> None:
    first = (await api.post(maps, config("a"))).body
    first["metadata"]["uid"] = "00000000-0000-0000-0000-000000000000"
    assert (await api.put(f"{maps}/a", first)).code == 409


async def test_a_replace_may_not_speak_of_another_name(api: Api, maps: str) -> None:
    await api.post(maps, config("a"))
    assert (await api.put(f"{maps}/a", config("b"))).code == 400


async def test_a_write_that_changes_nothing_keeps_the_resource_version(api: Api, maps: str) -> None:
    first = (await api.post(maps, config("a", x="1"))).body
    same = await api.put(f"{maps}/a", first)
    patched = await api.merge(f"{maps}/a", {"data": {"x": "1"}})
    assert same.body["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    assert patched.body["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


async def test_leases_and_custom_resources_want_a_resource_version_to_be_replaced(
    api: Api, namespace: str, routes: Routes
) -> None:
    leases = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
    lease = {"metadata": {"name": "a"}, "spec": {"holderIdentity": "x", "leaseDurationSeconds": 5}}
    assert (await api.post(leases, lease)).code == 201
    assert (await api.post(routes.path, routes.route("a"))).code == 201
    for path, body in ((leases, lease), (routes.path, routes.route("a", replicas=1))):
        refused = await api.put(f"{path}/a", body)
        assert refused.code == 422
        assert refused.fields() == ["metadata.resourceVersion"]


async def test_a_dry_run_stores_nothing(api: Api, maps: str) -> None:
    assert (await api.post(maps, config("a"), dryRun="All")).code == 201
    assert (await api.get(f"{maps}/a")).code == 404
    await api.post(maps, config("a", x="1"))
    assert (await api.merge(f"{maps}/a", {"data": {"x": "2"}}, dryRun="All")).body["data"] == {"x": "2"}
    await api.delete(f"{maps}/a", dryRun="All")
    assert (await api.get(f"{maps}/a")).body["data"] == {"x": "1"}


async def test_discovery_names_groups_resources_and_subresources(api: Api, routes: Routes) -> None:
    core = (await api.get("/api/v1")).body
    rows = {row["name"]: row for row in core["resources"]}
    assert rows["services"]["kind"] == "Service"
    assert rows["services"]["namespaced"] is True
    assert rows["nodes"]["namespaced"] is False
    assert "services/status" in rows
    groups = [group["name"] for group in (await api.get("/apis")).body["groups"]]
    assert {"discovery.k8s.io", "coordination.k8s.io", "apps", routes.api_version.partition("/")[0]} <= set(
        groups
    )
    own = (await api.get(f"/apis/{routes.api_version}")).body
    assert [row["name"] for row in own["resources"]] == ["routes", "routes/status"]
    assert (await api.get("/version")).body["major"] == "1"
    for path in ("/healthz", "/livez", "/readyz"):
        assert (await api.get(path)).body == "ok"


async def test_openapi_says_where_fields_are_validated(api: Api, routes: Routes) -> None:
    group, _, version = routes.api_version.partition("/")
    wanted = f"apis/{group}/{version}"
    index = await api.until("/openapi/v3", lambda answer: wanted in answer.body["paths"])
    document = (await api.get(index.body["paths"][wanted]["serverRelativeURL"].partition("?")[0])).body
    operation = document["paths"][f"/{wanted}/namespaces/{{namespace}}/routes/{{name}}"]["patch"]
    assert "fieldValidation" in {parameter["name"] for parameter in operation["parameters"]}
    assert operation["x-kubernetes-group-version-kind"]["kind"] == "Route"
    assert "api/v1" in index.body["paths"]
    assert (await api.get("/openapi/v3/apis/nowhere.test/v1")).code == 404


async def test_methods_that_do_not_fit_are_refused(api: Api, maps: str) -> None:
    assert (await api.put(maps, config("a"))).code == 405
    assert (await api.post(f"{maps}/a", config("a"))).code == 405


async def test_lease_times_need_exactly_six_digits_of_a_second(api: Api, namespace: str) -> None:
    leases = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
    lease: dict[str, Any] = {"metadata": {"name": "a"}, "spec": {"renewTime": "2026-01-01T00:00:00Z"}}
    assert (await api.post(leases, lease)).code == 400
    lease["spec"]["renewTime"] = "2026-01-01T00:00:00.000000Z"
    assert (await api.post(leases, lease)).code == 201


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.1.1", "0.0.0.0", "fd00::1", "not-an-address"])
async def test_slices_refuse_addresses_that_lead_nowhere(api: Api, namespace: str, address: str) -> None:
    path = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
    body = {"metadata": {"name": "a"}, "addressType": "IPv4", "endpoints": [{"addresses": [address]}]}
    refused = await api.post(path, body)
    assert refused.code == 422
    wrong_family = ":" in address
    assert refused.fields() == ["endpoints[0].addresses" if wrong_family else "endpoints[0].addresses[0]"]


async def test_a_put_of_a_lease_that_is_not_there_creates_it(api: Api, namespace: str) -> None:
    path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/a"
    lease: dict[str, Any] = {"metadata": {"name": "a"}, "spec": {"leaseDurationSeconds": 5}}
    made = await api.put(path, lease)
    assert (made.code, made.body["metadata"]["name"]) == (201, "a")
    await api.delete(path)
    assert (await api.put(path, made.body)).code == 409
    assert (await api.get(path)).code == 404


async def test_the_address_type_of_a_slice_never_changes(api: Api, namespace: str) -> None:
    path = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
    body = {"metadata": {"name": "a"}, "addressType": "IPv4", "endpoints": [{"addresses": ["10.64.0.1"]}]}
    made = await api.post(path, body)
    assert (made.code, made.body["metadata"]["generation"]) == (201, 1)
    changed = await api.merge(f"{path}/a", {"addressType": "IPv6", "endpoints": []})
    assert changed.code == 422
    grown = await api.merge(f"{path}/a", {"ports": [{"port": 80}]})
    assert grown.body["metadata"]["generation"] == 2
    assert grown.body["ports"] == [{"name": "", "port": 80, "protocol": "TCP"}]
