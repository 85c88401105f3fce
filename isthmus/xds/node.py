"""Who a client says it is, in the first request of its stream, and which class of proxies that makes it.

Invariant: what a client says chooses among renderings and never allows it anything; text of its own reaches a
class only where it fits the pattern of its part.
"""

from __future__ import annotations

from dataclasses import dataclass

from envoy.config.core.v3 import base_pb2

from isthmus.errors import WireError
from isthmus.model.names import ClusterId, Vantage
from isthmus.xds.bootstrap import LISTEN_METADATA
from isthmus.xds.rows import DEFAULT_LISTEN, ProxyClass, place_name, split_listen

MAX_NODE_ID = 253


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One client by its own account."""

    id: str
    proxy_class: ProxyClass


def read_node(node: base_pb2.Node, cluster: ClusterId) -> Node:
    """Who sends; `cluster` is the one that this agent serves. Raises WireError where that is not said."""
    if not node.id:
        raise WireError("the first request of a stream has no node id")
    listen = DEFAULT_LISTEN
    if LISTEN_METADATA in node.metadata:
        said = node.metadata[LISTEN_METADATA]
        found = split_listen(said) if isinstance(said, str) else None
        if found is None:
            raise WireError(f"node metadata {LISTEN_METADATA} is not an IP address with a port")
        listen = f"[{found[0]}]:{found[1]}" if ":" in found[0] else f"{found[0]}:{found[1]}"
    vantage = Vantage(place_name(node.locality.region), place_name(node.locality.zone), cluster)
    return Node(id=node.id[:MAX_NODE_ID], proxy_class=ProxyClass(vantage, renderer_of(node), listen))


def renderer_of(_node: base_pb2.Node) -> str:
    """Which renderer speaks to that kind of client."""
    return "envoy"
