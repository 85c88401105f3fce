"""Contract: lists, their order, selectors, pages and options."""

from __future__ import annotations

from typing import Any

import pytest
from apicontract import Api, Routes


def config(name: str, **data: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "data": data}


@pytest.fixture
def maps(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/configmaps"


async def test_lists_are_ordered_and_selected_by_labels_and_name(api: Api, maps: str) -> None:
    for name, labels in (("c", {"tier": "a"}), ("a", {"tier": "b"}), ("b", {})):
        body = config(name)
        body["metadata"]["labels"] = labels
        await api.post(maps, body)

    async def names(**params: str) -> list[str]:
        listed = (await api.get(maps, **params)).body
        return [item["metadata"]["name"] for item in listed["items"] if item["metadata"]["name"] in "abc"]

    assert await names() == ["a", "b", "c"]
    assert await names(labelSelector="tier=a") == ["c"]
    assert await names(labelSelector="tier!=a") == ["a", "b"]
    assert await names(labelSelector="tier in (a, b)") == ["a", "c"]
    assert await names(labelSelector="tier notin (a),tier") == ["a"]
    assert await names(labelSelector="!tier") == ["b"]
    assert await names(fieldSelector="metadata.name=b") == ["b"]
    assert (await api.get(maps, labelSelector="tier in a")).code == 400
    assert (await api.get(maps, fieldSelector="data.x=1")).code == 400


async def test_pages_show_the_state_of_the_first_page(api: Api, maps: str) -> None:
    for name in "abcde":
        body = config(name)
        body["metadata"]["labels"] = {"own": "yes"}
        await api.post(maps, body)
    first = (await api.get(maps, limit="2", labelSelector="own=yes")).body
    await api.delete(f"{maps}/d")
    late = config("dd")
    late["metadata"]["labels"] = {"own": "yes"}
    await api.post(maps, late)
    names = [item["metadata"]["name"] for item in first["items"]]
    token = first["metadata"]["continue"]
    while token:
        page = (await api.get(maps, limit="2", labelSelector="own=yes", **{"continue": token})).body
        names += [item["metadata"]["name"] for item in page["items"]]
        assert page["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
        token = page["metadata"].get("continue")
    assert names == ["a", "b", "c", "d", "e"]
    assert (await api.get(maps, limit="2", **{"continue": "nonsense"})).code == 400


async def test_a_list_of_any_state_has_no_pages(api: Api, maps: str) -> None:
    for name in "abc":
        await api.post(maps, config(name))
    listed = (await api.get(maps, limit="1", resourceVersion="0")).body
    assert "continue" not in listed["metadata"]
    assert {"a", "b", "c"} <= {item["metadata"]["name"] for item in listed["items"]}


async def test_items_of_a_list_name_their_kind_only_if_it_is_a_custom_one(
    api: Api, maps: str, routes: Routes
) -> None:
    await api.post(maps, config("a"))
    await api.post(routes.path, routes.route("a"))
    listed = (await api.get(maps)).body
    assert (listed["kind"], listed["apiVersion"]) == ("ConfigMapList", "v1")
    assert [set(item) & {"kind", "apiVersion"} for item in listed["items"]] == [set()]
    listed = (await api.get(routes.path)).body
    assert (listed["kind"], listed["apiVersion"]) == ("RouteList", routes.api_version)
    assert [item["kind"] for item in listed["items"]] == ["Route"]


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"resourceVersionMatch": "Exact"}, "resourceVersionMatch"),
        ({"resourceVersionMatch": "Bogus", "resourceVersion": "1"}, "resourceVersionMatch"),
        ({"resourceVersionMatch": "Exact", "resourceVersion": "0"}, "resourceVersionMatch"),
        ({"sendInitialEvents": "true"}, "sendInitialEvents"),
        ({"sendInitialEvents": "true", "watch": "true"}, "resourceVersionMatch"),
        ({"watch": "1", "resourceVersionMatch": "Exact", "resourceVersion": "1"}, "resourceVersionMatch"),
    ],
)
async def test_options_that_do_not_go_together_are_refused(
    api: Api, maps: str, options: dict[str, str], field: str
) -> None:
    refused = await api.get(maps, **options)
    assert (refused.code, set(refused.fields())) == (422, {field})


async def test_a_list_from_the_future_asks_to_come_back(api: Api, maps: str) -> None:
    now = int((await api.get(maps)).body["metadata"]["resourceVersion"])
    answer = await api.get(maps, resourceVersion=str(now + 1_000_000), resourceVersionMatch="NotOlderThan")
    assert (answer.code, answer.body["reason"]) == (504, "Timeout")
