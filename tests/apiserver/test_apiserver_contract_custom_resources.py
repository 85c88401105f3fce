"""Contract: CustomResourceDefinitions and the resources they make."""

from __future__ import annotations

import copy
import uuid
from typing import Any

import pytest
from apicontract import CRDS, ROUTE_SPEC, Api, Object, Routes, definition, property_schema

from isthmus.api.crds import all_crds


def version(name: str, *, storage: bool = False, served: bool = True, schema: Object | None = None) -> Object:
    wanted = schema or property_schema(spec=property_schema(x={"type": "integer"}))
    return {"name": name, "served": served, "storage": storage, "schema": {"openAPIV3Schema": wanted}}


def group() -> str:
    return f"g{uuid.uuid4().hex[:8]}.contract.test"


async def test_a_definition_is_established_with_its_names(api: Api, routes: Routes) -> None:
    found = await api.until(
        routes.definition,
        lambda answer: len(answer.body.get("status", {}).get("conditions", ())) == 2,
    )
    spec, status = found.body["spec"], found.body["status"]
    assert spec["names"] == {
        "plural": "routes",
        "singular": "route",
        "kind": "Route",
        "listKind": "RouteList",
    }
    assert {each["type"]: each["status"] for each in status["conditions"]} == {
        "NamesAccepted": "True",
        "Established": "True",
    }
    assert status["acceptedNames"] == spec["names"]
    assert status["storedVersions"] == ["v1"]


async def test_unknown_fields_are_pruned_and_defaults_filled(api: Api, routes: Routes) -> None:
    body = routes.route("a", targets=[{"cluster": "eu-1", "colour": "red"}], unknown={"x": 1})
    made = await api.post(routes.path, body)
    assert made.code == 201
    assert made.body["spec"] == {"strategy": "Locality", "targets": [{"cluster": "eu-1", "weight": 1}]}
    warnings = made.headers.getall("Warning")
    assert any('unknown field \\"spec.unknown\\"' in text for text in warnings)
    assert any('unknown field \\"spec.targets[0].colour\\"' in text for text in warnings)


async def test_strict_validation_refuses_unknown_fields(api: Api, routes: Routes) -> None:
    refused = await api.post(routes.path, routes.route("a", unknown=1), fieldValidation="Strict")
    assert refused.code == 400
    assert 'strict decoding error: unknown field "spec.unknown"' in refused.body["message"]


@pytest.mark.parametrize(
    ("spec", "field", "text"),
    [
        ({"targets": [{}]}, "spec.targets[0].cluster", "Required value"),
        ({"replicas": "3"}, "spec.replicas", 'must be of type integer: "string"'),
        ({"replicas": -1}, "spec.replicas", "should be greater than or equal to 0"),
        ({"replicas": 11}, "spec.replicas", "should be less than or equal to 10"),
        ({"strategy": "Fast"}, "spec.strategy", 'supported values: "Locality", "FailOver"'),
        ({"hosts": ["a", "b", "c"]}, "spec.hosts", "must have at most 2 items"),
        ({"hosts": ["UPPER"]}, "spec.hosts[0]", "should match '^[a-z.]+$'"),
        ({"hosts": ["abcdefghij"]}, "spec.hosts[0]", "Too long: may not be more than 9 bytes"),
        ({"port": True}, "spec.port", "must be of type integer,string"),
        ({"aliases": ["x", "x"]}, "spec.aliases[1]", 'Duplicate value: "x"'),
        ({"targets": [{"cluster": ""}]}, "spec.targets[0].cluster", "should be at least 1 chars long"),
        (
            {"targets": [{"cluster": "a"}, {"cluster": "a"}]},
            "spec.targets[1]",
            'Duplicate value: {"cluster":"a"}',
        ),
        ({"labels": {"a": 1}}, "spec.labels.a", 'must be of type string: "integer"'),
    ],
)
async def test_violations_name_the_field(api: Api, routes: Routes, spec: Any, field: str, text: str) -> None:
    refused = await api.post(routes.path, routes.route("a", **spec))
    assert (refused.code, refused.body["reason"]) == (422, "Invalid")
    assert refused.fields() == [field]
    assert text in refused.body["details"]["causes"][0]["message"]
    group_ = routes.api_version.partition("/")[0]
    assert refused.body["message"].startswith(f'Route.{group_} "a" is invalid: {field}: ')


async def test_a_missing_spec_field_and_a_wrong_one_are_both_named(api: Api, routes: Routes) -> None:
    body = routes.route("a", replicas=-1)
    del body["spec"]["targets"]
    refused = await api.post(routes.path, body)
    assert set(refused.fields()) == {"spec.targets", "spec.replicas"}


async def test_custom_resources_must_say_what_they_are(api: Api, routes: Routes) -> None:
    body = routes.route("a")
    del body["kind"]
    assert (await api.post(routes.path, body)).code == 400


