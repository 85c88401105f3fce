"""Contract: deletion, finalizers, garbage collection and namespaces."""

from __future__ import annotations

import pytest
from apicontract import Api, Object, Routes


@pytest.fixture
def maps(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/configmaps"


def config(name: str, *owners: Object, finalizers: tuple[str, ...] = ()) -> Object:
    references = [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "name": owner["metadata"]["name"],
            "uid": owner["metadata"]["uid"],
            "blockOwnerDeletion": True,
        }
        for owner in owners
    ]
    return {"metadata": {"name": name, "ownerReferences": references, "finalizers": list(finalizers)}}


async def test_a_delete_answers_with_a_success(api: Api, maps: str) -> None:
    made = (await api.post(maps, config("a"))).body
    gone = await api.delete(f"{maps}/a")
    assert (gone.code, gone.body["kind"], gone.body["status"]) == (200, "Status", "Success")
    assert gone.body["details"]["uid"] == made["metadata"]["uid"]
    assert (await api.delete(f"{maps}/a")).code == 404


async def test_preconditions_of_a_delete_must_hold(api: Api, maps: str) -> None:
    made = (await api.post(maps, config("a"))).body["metadata"]
    for preconditions in ({"uid": "other"}, {"resourceVersion": "1"}):
        refused = await api.delete(f"{maps}/a", {"preconditions": preconditions})
        assert (refused.code, refused.body["reason"]) == (409, "Conflict")
    kept = {"uid": made["uid"], "resourceVersion": made["resourceVersion"]}
    assert (await api.delete(f"{maps}/a", {"preconditions": kept})).code == 200


async def test_an_object_with_finalizers_waits_for_them(api: Api, maps: str) -> None:
    since = (await api.get(maps)).body["metadata"]["resourceVersion"]
    await api.post(maps, config("a", finalizers=("contract.test/one", "contract.test/two")))
    marked = (await api.delete(f"{maps}/a")).body
    assert marked["kind"] == "ConfigMap"
    assert marked["metadata"]["deletionTimestamp"].endswith("Z")
    added = ["contract.test/one", "contract.test/two", "contract.test/new"]
    refused = await api.merge(f"{maps}/a", {"metadata": {"finalizers": added}})
    assert refused.code == 422
    again = await api.delete(f"{maps}/a")
    assert again.body["metadata"]["resourceVersion"] == marked["metadata"]["resourceVersion"]
    await api.merge(f"{maps}/a", {"metadata": {"finalizers": ["contract.test/two"]}})
    assert (await api.get(f"{maps}/a")).code == 200
    last = await api.merge(f"{maps}/a", {"metadata": {"finalizers": None}})
    assert last.code == 200
    assert (await api.get(f"{maps}/a")).code == 404
    async with api.watch(maps, resourceVersion=since, fieldSelector="metadata.name=a") as watch:
        kinds = [kind for kind, _ in await watch.names(4)]
    assert kinds == ["ADDED", "MODIFIED", "MODIFIED", "DELETED"]


async def test_a_name_can_be_used_again_with_a_new_uid(api: Api, maps: str) -> None:
    first = (await api.post(maps, config("a"))).body["metadata"]
    await api.delete(f"{maps}/a")
    second = (await api.post(maps, config("a"))).body["metadata"]
    assert first["uid"] != second["uid"]
    assert int(second["resourceVersion"]) > int(first["resourceVersion"])


async def test_dependents_go_after_their_last_owner(api: Api, maps: str) -> None:
    one, two = [(await api.post(maps, config(name))).body for name in ("one", "two")]
    child = (await api.post(maps, config("child", one, two))).body
    await api.post(maps, config("grandchild", child))
    await api.delete(f"{maps}/one")
    left = await api.until(
        f"{maps}/child", lambda answer: len(answer.body["metadata"]["ownerReferences"]) == 1
    )
    assert left.body["metadata"]["ownerReferences"][0]["name"] == "two"
    await api.delete(f"{maps}/two")
    await api.until_gone(f"{maps}/child")
    await api.until_gone(f"{maps}/grandchild")


