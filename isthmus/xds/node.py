"""Who a client says it is, in the first request of its stream, and which class of proxies that makes it.

An Envoy says it in its node's metadata (`isthmus bootstrap` writes them); a gRPC library is known by its user
agent, or by the feature that sets it apart: it does not know overprovisioning (gRFC A27). Invariant: what a
client says chooses among renderings and never allows it anything; text of its own reaches a class only where
it fits the pattern of its part.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from isthmus.errors import WireError
from isthmus.model.names import ClusterId, Vantage
from isthmus.xds.rows import Capture, ProxyClass, Renderer, place_name, read_uses, split_listen

if TYPE_CHECKING:
    from envoy.config.core.v3 import base_pb2

LISTEN_METADATA: Final = "isthmus.dev/listen"
CAPTURE_METADATA: Final = "isthmus.dev/capture"
NAMESPACE_METADATA: Final = "isthmus.dev/namespace"
USES_METADATA: Final = "isthmus.dev/uses"
LOG_METADATA: Final = "isthmus.dev/access-log"
RENDERER_METADATA: Final = "isthmus.dev/renderer"
GRPC_FEATURE: Final = "envoy.lb.does_not_support_overprovisioning"
MAX_NODE_ID = 253


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One client by its own account."""

    id: str
    proxy_class: ProxyClass


def read_node(node: base_pb2.Node, cluster: ClusterId) -> Node:
    """Who sends; `cluster` is the one that this agent serves.

    Raises WireError where that is not said, or where metadata are of no use: it names them.
    """
    if not node.id:
        raise WireError("the first request of a stream has no node id")
    return Node(id=node.id[:MAX_NODE_ID], proxy_class=_proxy_class(node, cluster))


def _proxy_class(node: base_pb2.Node, cluster: ClusterId) -> ProxyClass:
    vantage = Vantage(place_name(node.locality.region), place_name(node.locality.zone), cluster)
    if _renderer(node) is Renderer.GRPC:
        return ProxyClass(vantage, Renderer.GRPC.value)
    found = ProxyClass(vantage)
    if LISTEN_METADATA in node.metadata:
        place = split_listen(_text(node, LISTEN_METADATA))
        if place is None:
            raise WireError(f"node metadata {LISTEN_METADATA} is not an IP address with a port")
        host = f"[{place[0]}]" if ":" in place[0] else place[0]
        found = found._replace(listen=f"{host}:{place[1]}")
    try:
        uses = read_uses(_text(node, USES_METADATA), _text(node, NAMESPACE_METADATA))
    except ValueError as error:
        raise WireError(f"node metadata {USES_METADATA} or {NAMESPACE_METADATA}: {error}") from error
    return found._replace(
        capture=_capture(_text(node, CAPTURE_METADATA)), access_log=_access_log(node), uses=uses
    )


def _renderer(node: base_pb2.Node) -> Renderer:
    said = _text(node, RENDERER_METADATA)
    if said:
        try:
            return Renderer(said)
        except ValueError as error:
            raise WireError(f"node metadata {RENDERER_METADATA} is neither envoy nor grpc") from error
    is_grpc = node.user_agent_name.lower().startswith("grpc") or GRPC_FEATURE in node.client_features
    return Renderer.GRPC if is_grpc else Renderer.ENVOY


def _capture(said: str) -> Capture:
    try:
        return Capture(said) if said else Capture.EXPLICIT
    except ValueError as error:
        raise WireError(f"node metadata {CAPTURE_METADATA} is neither explicit nor transparent") from error


def _access_log(node: base_pb2.Node) -> bool:
    if LOG_METADATA not in node.metadata:
        return False
    said = node.metadata[LOG_METADATA]
    if not isinstance(said, bool):
        raise WireError(f"node metadata {LOG_METADATA} is neither true nor false")
    return said


def _text(node: base_pb2.Node, name: str) -> str:
    """Metadata that has to be a text; "" where there is none."""
    if name not in node.metadata:
        return ""
    said = node.metadata[name]
    if not isinstance(said, str):
        raise WireError(f"node metadata {name} is not a text")
    return said
