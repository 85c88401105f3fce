"""Listeners and routes of gRPC clients (gRFC A27, A31, A42, A44).

A client's target `xds:///web.shop.svc.clusterset.local:80` is the name of its listener; that leads to the
routes of one service port, which lead to its cluster. Invariant: a name leads to one port, whoever asks.
"""

from __future__ import annotations

from collections.abc import Sequence

from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_components_pb2, route_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2

from isthmus.model.names import ServiceKey
from isthmus.model.policy import DoorSettings, Retry
from isthmus.model.service import Port, Protocol
from isthmus.xds.appprotocol import AppProtocol, app_protocol
from isthmus.xds.envoy.extension import over_ads, packed
from isthmus.xds.rows import resource_name

MAX_RETRIES = 4
"""Libraries make at most five attempts (gRFC A6, maxAttempts)."""
LEAST_BACK_OFF = 0.005
"""Seconds. C-core draws a delay 20 % around the base and cuts it to whole milliseconds. After one of 0 ms
(half of those with a base of 1 ms) grpcio 1.85 makes no next attempt: the call waits until its deadline.
"""


def names(service: ServiceKey, ports: Sequence[Port]) -> dict[str, Port]:
    """The names of a service's listeners: one with each TCP port's number, and one without.

    The latter means the first port that says it speaks gRPC, else 80, else the first.
    """
    found = {port.port: port for port in reversed(ports) if port.protocol is Protocol.TCP}
    if not found:
        return {}
    named = {resource_name(service, number): port for number, port in found.items()}
    speaking = [port for port in ports if app_protocol(port) is AppProtocol.GRPC]
    first = next(port for port in ports if port.protocol is Protocol.TCP)
    default = speaking[0] if speaking else found.get(80, first)
    return {**named, resource_name(service, default.port).rpartition(":")[0]: default}


def listener(name: str, service: ServiceKey, port: Port) -> bytes:
    """The serialised listener of that name; its routes are those of the port."""
    manager = hcm_pb2.HttpConnectionManager(stat_prefix=name)
    manager.rds.route_config_name = resource_name(service, port.port)
    manager.rds.config_source.CopyFrom(over_ads())
    router = manager.http_filters.add(name="envoy.filters.http.router")
    router.typed_config.CopyFrom(packed(router_pb2.Router()))
    found = listener_pb2.Listener(name=name)
    found.api_listener.api_listener.CopyFrom(packed(manager))
    return bytes(found.SerializeToString(deterministic=True))


def route_configuration(service: ServiceKey, port: Port, doors: DoorSettings) -> bytes:
    """The serialised routes of a service port: every method of every name goes to its cluster.

    `timeout` bounds a call from its start to its end, streams too, as Envoy does it.
    """
    name = resource_name(service, port.port)
    found = route_pb2.RouteConfiguration(name=name)
    route = found.virtual_hosts.add(name=name, domains=["*"]).routes.add()
    route.match.prefix = ""
    route.route.cluster = name
    if doors.timeout:
        limit = route.route.max_stream_duration.max_stream_duration
        limit.FromNanoseconds(round(doors.timeout * 1e9))
    if doors.affinity is not None and doors.affinity.header:
        route.route.hash_policy.add().header.header_name = doors.affinity.header
    if doors.retry is not None and doors.retry.asked:
        _retry(route.route, doors.retry)
    return bytes(found.SerializeToString(deterministic=True))


def _retry(action: route_components_pb2.RouteAction, wanted: Retry) -> None:
    """Calls that a server may have seen are repeated only where the policy asks for it itself.

    What no server has seen a library repeats anyway. Which methods are idempotent it does not know.
    """
    policy = action.retry_policy
    policy.retry_on = "unavailable"
    policy.num_retries.value = min(wanted.attempts, MAX_RETRIES)
    base = max(wanted.back_off_base, LEAST_BACK_OFF)
    longest = max(base, wanted.back_off_max)
    policy.retry_back_off.base_interval.FromNanoseconds(round(base * 1e9))
    policy.retry_back_off.max_interval.FromNanoseconds(round(longest * 1e9))
