"""What is kept of our own imports and Services is what is looked at; others' objects are kept whole."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from isthmus.agent.lean import lean
from isthmus.api import kinds, labels
from isthmus.api.meta import Kind

OWNER = {"apiVersion": "multicluster.x-k8s.io/v1beta1", "kind": "ServiceImport", "name": "web", "uid": "7"}
METADATA = {
    "name": "derived-abc",
    "namespace": "shop",
    "uid": "8",
    "generation": 3,
    "resourceVersion": "77",
    "creationTimestamp": "2026-01-01T00:00:00Z",
    "labels": {labels.MANAGED_BY: labels.MANAGER},
    "annotations": {labels.APPLIED: "0123", labels.DETACH: "true"},
    "ownerReferences": [OWNER],
}
SERVICE = {
    "metadata": METADATA,
    "spec": {
        "type": "ClusterIP",
        "clusterIP": "10.96.0.1",
        "clusterIPs": ["10.96.0.1"],
        "ipFamilies": ["IPv4"],
        "ports": [{"port": 80}],
        "trafficDistribution": "PreferSameNode",
    },
}
IMPORT = {
    "metadata": METADATA | {"managedFields": [{"manager": "isthmus"}]},
    "spec": {"type": "ClusterSetIP", "ips": ["10.96.0.1"], "ports": [{"port": 80}]},
    "status": {"clusters": [{"cluster": "eu-1"}]},
}


def read(kind: Kind[Any], obj: dict[str, Any]) -> tuple[Any, Any]:
    """The object as it is kept, and whole."""
    raw = msgspec.json.encode(obj)
    return lean(kind).decode(raw), kind.decode(raw)


@pytest.mark.parametrize(("kind", "obj"), [(kinds.SERVICE, SERVICE), (kinds.SERVICE_IMPORT, IMPORT)])
def test_of_ours_it_is_kept_who_they_are_and_what_was_decided(kind: Kind[Any], obj: dict[str, Any]) -> None:
    found, whole = read(kind, obj)
    for name in (
        "name",
        "namespace",
        "uid",
        "generation",
        "labels",
        "owner_references",
        "deletion_timestamp",
    ):
        assert getattr(found.metadata, name) == getattr(whole.metadata, name)
    assert found.metadata.annotations == {labels.DETACH: "true"}
    told = ("traffic_distribution", "type")
    told += ("ips",) if kind is kinds.SERVICE_IMPORT else ("cluster_ip", "cluster_ips", "ip_families")
    assert all(getattr(found.spec, name) == getattr(whole.spec, name) for name in told)
    assert (found.spec.ports, found.metadata.resource_version) == ((), "")


@pytest.mark.parametrize(("kind", "obj"), [(kinds.SERVICE, SERVICE), (kinds.SERVICE_IMPORT, IMPORT)])
def test_what_is_kept_is_kept_again_as_it_is(kind: Kind[Any], obj: dict[str, Any]) -> None:
    found, _ = read(kind, obj)
    assert lean(kind).decode(msgspec.json.encode(found)) == found


@pytest.mark.parametrize(
    ("kind", "obj"),
    [
        (kinds.SERVICE, SERVICE | {"metadata": METADATA | {"labels": {}}}),
        (kinds.SERVICE, SERVICE | {"metadata": METADATA | {"ownerReferences": []}}),
        (kinds.SERVICE_IMPORT, IMPORT | {"metadata": METADATA | {"labels": {labels.MANAGED_BY: "other"}}}),
        (kinds.SERVICE_EXPORT, {"metadata": METADATA}),
    ],
)
def test_what_others_made_is_kept_whole(kind: Kind[Any], obj: dict[str, Any]) -> None:
    found, whole = read(kind, obj)
    assert found == whole


def test_what_many_have_alike_is_held_once() -> None:
    decode, raw = lean(kinds.SERVICE).decode, msgspec.json.encode(SERVICE)
    one, other = decode(raw), decode(raw)
    assert one.metadata.labels is other.metadata.labels
    assert one.metadata.namespace is other.metadata.namespace
