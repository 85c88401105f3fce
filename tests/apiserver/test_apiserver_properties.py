"""Properties of the pure parts: field sets, merges, patches, selectors, addresses, history."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.apiserver import crd, managedfields, patch, selector
from isthmus.apiserver.apply import apply
from isthmus.apiserver.cluster import Cluster, Write
from isthmus.apiserver.history import Event, History
from isthmus.apiserver.managedfields import Manager, Owners, decode, diff, encode, field_set
from isthmus.apiserver.resources import BUILTINS
from isthmus.apiserver.schema import default, prune, validate
from isthmus.apiserver.serviceip import ServiceRange
from isthmus.apiserver.status import StatusError
from isthmus.apiserver.store import Bucket, BucketId, Entry, Store

SCHEMA: dict[str, Any] = {
    "properties": {
        "spec": {
            "properties": {
                "items": {
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["name"],
                    "items": {"properties": {}},
                },
                "tags": {"x-kubernetes-list-type": "set"},
                "map": {"additionalProperties": {"type": "string"}},
                "one": {"x-kubernetes-map-type": "atomic"},
            }
        }
    }
}
NAMES = st.sampled_from("abc")
SCALARS = st.integers(0, 2) | st.sampled_from(["x", "y"]) | st.booleans()
ITEMS = st.lists(
    st.fixed_dictionaries({"name": NAMES}, optional={"v": SCALARS}),
    max_size=3,
    unique_by=lambda item: item["name"],
)
SPECS = st.fixed_dictionaries(
    {},
    optional={
        "items": ITEMS,
        "tags": st.lists(st.sampled_from("xyz"), max_size=3, unique=True),
        "map": st.dictionaries(NAMES, st.sampled_from("xyz"), max_size=3),
        "one": st.dictionaries(NAMES, SCALARS, max_size=2),
        "free": st.dictionaries(NAMES, SCALARS | st.lists(SCALARS, max_size=2), max_size=2),
        "plain": SCALARS,
    },
)
OBJECTS = st.builds(lambda spec: {"metadata": {"name": "a"}, "spec": spec}, SPECS)
STEPS = st.sampled_from(["f:a", "f:b", 'k:{"name":"x"}', 'v:"y"'])
PATHS = st.sets(st.lists(STEPS, min_size=1, max_size=4).map(tuple))


@given(PATHS)
def test_field_sets_survive_their_stored_form(paths: set[managedfields.Path]) -> None:
    assert decode(json.loads(json.dumps(encode(paths)))) == paths


@given(OBJECTS, OBJECTS)
def test_a_diff_explains_the_change_of_the_field_sets(old: dict[str, Any], new: dict[str, Any]) -> None:
    before, after = (managedfields.ownable(managedfields.grown_set(each, SCHEMA)) for each in (old, new))
    change = diff(old, new, SCHEMA)
    assert after - before <= change.changed
    assert change.changed <= after
    assert not change.changed & change.removed
    assert diff(new, copy.deepcopy(new), SCHEMA) == (set(), set())


def _apply(live: dict[str, Any], config: dict[str, Any], owners: Owners, name: str) -> dict[str, Any]:
    return apply(
        live,
        config,
        SCHEMA,
        owners,
        Manager(name, "Apply", "", ""),
        api_version="v1",
        force=True,
        now="",
    )


def _inner(live: dict[str, Any]) -> set[managedfields.Path]:
    """Paths of containers: applied empty, they may have been filled by somebody else."""
    return {path[:depth] for path in field_set(live, SCHEMA) for depth in range(1, len(path))}


@given(OBJECTS, OBJECTS, OBJECTS)
def test_apply_gives_what_was_asked_and_twice_is_once(
    first: dict[str, Any], second: dict[str, Any], other: dict[str, Any]
) -> None:
    owners: Owners = {}
    live = _apply({"metadata": {}}, first, owners, "one")
    live = _apply(live, other, owners, "two")
    asked = copy.deepcopy(second)
    live = _apply(live, second, owners, "one")
    wanted = managedfields.ownable(field_set(asked, SCHEMA))
    assert owners[Manager("one", "Apply", "", "")].paths == wanted
    assert wanted <= managedfields.ownable(field_set(live, SCHEMA)) | _inner(live)
    again = _apply(copy.deepcopy(live), asked, owners, "one")
    assert again == live
    assert managedfields.load(managedfields.dump(owners)).keys() == {
        manager for manager, owned in owners.items() if owned.paths
    }


@given(OBJECTS)
def test_who_applies_alone_and_then_nothing_leaves_nothing(config: dict[str, Any]) -> None:
    owners: Owners = {}
    live = _apply({"metadata": {}}, config, owners, "one")
    left = _apply(live, {"metadata": {"name": "a"}}, owners, "one")
    assert managedfields.ownable(field_set(left, SCHEMA)) <= {("f:spec",)}


def _code(call: Callable[[], object]) -> int:
    """The code a call is refused with; 200 where it is not."""
    try:
        call()
    except StatusError as refusal:
        return refusal.code
    return 200


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=10,
)


@given(JSON, JSON)
def test_a_merge_patch_is_idempotent_and_leaves_its_input_alone(value: Any, change: Any) -> None:
    kept = copy.deepcopy(value)
    once = patch.merge_patch(value, change)
    assert patch.merge_patch(once, change) == once
    assert value == kept


@given(
    JSON,
    st.lists(
        st.fixed_dictionaries(
            {"op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test"])},
            optional={
                "path": st.text("/a0-~1", max_size=5),
                "from": st.text("/a0", max_size=4),
                "value": JSON,
            },
        ),
        max_size=4,
    ),
)
def test_any_json_patch_applies_or_is_refused(value: Any, operations: list[dict[str, Any]]) -> None:
    kept = copy.deepcopy(value)
    assert _code(lambda: patch.json_patch(value, operations)) in (200, 400, 422)
    assert value == kept


@given(st.text("ab=!,() <>in", max_size=20))
def test_any_selector_parses_or_is_a_bad_request(text: str) -> None:
    assert _code(lambda: selector.parse(text, "").matches("ns", "n", {"a": "b"})) in (200, 400)


@given(st.lists(st.integers(0, 40), max_size=60))
def test_addresses_are_never_given_twice(releases: list[int]) -> None:
    pool = ServiceRange("10.0.0.0/27")
    held: list[str] = []
    for release in releases:
        if release < len(held):
            pool.release(held.pop(release))
        elif (address := pool.allocate()) is None:
            assert len(held) == 30
        else:
            assert address not in held
            assert pool.contains(address)
            held.append(address)


def _object(name: str, value: int) -> dict[str, Any]:
    meta = {"name": name, "namespace": "ns", "uid": name}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "value": value}


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.booleans()), max_size=30))
def test_every_past_state_the_history_reaches_can_be_rebuilt(steps: list[tuple[str, bool]]) -> None:
    store = Store(100, history_events=8, history_bytes=1 << 20)
    bucket = store.bucket(BucketId("", "configmaps"))
    states: dict[int, dict[str, bytes]] = {100: {}}
    for value, (name, delete) in enumerate(steps):
        if not delete:
            store.put(bucket, _object(name, value))
        elif name in {key.name for key in bucket.entries}:
            store.drop(bucket, _object(name, value))
        states[store.revision] = {entry.key.name: entry.raw for entry in bucket.entries.values()}
    for revision, state in states.items():
        if revision < bucket.history.floor:
            with pytest.raises(StatusError):
                bucket.at(revision)
        else:
            assert {entry.key.name: entry.raw for entry in bucket.at(revision, "ns")} == state
            assert [entry.key.name for entry in bucket.at(revision)] == sorted(state)


async def test_history_is_bounded_by_events_and_by_bytes() -> None:
    history = History(0, events=3, size=1 << 20)
    for revision in range(1, 6):
        history.append(Event(revision, "ADDED", Entry(_object("a", 0), revision), None))
    assert [event.revision for event in history.since(2)] == [3, 4, 5]
    with pytest.raises(LookupError):
        history.since(1)
    small = History(0, events=100, size=1)
    waiting = small.changed()
    for revision in range(1, 4):
        small.append(Event(revision, "ADDED", Entry(_object("a", 0), revision), None))
    assert waiting.done()
    assert [event.revision for event in small.since(2)] == [3]


async def test_what_expires_is_forgotten_and_who_has_read_it_goes_on() -> None:
    history = History(0, events=9, size=1 << 20)
    for revision in (2, 4, 6):
        history.append(Event(revision, "ADDED", Entry(_object("a", 0), revision), None))
    history.expire(5)
    assert [event.revision for event in history.since(4)] == [6]
    with pytest.raises(LookupError):
        history.since(3)
    history.expire(100)
    assert history.since(6) == []


def test_a_bucket_finds_a_namespace_among_its_neighbours() -> None:
    store = Store(0, history_events=8, history_bytes=1 << 20)
    bucket: Bucket = store.bucket(BucketId("", "configmaps"))
    for namespace in ("ns", "ns-a", "nsa", "n"):
        obj = _object("a", 0)
        obj["metadata"] |= {"namespace": namespace, "uid": namespace}
        store.put(bucket, obj)
    assert [key.namespace for key in bucket.keys("ns")] == ["ns"]
    assert bucket.keys("none") == []


SHAPES: dict[str, list[str]] = {
    "services": [
        "spec",
        "ports",
        "port",
        "name",
        "clusterIP",
        "clusterIPs",
        "selector",
        "type",
        "ipFamilies",
    ],
    "endpointslices": ["addressType", "endpoints", "addresses", "conditions", "ports", "port", "name"],
    "leases": ["spec", "renewTime", "leaseDurationSeconds", "holderIdentity"],
    "customresourcedefinitions": [
        *(
            "spec",
            "names",
            "plural",
            "kind",
            "group",
            "scope",
            "versions",
            "name",
            "storage",
            "served",
            "schema",
        ),
        *("openAPIV3Schema", "type", "properties", "items", "required", "anyOf", "x-kubernetes-list-type"),
    ],
    "namespaces": ["spec", "finalizers", "status", "phase"],
}
WORDS = st.sampled_from(["", "a", "None", "IPv4", "object", "array", "map", "10.96.0.9", "Cluster", "x.test"])


def _shaped(names: list[str]) -> st.SearchStrategy[Any]:
    return st.recursive(
        st.none() | st.booleans() | st.integers(-1, 70_000) | WORDS,
        lambda inner: (
            st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(names), inner, max_size=5)
        ),
        max_leaves=12,
    )


METADATA = st.fixed_dictionaries(
    {"name": st.just("a")},
    optional={
        name: _shaped(["a", "uid", "kind", "name"])
        for name in ("labels", "finalizers", "ownerReferences", "uid")
    },
)


@pytest.mark.parametrize("plural", SHAPES)
@given(data=st.data())
async def test_any_body_is_stored_or_refused(plural: str, data: st.DataObject) -> None:
    cluster = Cluster(clock=lambda: 1e9)
    resource = next(each for each in BUILTINS if each.plural == plural)
    namespace = "default" if resource.namespaced else ""
    for write in (cluster.create, cluster.update, cluster.apply):
        body = data.draw(
            st.dictionaries(st.sampled_from(SHAPES[plural]), _shaped(SHAPES[plural]), max_size=5)
        )
        body |= {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": data.draw(METADATA)}
        name = () if write == cluster.create else ("a",)
        assert _code(lambda: write(resource, namespace, *name, body, Write(force=True))) < 500  # noqa: B023


@given(_shaped(SHAPES["customresourcedefinitions"]), _shaped(["a", "b", "type", "name"]))
def test_any_accepted_schema_judges_any_value(schema: Any, value: Any) -> None:
    if _code(lambda: [None for _ in crd.structural(schema, "")]) == 200 and isinstance(schema, dict):
        validate(value, schema)
        default(value, schema)
        prune(value, schema)
