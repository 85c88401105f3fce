"""What a service port speaks, from its appProtocol and else from its name (KEP-3726)."""

from __future__ import annotations

from enum import Enum

from isthmus.model.service import Port, Protocol


class AppProtocol(Enum):
    """How a proxy speaks to the endpoints of a port. GRPC: HTTP/1.1 and HTTP/2, as the caller does."""

    TCP = "tcp"
    HTTP = "http"
    HTTP2 = "http2"
    GRPC = "grpc"


_BY_APP_PROTOCOL = {
    "http": AppProtocol.HTTP,
    "kubernetes.io/ws": AppProtocol.HTTP,
    "kubernetes.io/h2c": AppProtocol.HTTP2,
    "http2": AppProtocol.HTTP2,
    "grpc": AppProtocol.GRPC,
}
_BY_NAME = {"http": AppProtocol.HTTP, "http2": AppProtocol.HTTP2, "grpc": AppProtocol.GRPC}


def app_protocol(port: Port) -> AppProtocol:
    """The protocol of a port; TCP for everything that does not say otherwise (TLS included).

    A name counts up to its first hyphen (`grpc-admin`); a nameless port 80 is HTTP.
    """
    if port.protocol is not Protocol.TCP:
        return AppProtocol.TCP
    if port.app_protocol:
        return _BY_APP_PROTOCOL.get(port.app_protocol.lower(), AppProtocol.TCP)
    if not port.name:
        return AppProtocol.HTTP if port.port == 80 else AppProtocol.TCP
    return _BY_NAME.get(port.name.partition("-")[0], AppProtocol.TCP)


def speaks_http(port: Port) -> bool:
    """Whether requests to this port can be routed by name."""
    return app_protocol(port) is not AppProtocol.TCP
