"""Accidents of the embedded server: delay, cut, error, silence, lost history."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest
from apicontract import DEADLINE, Api

from isthmus.apiserver import ApiServer, ClusterConfig, Fault
from isthmus.apiserver import server as servers

MAPS = "/api/v1/namespaces/default/configmaps"


def config(name: str) -> dict[str, Any]:
    return {"metadata": {"name": name}}


async def settled(task: asyncio.Task[Any], turns: int = 50) -> bool:
    """Whether a task ends within some turns of the event loop."""
    for _ in range(turns):
        if task.done():
            return True
        await asyncio.sleep(0)
    return False


async def test_errors_come_as_often_as_asked_and_only_where_asked(api: Api, server: ApiServer) -> None:
    faults = server.cluster("eu-1").faults
    faults.set(Fault(kind="error", code=429, count=2, retry_after=7, verbs=frozenset({"list"})))
    for _ in range(2):
        refused = await api.get(MAPS)
        assert (refused.code, refused.body["reason"]) == (429, "TooManyRequests")
        assert refused.headers["Retry-After"] == "7"
        assert refused.body["details"]["retryAfterSeconds"] == 7
    assert (await api.get(MAPS)).code == 200
    faults.set(Fault(kind="error", code=500, paths=("*/configmaps/a",)))
    assert (await api.get(f"{MAPS}/a")).code == 500
    assert (await api.get(f"{MAPS}/b")).code == 404
    faults.clear()
    assert (await api.get(f"{MAPS}/a")).code == 404


async def test_a_watch_can_be_refused_and_ended_with_410(api: Api, server: ApiServer) -> None:
    faults = server.cluster("eu-1").faults
    since = (await api.get(MAPS)).body["metadata"]["resourceVersion"]
    async with api.watch(MAPS, resourceVersion=since) as watch:
        faults.set(Fault(kind="error", code=410, verbs=frozenset({"watch"})))
        last = await watch.next()
        assert (last["type"], last["object"]["code"]) == ("ERROR", 410)
        assert await watch.rest() == []
    assert (await api.get(MAPS, watch="true", resourceVersion=since)).code == 410
    assert (await api.get(MAPS)).code == 200


async def test_a_cut_resets_running_watches_and_refuses_until_cleared(api: Api, server: ApiServer) -> None:
    faults = server.cluster("eu-1").faults
    async with api.watch(MAPS) as watch:
        faults.set(Fault(kind="cut"))
        with pytest.raises((aiohttp.ClientError, ConnectionError, EOFError)):
            await watch.next()
    with pytest.raises((aiohttp.ClientError, ConnectionError)):
        await api.get(MAPS)
    other = Api(api.session, server.url("eu-2"))
    assert (await other.get(MAPS)).code == 200
    faults.clear()
    assert (await api.get(MAPS)).code == 200


async def test_a_cut_of_some_paths_leaves_others_alone(api: Api, server: ApiServer) -> None:
    async with api.watch(MAPS) as doomed, api.watch("/api/v1/services") as spared:
        assert await spared.names(1) == [("ADDED", "kubernetes")]
        server.cluster("eu-1").faults.set(Fault(kind="cut", paths=("*/configmaps",)))
        with pytest.raises((aiohttp.ClientError, ConnectionError, EOFError)):
            await doomed.next()
        body = {"metadata": {"name": "a"}, "spec": {"ports": [{"port": 80}]}}
        await api.post("/api/v1/namespaces/default/services", body)
        assert await spared.names(1) == [("ADDED", "a")]


async def test_a_silent_server_answers_nothing_and_its_watches_go_on_later(
    api: Api, server: ApiServer
) -> None:
    cluster = server.cluster("eu-1")
    since = (await api.get(MAPS)).body["metadata"]["resourceVersion"]
    async with api.watch(MAPS, resourceVersion=since) as watch:
        cluster.faults.set(Fault(kind="silence"))
        asked = asyncio.create_task(api.get(MAPS))
        heard = asyncio.create_task(watch.next())
        cluster.faults.set(Fault(kind="silence", verbs=frozenset({"get", "list", "watch"})))
        assert (await api.post(MAPS, config("a"))).code == 201
        assert not await settled(asked)
        assert not await settled(heard)
        cluster.faults.clear()
        async with asyncio.timeout(DEADLINE):
            assert (await asked).code == 200
            assert (await heard)["object"]["metadata"]["name"] == "a"


async def test_a_delay_holds_every_answer(api: Api, server: ApiServer) -> None:
    server.cluster("eu-1").faults.set(Fault(kind="delay", seconds=0.05))
    loop = asyncio.get_running_loop()
    begun = loop.time()
    assert (await api.get(MAPS)).code == 200
    assert loop.time() - begun >= 0.05


async def test_lost_history_ends_watches_and_lists_with_410(api: Api, server: ApiServer) -> None:
    since = (await api.get(MAPS)).body["metadata"]["resourceVersion"]
    for name in "abc":
        await api.post(MAPS, config(name))
    token = (await api.get(MAPS, limit="1")).body["metadata"]["continue"]
    await api.post(MAPS, config("d"))
    server.cluster("eu-1").compact()
    async with api.watch(MAPS, resourceVersion=since) as watch:
        only = await watch.rest()
    assert [(event["type"], event["object"]["code"]) for event in only] == [("ERROR", 410)]
    assert only[0]["object"]["reason"] == "Expired"
    stale = await api.get(MAPS, limit="1", **{"continue": token})
    assert (stale.code, stale.body["reason"]) == (410, "Expired")


async def test_old_history_is_forgotten_and_no_watch_ends_by_it(
    session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "HISTORY_SECONDS", 0.02)
    async with ApiServer([ClusterConfig(name="eu-1")]) as server:
        cluster = server.cluster("eu-1")
        api = Api(session, cluster.url)
        since = (await api.get(MAPS)).body["metadata"]["resourceVersion"]
        async with api.watch(MAPS, resourceVersion=since) as watch:
            await api.post(MAPS, config("a"))
            assert (await watch.next())["object"]["metadata"]["name"] == "a"
            async with asyncio.timeout(DEADLINE):
                while not await _expired(api, since):
                    await asyncio.sleep(0.01)
            await api.post(MAPS, config("b"))
            assert (await watch.next())["object"]["metadata"]["name"] == "b"


async def _expired(api: Api, since: str) -> bool:
    """Whether a watch that begins there is too late."""
    async with api.watch(MAPS, resourceVersion=since) as watch:
        return (await watch.next())["type"] == "ERROR"


async def test_a_watch_that_falls_behind_the_history_is_told_so(api: Api, server: ApiServer) -> None:
    await api.post(MAPS, {"metadata": {"name": "a"}, "data": {}})
    since = (await api.get(MAPS)).body["metadata"]["resourceVersion"]
    kept = server.cluster("eu-1").config.history_events
    for index in range(kept + 1):
        await api.merge(f"{MAPS}/a", {"data": {"x": str(index)}})
    async with api.watch(MAPS, resourceVersion=since) as watch:
        assert [event["type"] for event in await watch.rest()] == ["ERROR"]
    await asyncio.sleep(0)


async def test_the_admin_port_switches_faults_of_one_cluster_or_all(api: Api, server: ApiServer) -> None:
    admin = Api(api.session, server.admin_url)
    other = Api(api.session, server.url("eu-2"))
    fault = {"kind": "error", "code": 503}
    assert (await admin.post("/faults", {"cluster": "eu-1", "faults": [fault]})).code == 200
    assert [(await each.get("/version")).code for each in (api, other)] == [503, 200]
    shown = (await admin.get("/faults")).body
    assert [each["code"] for each in shown["eu-1"]] == [503]
    assert shown["eu-2"] == []
    await admin.post("/faults", {"faults": [fault]})
    assert (await other.get("/version")).code == 503
    await admin.delete("/faults", cluster="eu-1")
    assert [(await each.get("/version")).code for each in (api, other)] == [200, 503]
    await admin.delete("/faults")
    assert (await other.get("/version")).code == 200


async def test_requests_that_meet_a_fault_are_counted(api: Api, server: ApiServer) -> None:
    admin = Api(api.session, server.admin_url)
    assert (await api.get("/version")).code == 200
    assert set((await admin.get("/suffered")).body.values()) == {0}
    only = {"kind": "error", "code": 503, "paths": ["/version"]}
    await admin.post("/faults", {"cluster": "eu-1", "faults": [only]})
    await api.get("/version")
    await api.get(MAPS)
    async with api.watch(MAPS) as watch:
        await admin.post("/faults", {"cluster": "eu-1", "faults": [{"kind": "cut"}]})
        with pytest.raises(aiohttp.ClientError):
            await watch.rest()
    await admin.delete("/faults")
    assert (await admin.get("/suffered")).body == {"eu-1": 2, "eu-2": 0}


async def test_the_admin_port_names_what_it_does_not_understand(api: Api, server: ApiServer) -> None:
    admin = Api(api.session, server.admin_url)
    for body in ({"faults": [{"kind": "earthquake"}]}, {"faults": [{"kind": "cut", "colour": 1}]}, [], b"{"):
        refused = await admin.post("/faults", body)
        assert refused.code == 400
        assert refused.body["error"]
    unknown = await admin.post("/faults", {"cluster": "mars", "faults": []})
    assert (unknown.code, "mars" in unknown.body["error"]) == (404, True)
    assert (await admin.put("/faults", {})).code == 405
    assert (await admin.get("/")).code == 404