async def test_an_object_of_an_owner_that_never_was_is_collected(api: Api, maps: str) -> None:
    ghost = {"metadata": {"name": "ghost", "uid": "00000000-0000-4000-8000-000000000000"}}
    assert (await api.post(maps, config("child", ghost))).code == 201
    await api.until_gone(f"{maps}/child")


async def test_foreground_deletion_waits_for_blocking_dependents(api: Api, maps: str) -> None:
    owner = (await api.post(maps, config("owner"))).body
    await api.post(maps, config("child", owner, finalizers=("contract.test/wait",)))
    marked = await api.delete(f"{maps}/owner", {"propagationPolicy": "Foreground"})
    assert marked.body["metadata"]["finalizers"] == ["foregroundDeletion"]
    await api.until(f"{maps}/child", lambda answer: "deletionTimestamp" in answer.body["metadata"])
    assert (await api.get(f"{maps}/owner")).code == 200
    await api.merge(f"{maps}/child", {"metadata": {"finalizers": None}})
    await api.until_gone(f"{maps}/child")
    await api.until_gone(f"{maps}/owner")


async def test_orphans_outlive_their_owner(api: Api, maps: str) -> None:
    owner = (await api.post(maps, config("owner"))).body
    await api.post(maps, config("child", owner))
    await api.delete(f"{maps}/owner", {"propagationPolicy": "Orphan"})
    await api.until_gone(f"{maps}/owner")
    child = await api.get(f"{maps}/child")
    assert child.code == 200
    assert "ownerReferences" not in child.body["metadata"]


async def test_a_collection_is_deleted_by_selector(api: Api, maps: str) -> None:
    for name, tier in (("a", "x"), ("b", "y"), ("c", "x")):
        body = config(name)
        body["metadata"]["labels"] = {"tier": tier}
        await api.post(maps, body)
    assert (await api.delete(maps, labelSelector="tier=x")).code == 200
    codes = [(await api.get(f"{maps}/{name}")).code for name in "abc"]
    assert codes == [404, 200, 404]


async def test_nothing_is_created_in_a_missing_namespace(api: Api) -> None:
    refused = await api.post("/api/v1/namespaces/nowhere/configmaps", config("a"))
    assert (refused.code, refused.body["message"]) == (404, 'namespaces "nowhere" not found')
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}
    assert (await api.apply("/api/v1/namespaces/nowhere/configmaps/a", body)).code == 404


async def test_a_namespace_ends_when_its_content_has_ended(api: Api, routes: Routes, maps: str) -> None:
    place = maps.removesuffix("/configmaps")
    await api.post(maps, config("plain"))
    await api.post(maps, config("held", finalizers=("contract.test/wait",)))
    await api.post(routes.path, routes.route("a"))
    marked = (await api.delete(place)).body
    assert marked["status"]["phase"] == "Terminating"
    refused = await api.post(maps, config("late"))
    assert (refused.code, refused.body["reason"]) == (403, "Forbidden")
    assert refused.body["details"]["causes"][0]["reason"] == "NamespaceTerminating"
    await api.until_gone(f"{maps}/plain")
    await api.until_gone(f"{routes.path}/a")
    assert (await api.get(place)).code == 200
    await api.merge(f"{maps}/held", {"metadata": {"finalizers": None}})
    await api.until_gone(place)


async def test_a_namespace_with_a_finalizer_of_its_own_waits_for_that_too(api: Api) -> None:
    body = {"metadata": {"generateName": "contract-", "finalizers": ["contract.test/wait"]}}
    name = (await api.post("/api/v1/namespaces", body)).body["metadata"]["name"]
    place = f"/api/v1/namespaces/{name}"
    await api.delete(place)
    await api.until(place, lambda answer: not answer.body["spec"].get("finalizers"))
    await api.merge(place, {"metadata": {"finalizers": None}})
    await api.until_gone(place)


async def test_the_namespaces_of_the_system_stay(api: Api) -> None:
    for name in ("default", "kube-system", "kube-public"):
        assert (await api.delete(f"/api/v1/namespaces/{name}")).code == 403
    labels = (await api.get("/api/v1/namespaces/default")).body["metadata"]["labels"]
    assert labels == {"kubernetes.io/metadata.name": "default"}
