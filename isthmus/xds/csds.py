"""The client status discovery service: what each client has of each resource, for tools that speak it.

Made from the state of the streams when it is asked for (`proxies` says the same to people). Invariants: names
and states are told, never the resources themselves; a client with a certificate is told of the nodes that it
may be, and of no others; an answer is bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from envoy.admin.v3 import config_dump_shared_pb2 as states
from envoy.service.status.v3 import csds_pb2
from google.protobuf.message import DecodeError

from isthmus.errors import WireError
from isthmus.xds.ads import Ads
from isthmus.xds.refusal import TooManyNames
from isthmus.xds.snapshot import TYPE_URLS, version_text
from isthmus.xds.subscription import Subscription

FETCH: Final = "/envoy.service.status.v3.ClientStatusDiscoveryService/FetchClientStatus"
STREAM: Final = "/envoy.service.status.v3.ClientStatusDiscoveryService/StreamClientStatus"
MOST_RESOURCES = 50_000
"""Of all clients in one answer."""


def answer(data: bytes, ads: Ads, may_see: Callable[[str], bool], wall: float) -> bytes:
    """The serialised ClientStatusResponse to a request. `wall` as for `proxies.describe`.

    Raises WireError for what is no request, or matches nodes by their metadata, and TooManyNames.
    """
    try:
        request = csds_pb2.ClientStatusRequest.FromString(data)
    except DecodeError as error:
        raise WireError(f"not a ClientStatusRequest: {error}") from error
    matchers = [_matcher(one) for one in request.node_matchers]
    found, count = csds_pb2.ClientStatusResponse(), 0
    for stream in ads.streams():
        node = stream.node.id if stream.node is not None else ""
        if not may_see(node) or (matchers and not any(matches(node) for matches in matchers)):
            continue
        config = found.config.add()
        config.node.id = node
        for kind, subscription in sorted(stream.subscriptions.items()):
            collection = ads.collection(kind, stream.scopes).resources
            names = sorted(collection if subscription.names is None else subscription.names)
            count += len(names)
            if count > MOST_RESOURCES:
                raise TooManyNames(f"more than {MOST_RESOURCES} resources: ask for one node (node_matchers)")
            for name in names:
                told = config.generic_xds_configs.add(type_url=TYPE_URLS[kind], name=name)
                held = collection.get(name)
                _tell(told, subscription, name, None if held is None else held.version, wall)
    return bytes(found.SerializeToString())


def _tell(told: Any, subscription: Subscription, name: str, version: int | None, wall: float) -> None:
    if version is None:
        told.client_status, told.config_status = states.DOES_NOT_EXIST, csds_pb2.NOT_SENT
        return
    if subscription.quarantine.refused.get(name) == version:
        told.client_status, told.config_status = states.NACKED, csds_pb2.ERROR
        told.error_state.details = subscription.refusal or "rejected before"
        told.error_state.version_info = version_text(version)
        told.error_state.last_update_attempt.FromNanoseconds(int((subscription.refused_at + wall) * 1e9))
    elif subscription.first or name in subscription.due or name in _in_flight(subscription):
        told.client_status, told.config_status = states.REQUESTED, csds_pb2.STALE
    else:
        told.client_status, told.config_status = states.ACKED, csds_pb2.SYNCED
        told.version_info = version_text(version)


def _in_flight(subscription: Subscription) -> Iterator[str]:
    body = subscription.in_flight
    return (resource.name for resource in body.resources) if body is not None else iter(())


def _matcher(one: Any) -> Callable[[str], bool]:
    """How a NodeMatcher matches ids. Raises WireError for one that is not by id."""
    pattern, how = one.node_id, one.node_id.WhichOneof("match_pattern")
    if one.node_metadatas or how not in ("exact", "prefix", "suffix", "contains"):
        raise WireError("nodes are matched by node_id: exact, prefix, suffix or contains")
    wanted = getattr(pattern, how)

    def matches(node: str) -> bool:
        match how:
            case "exact":
                return bool(node == wanted)
            case "prefix":
                return node.startswith(wanted)
            case "suffix":
                return node.endswith(wanted)
            case _:
                return wanted in node

    return matches
