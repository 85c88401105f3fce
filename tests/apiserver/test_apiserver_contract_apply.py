"""Contract: server-side apply and field ownership (KEP-555)."""

from __future__ import annotations

from typing import Any

from apicontract import Api, Object, Routes


def owned(body: Object, manager: str, operation: str = "Apply") -> Any:
    """fieldsV1 of one manager; None if it owns nothing."""
    for entry in body["metadata"].get("managedFields", ()):
        if (entry["manager"], entry["operation"]) == (manager, operation) and "subresource" not in entry:
            return entry["fieldsV1"]
    return None


def service(ports: list[Object], **labels: str) -> Object:
    meta = {"name": "a", **({"labels": labels} if labels else {})}
    return {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"ports": ports}}


def config(**data: str) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data}


def path_of(namespace: str, plural: str) -> str:
    return f"/api/v1/namespaces/{namespace}/{plural}/a"


async def test_apply_creates_what_is_not_there(api: Api, namespace: str) -> None:
    path = path_of(namespace, "services")
    made = await api.apply(path, service([{"port": 80}], app="x"))
    assert made.code == 201
    assert made.body["spec"]["clusterIP"]
    fields = owned(made.body, "tester")
    assert fields["f:metadata"] == {"f:labels": {"f:app": {}}}
    assert fields["f:spec"] == {"f:ports": {'k:{"port":80,"protocol":"TCP"}': {".": {}, "f:port": {}}}}
    assert (await api.apply(path, service([{"port": 80}], app="x"))).code == 200


async def test_applying_the_same_again_changes_nothing(api: Api, namespace: str) -> None:
    path = path_of(namespace, "services")
    first = await api.apply(path, service([{"port": 80}]))
    again = await api.apply(path, service([{"port": 80}]))
    assert again.body == first.body


async def test_apply_needs_a_manager_and_a_type(api: Api, namespace: str) -> None:
    path = path_of(namespace, "configmaps")
    nameless = await api.call("PATCH", path, config(x="1"), kind="application/apply-patch+yaml")
    assert nameless.code in (400, 422)
    assert nameless.fields() == ["fieldManager"]
    managed = config(x="1")
    managed["metadata"]["managedFields"] = [{"manager": "m", "operation": "Apply"}]
    assert (await api.apply(path, managed)).code == 400


async def test_a_configuration_may_be_yaml(api: Api, namespace: str) -> None:
    text = b"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata:\n  since: '2026-01-01'\n"
    made = await api.apply(path_of(namespace, "configmaps"), text)
    assert made.code == 201, made.body
    assert made.body["data"] == {"since": "2026-01-01"}


async def test_fields_no_longer_applied_are_removed(api: Api, namespace: str) -> None:
    path = path_of(namespace, "configmaps")
    await api.apply(path, config(x="1", y="2"))
    await api.merge(path, {"data": {"z": "3"}})
    left = await api.apply(path, config(x="1"))
    assert left.body["data"] == {"x": "1", "z": "3"}
    assert owned(left.body, "tester") == {"f:data": {"f:x": {}}}


async def test_a_field_two_managers_own_stays_when_one_drops_it(api: Api, namespace: str) -> None:
    path = path_of(namespace, "configmaps")
    await api.apply(path, config(x="1", y="2"), "one")
    shared = await api.apply(path, config(y="2"), "two")
    assert owned(shared.body, "one") == {"f:data": {"f:x": {}, "f:y": {}}}
    after = await api.apply(path, config(x="1"), "one")
    assert after.body["data"] == {"x": "1", "y": "2"}
    assert owned(after.body, "two") == {"f:data": {"f:y": {}}}


