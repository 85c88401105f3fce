"""The bootstrap configuration of a sidecar: who it is, and where its control plane listens.

Everything else comes over ADS. A proxy waits for its first clusters and listeners however long that takes (it
is not live while it knows nothing) and notices within seconds that its control plane has fallen silent.
"""

from __future__ import annotations

from typing import Any

from isthmus.errors import ConfigError
from isthmus.model.names import Vantage
from isthmus.xds.node import (
    CAPTURE_METADATA,
    LISTEN_METADATA,
    LOG_METADATA,
    NAMESPACE_METADATA,
    RENDERER_METADATA,
    USES_METADATA,
)
from isthmus.xds.rows import (
    BLACKHOLE,
    DEFAULT_LISTEN,
    PASSTHROUGH,
    Capture,
    Renderer,
    read_uses,
    split_listen,
)
from isthmus.xds.secrets import Identity, transport_socket

ADS_CLUSTER = "isthmus"
TLS_REFRESH = "600s"
MAX_DOWNSTREAM_CONNECTIONS = 50_000
_TYPES = "type.googleapis.com/envoy.extensions."
_PASSTHROUGH: dict[str, Any] = {
    "name": PASSTHROUGH,
    "type": "ORIGINAL_DST",
    "lb_policy": "CLUSTER_PROVIDED",
    "connect_timeout": "5s",
}
_BLACKHOLE: dict[str, Any] = {"name": BLACKHOLE, "type": "STATIC", "connect_timeout": "1s"}


def envoy_bootstrap(
    node_id: str,
    vantage: Vantage,
    xds_address: str,
    admin_address: str,
    listen: str = DEFAULT_LISTEN,
    *,
    capture: Capture = Capture.EXPLICIT,
    access_log: bool = False,
    namespace: str = "",
    uses: str = "",
    identity: Identity | None = None,
    delta: bool = False,
) -> dict[str, Any]:
    """What `envoy -c` takes, as JSON or YAML.

    Addresses are `host:port` (`[host]:port` for IPv6); only that of the control plane may be a name.
    `namespace` is the pod's own, `uses` what it names beside it (see `rows.read_uses`).
    `delta`: only differences are sent (incremental xDS). Raises ConfigError.
    """
    if split_listen(listen) is None:
        raise ConfigError(
            f"listen address {listen!r} is not an IP address with a port, e.g. {DEFAULT_LISTEN}"
        )
    if split_listen(admin_address) is None:
        raise ConfigError(f"admin address {admin_address!r} is not an IP address with a port")
    try:
        read_uses(uses, namespace)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    told: dict[str, Any] = {LISTEN_METADATA: listen}
    if capture is not Capture.EXPLICIT:
        told[CAPTURE_METADATA] = capture.value
    if access_log:
        told[LOG_METADATA] = True
    told.update(
        {name: text for name, text in ((NAMESPACE_METADATA, namespace), (USES_METADATA, uses)) if text}
    )
    clusters = [_control_plane(xds_address, identity)]
    if capture is Capture.TRANSPARENT:
        clusters += [_PASSTHROUGH, _BLACKHOLE]
    ads: dict[str, Any] = {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"}
    return {
        "node": {
            "id": node_id,
            "cluster": vantage.cluster,
            "locality": {"region": vantage.region, "zone": vantage.zone, "sub_zone": vantage.cluster},
            "metadata": told,
        },
        "admin": {"address": _socket_address(admin_address)},
        "dynamic_resources": {
            "ads_config": {
                "api_type": "DELTA_GRPC" if delta else "GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": True,
                "grpc_services": [
                    {
                        "envoy_grpc": {
                            "cluster_name": ADS_CLUSTER,
                            "retry_policy": {
                                "retry_back_off": {"base_interval": "0.1s", "max_interval": "2s"},
                            },
                        }
                    }
                ],
            },
            "cds_config": ads,
            "lds_config": ads,
        },
        "static_resources": {"clusters": clusters},
        "overload_manager": {
            "resource_monitors": [
                {
                    "name": "envoy.resource_monitors.global_downstream_max_connections",
                    "typed_config": {
                        "@type": _TYPES
                        + "resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
                        "max_active_downstream_connections": MAX_DOWNSTREAM_CONNECTIONS,
                    },
                }
            ]
        },
    }


def grpc_bootstrap(
    node_id: str, vantage: Vantage, xds_address: str, *, identity: Identity | None = None
) -> dict[str, Any]:
    """What a gRPC library reads from the file that GRPC_XDS_BOOTSTRAP names (gRFC A27, A53).

    A control plane that loses sight of a resource takes nothing from a client that works with it. Raises
    ConfigError.
    """
    _socket_address(xds_address)
    credentials: dict[str, Any] = {"type": "insecure"}
    if identity is not None:
        files = {
            "ca_certificate_file": identity.ca,
            "certificate_file": identity.certificate,
            "private_key_file": identity.key,
            "refresh_interval": TLS_REFRESH,
        }
        credentials = {"type": "tls", "config": files}
    return {
        "xds_servers": [
            {
                "server_uri": xds_address,
                "channel_creds": [credentials],
                "server_features": ["xds_v3", "ignore_resource_deletion"],
            }
        ],
        "node": {
            "id": node_id,
            "cluster": vantage.cluster,
            "locality": {"region": vantage.region, "zone": vantage.zone, "sub_zone": vantage.cluster},
            "metadata": {RENDERER_METADATA: Renderer.GRPC.value},
        },
    }


def _control_plane(address: str, identity: Identity | None) -> dict[str, Any]:
    is_name = split_listen(address) is None
    made: dict[str, Any] = {
        "name": ADS_CLUSTER,
        "type": "STRICT_DNS" if is_name else "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": ADS_CLUSTER,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _socket_address(address)}}]}],
        },
        "upstream_connection_options": {
            "tcp_keepalive": {"keepalive_probes": 3, "keepalive_time": 10, "keepalive_interval": 3}
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": _TYPES + "upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {
                    "http2_protocol_options": {"connection_keepalive": {"interval": "5s", "timeout": "2s"}}
                },
            }
        },
    }
    if identity is not None:
        made["transport_socket"] = transport_socket(address.rpartition(":")[0], identity)
    return made


def _socket_address(text: str) -> dict[str, Any]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ConfigError(f"{text!r} is not host:port")
    return {"socket_address": {"address": host.strip("[]"), "port_value": int(port)}}
