"""Storing an object as it is, with what a server adds to any object and without the checks of a write."""

from __future__ import annotations

import uuid
from typing import Any

from isthmus.api import labels
from isthmus.apiserver import objectmeta
from isthmus.apiserver.cluster import Cluster, Write
from isthmus.apiserver.resources import SERVICES, Resource
from isthmus.model.timestamp import format_time
from largeworld.objects import CREATED


def put(cluster: Cluster, obj: dict[str, Any]) -> None:
    """Stores a new object; a Service goes the whole way, because it needs an address."""
    resource = resource_of(cluster, obj)
    metadata = obj["metadata"]
    if resource.bucket == SERVICES.bucket:
        cluster.create(resource, metadata.get("namespace", ""), obj, Write())
        return
    objectmeta.stamp(obj, resource, uid=str(uuid.uuid4()), now=cluster.now(), suffix=lambda: "")
    if obj["kind"] == "Namespace":
        obj["status"] = {"phase": "Active"}
    if obj["kind"] == "ServiceExport":  # its age in the hub's clock was recorded when it was new
        metadata["annotations"] = {labels.EXPORTED_AT: f"{format_time(CREATED)} {metadata['uid']}"}
    cluster.save(resource, None, obj)


def resource_of(cluster: Cluster, obj: dict[str, Any]) -> Resource:
    """The resource that an object is of."""
    group, _, version = obj["apiVersion"].rpartition("/")
    return next(one for one in cluster.registry.served(group, version) if one.kind == obj["kind"])