async def test_another_managers_value_is_a_conflict_unless_forced(api: Api, namespace: str) -> None:
    path = path_of(namespace, "configmaps")
    await api.apply(path, config(x="1", y="1"), "one")
    refused = await api.apply(path, config(x="2"), "two")
    assert (refused.code, refused.body["reason"]) == (409, "Conflict")
    assert refused.body["message"] == 'Apply failed with 1 conflict: conflict with "one": .data.x'
    assert [cause["reason"] for cause in refused.body["details"]["causes"]] == ["FieldManagerConflict"]
    assert (await api.get(path)).body["data"] == {"x": "1", "y": "1"}
    forced = await api.apply(path, config(x="2"), "two", force="true")
    assert forced.body["data"] == {"x": "2", "y": "1"}
    assert owned(forced.body, "one") == {"f:data": {"f:y": {}}}
    assert owned(forced.body, "two") == {"f:data": {"f:x": {}}}


async def test_a_plain_write_takes_ownership_and_then_conflicts_with_apply(api: Api, namespace: str) -> None:
    path = path_of(namespace, "configmaps")
    await api.apply(path, config(x="1", y="1"), "one")
    edited = await api.merge(path, {"data": {"x": "2"}}, fieldManager="editor")
    assert owned(edited.body, "one") == {"f:data": {"f:y": {}}}
    assert owned(edited.body, "editor", "Update") == {"f:data": {"f:x": {}}}
    assert (await api.apply(path, config(x="1", y="1"), "one")).code == 409


async def test_a_plain_write_owns_the_maps_and_lists_it_brings(
    api: Api, namespace: str, routes: Routes
) -> None:
    path = path_of(namespace, "configmaps")
    body = config(x="1")
    body["metadata"]["labels"] = {"l": "1"}
    made = await api.post(path.rpartition("/")[0], body, fieldManager="one")
    assert owned(made.body, "one", "Update") == {
        "f:data": {".": {}, "f:x": {}},
        "f:metadata": {"f:labels": {".": {}, "f:l": {}}},
    }
    more = await api.merge(
        path, {"data": {"y": "2"}, "metadata": {"labels": {"l": None}}}, fieldManager="two"
    )
    assert owned(more.body, "two", "Update") == {"f:data": {"f:y": {}}}
    assert owned(more.body, "one", "Update") == {"f:data": {".": {}, "f:x": {}}}
    route = await api.post(
        routes.path, routes.route("a", aliases=["u"], selector={"s": "t"}), fieldManager="one"
    )
    assert owned(route.body, "one", "Update") == {
        "f:spec": {
            ".": {},
            "f:aliases": {".": {}, 'v:"u"': {}},
            "f:selector": {},
            "f:strategy": {},
            "f:targets": {
                ".": {},
                'k:{"cluster":"eu-1"}': {".": {}, "f:cluster": {}, "f:weight": {}},
            },
        }
    }


async def test_what_the_server_fills_into_status_belongs_to_nobody(api: Api, namespace: str) -> None:
    made = await api.post(path_of(namespace, "services").rpartition("/")[0], service([{"port": 80}]))
    assert made.body["status"] == {"loadBalancer": {}}
    assert {name for entry in made.body["metadata"]["managedFields"] for name in entry["fieldsV1"]} == {
        "f:spec"
    }


async def test_items_of_keyed_lists_have_their_own_owners(api: Api, namespace: str) -> None:
    path = path_of(namespace, "services")
    await api.apply(path, service([{"port": 80, "name": "http"}]), "one")
    both = await api.apply(path, service([{"port": 443, "name": "https"}]), "two")
    assert [port["port"] for port in both.body["spec"]["ports"]] == [80, 443]
    conflict = await api.apply(path, service([{"port": 80, "name": "web"}]), "two")
    assert conflict.code == 409
    assert conflict.fields() == ['.spec.ports[port=80,protocol="TCP"].name']
    left = await api.apply(path, service([{"port": 80, "name": "http"}]), "two")
    assert [port["port"] for port in left.body["spec"]["ports"]] == [80]


