"""Rendered resources as plain values, for people who look at them (`isthmus translate --to envoy`)."""

from __future__ import annotations

import json
from typing import Any

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from google.protobuf import json_format

from isthmus.xds.rows import ResourceType

_MESSAGES: dict[ResourceType, Any] = {
    ResourceType.CDS: cluster_pb2.Cluster,
    ResourceType.EDS: endpoint_pb2.ClusterLoadAssignment,
    ResourceType.LDS: listener_pb2.Listener,
    ResourceType.RDS: route_pb2.RouteConfiguration,
}
_FREE_FORM = ("json_format", "filter_metadata")


def message_of(kind: ResourceType, resource: bytes) -> Any:
    """A serialised resource as the message that it is."""
    return _MESSAGES[kind].FromString(resource)


def readable(kind: ResourceType, resource: bytes) -> dict[str, Any]:
    """A serialised resource in the JSON form that Envoy reads, fields named as in its documents."""
    message = message_of(kind, resource)
    made: dict[str, Any] = json.loads(json_format.MessageToJson(message, preserving_proto_field_name=True))
    steady: dict[str, Any] = _steady(made)
    return steady


def _steady(value: Any) -> Any:
    """The same with the keys of free-form objects sorted: protobuf keeps their order in no way."""
    if isinstance(value, list):
        return [_steady(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {
        key: json.loads(json.dumps(one, sort_keys=True)) if key in _FREE_FORM else _steady(one)
        for key, one in value.items()
    }
