"""Contract: rules of custom resources in CEL."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from apicontract import CRDS, Api, Object, Routes, definition, property_schema

KEYWORD = "x-kubernetes-validations"
UNCHECKED = (
    "Invalid value: null: some validation rules were not checked because the object was invalid; "
    "correct the existing errors to complete validation"
)
SPEC: Object = {
    "type": "object",
    KEYWORD: [
        {"rule": "!has(self.a) || !has(self.b)", "message": "a and b exclude each other"},
        {"rule": "!has(self.n) || self.n < 10"},
        {"rule": "self.n != 7", "message": "no seven", "reason": "FieldValueForbidden", "fieldPath": ".n"},
        {"rule": "self.n >= oldSelf.n", "message": "n never falls"},
    ],
    "required": ["n"],
    "properties": {
        "a": {
            "type": "string",
            "maxLength": 20,
            KEYWORD: [{"rule": "duration(self) > duration('1s')", "message": "too short"}],
        },
        "b": {"type": "string", "enum": ["x", "y"]},
        "n": {"type": "integer", "maximum": 20},
        "items": {
            "type": "array",
            "maxItems": 5,
            "items": {
                "type": "object",
                KEYWORD: [{"rule": "has(self.x) != has(self.y)"}],
                "properties": {"x": {"type": "string"}, "y": {"type": "string"}},
            },
        },
    },
}


def with_rules(group: str, spec: Object) -> Object:
    schema = property_schema(spec=spec)
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    return definition(group, [version])


@pytest.fixture
async def ruled(api: Api, namespace: str) -> AsyncIterator[Routes]:
    """A custom resource with the rules of SPEC."""
    group = f"g{uuid.uuid4().hex[:8]}.contract.test"
    made = await api.post(CRDS, with_rules(group, SPEC))
    assert made.code == 201, made.body
    path = f"/apis/{group}/v1/namespaces/{namespace}/routes"
    await api.until(path, lambda answer: answer.code == 200)
    yield Routes(f"{CRDS}/routes.{group}", path, f"{group}/v1")
    await api.delete(f"{CRDS}/routes.{group}")


def route(ruled: Routes, **spec: Any) -> Object:
    return {"apiVersion": ruled.api_version, "kind": "Route", "metadata": {"name": "a"}, "spec": spec}


@pytest.mark.parametrize(
    ("spec", "causes"),
    [
        (
            {"n": 1, "a": "2s", "b": "x"},
            [("spec", 'Invalid value: "object": a and b exclude each other')],
        ),
        ({"n": 11}, [("spec", 'Invalid value: "object": failed rule: !has(self.n) || self.n < 10')]),
        ({"n": 7}, [("spec.n", "Forbidden: no seven")]),
        ({"n": 1, "a": "1ms"}, [("spec.a", 'Invalid value: "string": too short')]),
        (
            {"n": 1, "a": "soon"},
            [
                (
                    "spec.a",
                    "Invalid value: \"string\": type conversion error from 'string' to "
                    "'google.protobuf.Duration' evaluating rule: too short",
                )
            ],
        ),
        (
            {"n": 1, "items": [{"x": "1"}, {}]},
            [("spec.items[1]", 'Invalid value: "object": failed rule: has(self.x) != has(self.y)')],
        ),
        (
            {"n": 30, "a": "2s"},
            [
                ("spec.n", "Invalid value: 30: spec.n in body should be less than or equal to 20"),
                ("spec", 'Invalid value: "object": failed rule: !has(self.n) || self.n < 10'),
            ],
        ),
        (
            {"n": 1, "a": "1s", "b": "z"},
            [("spec.b", 'Unsupported value: "z": supported values: "x", "y"'), ("<nil>", UNCHECKED)],
        ),
    ],
)
async def test_broken_rules_name_field_and_message(
    api: Api, ruled: Routes, spec: Object, causes: list[tuple[str, str]]
) -> None:
    refused = await api.post(ruled.path, route(ruled, **spec))
    assert refused.code == 422, refused.body
    found = [(cause["field"], cause["message"]) for cause in refused.body["details"]["causes"]]
    assert found == causes


async def test_rules_about_the_old_value_hold_for_updates_only(api: Api, ruled: Routes) -> None:
    assert (await api.post(ruled.path, route(ruled, n=3))).code == 201
    assert (await api.merge(f"{ruled.path}/a", {"spec": {"n": 4}})).code == 200
    refused = await api.merge(f"{ruled.path}/a", {"spec": {"n": 2}})
    assert (refused.code, refused.fields()) == (422, ["spec"])
    assert "n never falls" in refused.body["message"]


async def test_a_rule_that_came_later_spares_what_an_update_leaves_alone(api: Api, ruled: Routes) -> None:
    assert (await api.post(ruled.path, route(ruled, n=3, a="2s"))).code == 201
    crd = (await api.get(ruled.definition)).body
    spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    spec["properties"]["a"][KEYWORD][0]["rule"] = "duration(self) > duration('1m')"
    assert (await api.put(ruled.definition, crd)).code == 200
    body = route(ruled, n=3, a="2s")
    body["metadata"]["name"] = "b"
    await api.until_answer("POST", ruled.path, body, code=422, dryRun="All")
    assert (await api.merge(f"{ruled.path}/a", {"spec": {"n": 4}})).code == 200
    refused = await api.merge(f"{ruled.path}/a", {"spec": {"a": "3s"}})
    assert (refused.code, refused.fields()) == (422, ["spec.a"])


@pytest.mark.parametrize("rule", ["self.n <", "self.n == 'open", "frobnicate(self.n)", "selves.n > 1"])
async def test_a_rule_that_cannot_be_compiled_is_refused(api: Api, rule: str) -> None:
    crd = with_rules(f"g{uuid.uuid4().hex[:8]}.contract.test", {**SPEC, KEYWORD: [{"rule": rule}]})
    refused = await api.post(CRDS, crd, dryRun="All")
    assert refused.code == 422, refused.body
    (field,) = refused.fields()
    assert field.endswith(f".properties[spec].{KEYWORD}[0].rule")
    assert "compilation failed: " in refused.body["message"]