async def test_atomic_maps_have_one_owner_for_all(api: Api, routes: Routes) -> None:
    await api.apply(f"{routes.path}/a", routes.route("a", selector={"app": "x"}), "one")
    body = routes.route("a", selector={"app": "x", "tier": "y"})
    refused = await api.apply(f"{routes.path}/a", body, "two")
    assert refused.code == 409
    assert refused.fields() == [".spec.selector"]
    forced = await api.apply(
        f"{routes.path}/a", routes.route("a", selector={"tier": "y"}), "two", force="true"
    )
    assert forced.body["spec"]["selector"] == {"tier": "y"}


async def test_sets_are_merged_by_value(api: Api, routes: Routes) -> None:
    await api.apply(f"{routes.path}/a", routes.route("a", aliases=["x", "y"]), "one")
    both = await api.apply(f"{routes.path}/a", routes.route("a", aliases=["y", "z"]), "two")
    assert both.body["spec"]["aliases"] == ["x", "y", "z"]
    assert owned(both.body, "two")["f:spec"]["f:aliases"] == {'v:"y"': {}, 'v:"z"': {}}
    left = await api.apply(f"{routes.path}/a", routes.route("a"), "one")
    assert left.body["spec"]["aliases"] == ["y", "z"]


async def test_status_and_spec_are_owned_apart(api: Api, routes: Routes) -> None:
    path = f"{routes.path}/a"
    await api.apply(path, {**routes.route("a"), "status": {"ready": True}}, "one")
    assert "status" not in (await api.get(path)).body
    for manager, kind in (("m1", "A"), ("m2", "B")):
        status = {"conditions": [{"type": kind, "status": "True"}]}
        done = await api.apply(f"{path}/status", {**routes.route("a"), "status": status}, manager)
        assert done.code == 200, done.body
    kinds = [condition["type"] for condition in done.body["status"]["conditions"]]
    assert kinds == ["A", "B"]
    entries = [entry for entry in done.body["metadata"]["managedFields"] if entry["manager"] == "m1"]
    assert [entry["subresource"] for entry in entries] == ["status"]
    assert set(entries[0]["fieldsV1"]) == {"f:status"}
    again = await api.apply(path, routes.route("a", replicas=1), "one")
    assert again.body["status"] == done.body["status"]


async def test_apply_to_the_status_of_nothing_is_a_404(api: Api, routes: Routes) -> None:
    body = {**routes.route("none"), "status": {"ready": True}}
    assert (await api.apply(f"{routes.path}/none/status", body)).code == 404


async def test_defaults_belong_to_nobody_who_applies(api: Api, routes: Routes) -> None:
    made = await api.apply(f"{routes.path}/a", routes.route("a"), "one")
    assert made.body["spec"]["strategy"] == "Locality"
    assert "f:strategy" not in owned(made.body, "one")["f:spec"]
    assert (await api.apply(f"{routes.path}/a", routes.route("a", strategy="FailOver"), "two")).code == 200


async def test_a_write_can_drop_all_ownership(api: Api, namespace: str) -> None:
    path = path_of(namespace, "configmaps")
    await api.apply(path, config(x="1"), "one")
    operation = [{"op": "replace", "path": "/metadata/managedFields", "value": [{}]}]
    bare = await api.call("PATCH", path, operation, kind="application/json-patch+json")
    assert bare.code == 200, bare.body
    assert "managedFields" not in bare.body["metadata"]


async def test_fields_at_the_top_have_owners_too(api: Api, namespace: str) -> None:
    path = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices/a"
    body: Object = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "a"},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.64.0.1"]}],
        "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
    }
    made = await api.apply(path, body, "one")
    assert owned(made.body, "one") == {"f:addressType": {}, "f:endpoints": {}, "f:ports": {}}
    refused = await api.apply(path, {**body, "endpoints": []}, "two")
    assert refused.fields() == [".endpoints"]
    del body["ports"]
    assert (await api.apply(path, body, "one")).body["ports"] is None
