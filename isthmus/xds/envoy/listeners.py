"""The listener of explicit capture: callers send HTTP to the proxy and name the service as authority."""

from __future__ import annotations

from envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.http.stateful_session.v3 import stateful_session_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2

from isthmus.xds.envoy.accesslog import access_log
from isthmus.xds.envoy.extension import over_ads, packed
from isthmus.xds.envoy.routes import STATEFUL_SESSION
from isthmus.xds.rows import EXPLICIT

MAX_CONCURRENT_STREAMS = 1024
"""Per downstream HTTP/2 connection; Envoy's default of 2^31 - 1 bounds nothing."""


def listener(address: str, port: int, *, log: bool = False) -> bytes:
    """The serialised listener; its routes come over the same stream. `address` is an IP address.

    `log`: whether each request is told on the proxy's standard output.
    """
    found = listener_pb2.Listener(name=EXPLICIT)
    found.address.socket_address.address = address
    found.address.socket_address.port_value = port
    found.enable_reuse_port.value = True
    found.filter_chains.add().filters.append(connection_manager(EXPLICIT, EXPLICIT, log=log))
    return bytes(found.SerializeToString(deterministic=True))


def connection_manager(name: str, routes: str, *, log: bool) -> listener_components_pb2.Filter:
    """The filter that speaks HTTP with callers; `name` is that of its numbers."""
    manager = hcm_pb2.HttpConnectionManager(
        stat_prefix=name,
        codec_type=hcm_pb2.HttpConnectionManager.AUTO,
        server_header_transformation=hcm_pb2.HttpConnectionManager.PASS_THROUGH,
    )
    manager.rds.route_config_name = routes
    manager.rds.config_source.CopyFrom(over_ads(0))
    manager.use_remote_address.value = True
    manager.normalize_path.value = True
    manager.http2_protocol_options.max_concurrent_streams.value = MAX_CONCURRENT_STREAMS
    manager.upgrade_configs.add(upgrade_type="websocket")
    if log:
        manager.access_log.append(access_log(http=True))
    session = manager.http_filters.add(name=STATEFUL_SESSION)
    session.typed_config.CopyFrom(packed(stateful_session_pb2.StatefulSession()))
    router = manager.http_filters.add(name="envoy.filters.http.router")
    router.typed_config.CopyFrom(packed(router_pb2.Router()))
    return listener_components_pb2.Filter(
        name="envoy.filters.network.http_connection_manager", typed_config=packed(manager)
    )
