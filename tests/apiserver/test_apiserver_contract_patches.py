"""Contract: merge, JSON and strategic merge patches."""

from __future__ import annotations

from typing import Any

import pytest
from apicontract import Answer, Api, Routes

JSON_PATCH = "application/json-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"


@pytest.fixture
async def config(api: Api, namespace: str) -> str:
    """The path of a config map with data x=1, y=2."""
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    await api.post(path, {"metadata": {"name": "a", "labels": {"l": "1"}}, "data": {"x": "1", "y": "2"}})
    return f"{path}/a"


async def json_patch(api: Api, path: str, *operations: dict[str, Any]) -> Answer:
    return await api.call("PATCH", path, list(operations), kind=JSON_PATCH)


async def test_a_merge_patch_merges_and_null_removes(api: Api, config: str) -> None:
    patched = await api.merge(config, {"data": {"x": None, "z": "3"}})
    assert patched.code == 200
    assert patched.body["data"] == {"y": "2", "z": "3"}
    assert patched.body["metadata"]["labels"]["l"] == "1"


async def test_a_patch_may_insist_on_a_resource_version(api: Api, config: str) -> None:
    seen = (await api.get(config)).body["metadata"]["resourceVersion"]
    await api.merge(config, {"data": {"x": "2"}})
    stale = await api.merge(config, {"metadata": {"resourceVersion": seen}, "data": {"x": "3"}})
    assert (stale.code, stale.body["reason"]) == (409, "Conflict")


async def test_a_patch_cannot_touch_what_the_server_owns(api: Api, config: str) -> None:
    before = (await api.get(config)).body["metadata"]
    forged = {"creationTimestamp": "2000-01-01T00:00:00Z", "generation": 9, "labels": {"new": "1"}}
    after = (await api.merge(config, {"metadata": forged})).body["metadata"]
    assert after["creationTimestamp"] == before["creationTimestamp"]
    assert after.get("generation") == before.get("generation")
    assert after["labels"]["new"] == "1"


async def test_json_patch_operations_apply_in_order(api: Api, config: str) -> None:
    patched = await json_patch(
        api,
        config,
        {"op": "test", "path": "/data/x", "value": "1"},
        {"op": "replace", "path": "/data/x", "value": "one"},
        {"op": "move", "from": "/data/y", "path": "/data/z"},
        {"op": "copy", "from": "/data/x", "path": "/data/w"},
        {"op": "add", "path": "/metadata/labels/a~1b", "value": "slash"},
        {"op": "remove", "path": "/metadata/labels/l"},
    )
    assert patched.code == 200, patched.body
    assert patched.body["data"] == {"x": "one", "z": "2", "w": "one"}
    assert patched.body["metadata"]["labels"] == {"a/b": "slash"}


async def test_a_json_patch_that_does_not_apply_changes_nothing(api: Api, config: str) -> None:
    for last in (
        {"op": "test", "path": "/data/x", "value": "other"},
        {"op": "remove", "path": "/data/none"},
        {"op": "replace", "path": "/data/none/deeper", "value": "1"},
    ):
        refused = await json_patch(api, config, {"op": "remove", "path": "/data/y"}, last)
        assert refused.code == 422, last
    assert (await api.get(config)).body["data"] == {"x": "1", "y": "2"}


async def test_malformed_patches_are_refused(api: Api, config: str) -> None:
    assert (await json_patch(api, config, {"op": "conjure", "path": "/data/x"})).code == 422
    assert (await json_patch(api, config, {"op": "remove", "path": "data"})).code == 422
    assert (await api.call("PATCH", config, {"data": {}}, kind=JSON_PATCH)).code == 400
    assert (await api.call("PATCH", config, {"data": {}}, kind="application/json")).code == 415


async def test_a_strategic_patch_merges_lists_by_their_key(api: Api, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/services"
    ports = [{"name": "http", "port": 80}, {"name": "dns", "port": 53, "protocol": "UDP"}]
    await api.post(path, {"metadata": {"name": "a"}, "spec": {"ports": ports}})
    changes = [
        {"port": 80, "targetPort": 8080},
        {"port": 443, "name": "https"},
        {"port": 53, "$patch": "delete"},
    ]
    patched = await api.call("PATCH", f"{path}/a", {"spec": {"ports": changes}}, kind=STRATEGIC)
    assert patched.code == 200, patched.body
    found = {port["port"]: (port["name"], port["targetPort"]) for port in patched.body["spec"]["ports"]}
    assert found == {80: ("http", 8080), 443: ("https", 443)}


async def test_custom_resources_take_no_strategic_patch(api: Api, routes: Routes) -> None:
    await api.post(routes.path, routes.route("a"))
    refused = await api.call("PATCH", f"{routes.path}/a", {"spec": {}}, kind=STRATEGIC)
    assert (refused.code, refused.body["reason"]) == (415, "UnsupportedMediaType")
