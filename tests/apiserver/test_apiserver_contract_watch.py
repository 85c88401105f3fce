"""Contract: watches."""

from __future__ import annotations

import pytest
from apicontract import Api, Object, Routes


@pytest.fixture
def maps(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/configmaps"


def config(name: str, data: str = "", **labels: str) -> Object:
    return {"metadata": {"name": name, "labels": labels}, "data": {"x": data}}


async def revision(api: Api, path: str) -> str:
    found: str = (await api.get(path)).body["metadata"]["resourceVersion"]
    return found


async def test_a_watch_tells_everything_after_its_resource_version(api: Api, maps: str) -> None:
    await api.post(maps, config("before"))
    since = await revision(api, maps)
    await api.post(maps, config("a"))
    async with api.watch(maps, resourceVersion=since) as watch:
        await api.merge(f"{maps}/a", {"data": {"x": "2"}})
        await api.delete(f"{maps}/a")
        events = [await watch.next() for _ in range(3)]
    assert [event["type"] for event in events] == ["ADDED", "MODIFIED", "DELETED"]
    assert [event["object"]["data"]["x"] for event in events] == ["", "2", "2"]
    revisions = [int(event["object"]["metadata"]["resourceVersion"]) for event in events]
    assert revisions == sorted(set(revisions))
    assert int(since) < revisions[0]


async def test_a_watch_without_resource_version_begins_with_what_is_there(api: Api, maps: str) -> None:
    await api.post(maps, config("a", own="yes"))
    await api.post(maps, config("b", own="yes"))
    async with api.watch(maps, labelSelector="own") as watch:
        assert sorted(await watch.names(2)) == [("ADDED", "a"), ("ADDED", "b")]
        await api.delete(f"{maps}/a")
        assert await watch.names(1) == [("DELETED", "a")]


async def test_a_watch_sees_only_its_namespace_and_name(api: Api, maps: str) -> None:
    other = await api.post("/api/v1/namespaces", {"metadata": {"generateName": "contract-"}})
    elsewhere = f"/api/v1/namespaces/{other.body['metadata']['name']}"
    since = await revision(api, maps)
    async with api.watch(maps, resourceVersion=since, fieldSelector="metadata.name=b") as watch:
        await api.post(f"{elsewhere}/configmaps", config("b"))
        await api.post(maps, config("a"))
        await api.post(maps, config("b", "mine"))
        event = await watch.next()
    assert (event["type"], event["object"]["data"]["x"]) == ("ADDED", "mine")
    await api.delete(elsewhere)


async def test_entering_and_leaving_a_selector_is_adding_and_deleting(api: Api, maps: str) -> None:
    since = await revision(api, maps)
    async with api.watch(maps, resourceVersion=since, labelSelector="tier=front") as watch:
        await api.post(maps, config("a", tier="back"))
        await api.merge(f"{maps}/a", {"metadata": {"labels": {"tier": "front"}}})
        await api.merge(f"{maps}/a", {"data": {"x": "2"}})
        left = await api.merge(f"{maps}/a", {"metadata": {"labels": {"tier": "back"}}})
        await api.delete(f"{maps}/a")
        await api.post(maps, config("b", tier="front"))
        events = [await watch.next() for _ in range(4)]
    assert [event["type"] for event in events] == ["ADDED", "MODIFIED", "DELETED", "ADDED"]
    gone = events[2]["object"]["metadata"]
    assert gone["labels"]["tier"] == "front"
    assert gone["resourceVersion"] == left.body["metadata"]["resourceVersion"]
    assert events[3]["object"]["metadata"]["name"] == "b"


async def test_a_watch_ends_in_time_with_a_bookmark(api: Api, maps: str) -> None:
    since = await revision(api, maps)
    params = {"resourceVersion": since, "timeoutSeconds": "1", "allowWatchBookmarks": "true"}
    async with api.watch(maps, **params) as watch:
        seen = await watch.rest()
    assert {event["type"] for event in seen} <= {"BOOKMARK"}
    assert all(set(event["object"]) <= {"kind", "apiVersion", "metadata"} for event in seen)


async def test_a_watch_from_before_the_history_ends_with_an_error(api: Api, routes: Routes) -> None:
    async with api.watch(routes.path, resourceVersion="1") as watch:
        (only,) = await watch.rest()
    assert only["type"] == "ERROR"
    assert (only["object"]["code"], only["object"]["reason"]) == (410, "Expired")
    assert only["object"]["message"].startswith("too old resource version: 1 (")


async def test_initial_events_end_with_a_marked_bookmark(api: Api, maps: str) -> None:
    await api.post(maps, config("a", own="yes"))
    params = {
        "sendInitialEvents": "true",
        "resourceVersionMatch": "NotOlderThan",
        "allowWatchBookmarks": "true",
        "labelSelector": "own",
    }
    async with api.watch(maps, **params) as watch:
        assert await watch.names(1) == [("ADDED", "a")]
        mark = await watch.next()
        assert mark["type"] == "BOOKMARK"
        assert mark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
        await api.post(maps, config("b", own="yes"))
        assert await watch.names(1) == [("ADDED", "b")]


async def test_a_named_object_is_read_even_where_a_watch_is_asked_for(api: Api, maps: str) -> None:
    await api.post(maps, config("a"))
    assert (await api.get(f"{maps}/a", watch="true")).body["kind"] == "ConfigMap"


async def test_watches_of_a_custom_resource_end_with_its_definition(api: Api, routes: Routes) -> None:
    since = await revision(api, routes.path)
    async with api.watch(routes.path, resourceVersion=since) as watch:
        await api.post(routes.path, routes.route("a"))
        assert await watch.names(1) == [("ADDED", "a")]
        await api.delete(routes.definition)
        assert await watch.names(1) == [("DELETED", "a")]
        with pytest.raises(EOFError):
            await watch.next()


async def test_a_malformed_resource_version_is_refused(api: Api, maps: str) -> None:
    assert (await api.get(maps, watch="true", resourceVersion="yesterday")).code in (400, 500)
    assert (await api.get(maps, resourceVersion="yesterday")).code == 400