async def test_spec_and_status_are_written_through_their_own_doors(api: Api, routes: Routes) -> None:
    made = (await api.post(routes.path, {**routes.route("a"), "status": {"ready": True}})).body
    assert "status" not in made
    assert made["metadata"]["generation"] == 1
    path = f"{routes.path}/a"
    body = copy.deepcopy(made)
    body["spec"]["replicas"] = 7
    body["status"] = {"ready": True}
    status = (await api.put(f"{path}/status", body)).body
    assert status["status"] == {"ready": True}
    assert "replicas" not in status["spec"]
    assert status["metadata"]["generation"] == 1
    spec = (await api.merge(path, {"spec": {"replicas": 7}, "status": {"ready": False}})).body
    assert spec["spec"]["replicas"] == 7
    assert spec["status"] == {"ready": True}
    assert spec["metadata"]["generation"] == 2
    labelled = (await api.merge(path, {"metadata": {"labels": {"a": "b"}}})).body
    assert labelled["metadata"]["generation"] == 2
    assert (await api.get(f"{path}/status")).body == labelled


async def test_one_object_is_served_in_every_version(api: Api, namespace: str) -> None:
    name = group()
    beta = version("v1beta1", schema=property_schema(spec=property_schema(x={"type": "integer"})))
    crd = definition(name, [version("v1", storage=True), beta, version("v1alpha1", served=False)])
    assert (await api.post(CRDS, crd)).code == 201
    new, old = (f"/apis/{name}/{each}/namespaces/{namespace}/routes" for each in ("v1", "v1beta1"))
    await api.until(new, lambda answer: answer.code == 200)
    body = {"apiVersion": f"{name}/v1beta1", "kind": "Route", "metadata": {"name": "a"}, "spec": {"x": 1}}
    made = await api.post(old, body)
    assert made.body["apiVersion"] == f"{name}/v1beta1"
    read = (await api.get(f"{new}/a")).body
    assert read["apiVersion"] == f"{name}/v1"
    assert read["metadata"]["uid"] == made.body["metadata"]["uid"]
    assert [item["apiVersion"] for item in (await api.get(new)).body["items"]] == [f"{name}/v1"]
    since = read["metadata"]["resourceVersion"]
    async with api.watch(old, resourceVersion=since) as watch:
        assert (await api.put(f"{new}/a", {**read, "spec": {"x": 2}})).code == 200
        event = await watch.next()
    assert event["object"]["apiVersion"] == f"{name}/v1beta1"
    assert (await api.get(new.replace("/v1/", "/v1alpha1/"))).code == 404
    preferred = (await api.get(f"/apis/{name}")).body["preferredVersion"]["version"]
    assert preferred == "v1"
    await api.delete(f"{CRDS}/routes.{name}")


async def test_cluster_scoped_resources_live_outside_namespaces(api: Api, namespace: str) -> None:
    name = group()
    await api.post(CRDS, definition(name, [version("v1", storage=True)], scope="Cluster"))
    path = f"/apis/{name}/v1/routes"
    await api.until(path, lambda answer: answer.code == 200)
    body = {"apiVersion": f"{name}/v1", "kind": "Route", "metadata": {"name": "a"}}
    assert (await api.post(path, body)).code == 201
    assert "namespace" not in (await api.get(f"{path}/a")).body["metadata"]
    assert (await api.get(f"/apis/{name}/v1/namespaces/{namespace}/routes")).code == 404
    await api.delete(f"{CRDS}/routes.{name}")


async def test_a_definition_that_is_not_structural_is_refused(api: Api) -> None:
    cases = {
        "no storage version": definition(group(), [version("v1")]),
        "no schema": definition(group(), [{"name": "v1", "served": True, "storage": True}]),
        "untyped field": definition(group(), [version("v1", storage=True, schema=property_schema(spec={}))]),
        "bad pattern": definition(
            group(),
            [version("v1", storage=True, schema=property_schema(x={"type": "string", "pattern": "("}))],
        ),
        "bad scope": definition(group(), [version("v1", storage=True)], scope="Galaxy"),
    }
    misnamed = definition(group(), [version("v1", storage=True)])
    misnamed["metadata"]["name"] = "other.name.test"
    for case, crd in {**cases, "misnamed": misnamed}.items():
        refused = await api.post(CRDS, crd)
        assert (refused.code, refused.body["reason"]) == (422, "Invalid"), case


async def test_a_changed_schema_holds_for_new_writes(api: Api, routes: Routes) -> None:
    crd = (await api.get(routes.definition)).body
    spec = copy.deepcopy(ROUTE_SPEC)
    spec["properties"]["replicas"]["maximum"] = 2
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"] = spec
    assert (await api.put(routes.definition, crd)).code == 200
    await api.until_answer("POST", routes.path, routes.route("a", replicas=3), code=422, dryRun="All")


async def test_deleting_a_definition_deletes_its_objects(api: Api, routes: Routes) -> None:
    await api.post(routes.path, routes.route("a"))
    assert (await api.delete(routes.definition)).code == 200
    await api.until_gone(routes.definition)
    await api.until_gone(routes.path)


@pytest.mark.parametrize("crd", all_crds(), ids=lambda crd: str(crd["metadata"]["name"]))
async def test_the_definitions_of_this_project_are_accepted(api: Api, crd: Object) -> None:
    made = await api.post(CRDS, crd, dryRun="All")
    assert made.code == 201, made.body
