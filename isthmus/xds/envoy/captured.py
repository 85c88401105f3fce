"""The listener of transparent capture: redirected connections, told apart by where they were going.

A connection to a clusterset IP and port of a service goes by that port's plan: as HTTP, request by request,
where the port says so, else as a whole. Everything else, headless services too (they have no clusterset IP),
goes untouched to where its caller meant it to go. Each port is a filter chain of its own: a service that
comes, goes or changes leaves the connections to all others alone, and any name its callers use for it counts.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence

from envoy.config.core.v3 import base_pb2
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from envoy.extensions.filters.listener.original_dst.v3 import original_dst_pb2
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2

from isthmus.model.names import ServiceKey
from isthmus.model.service import Port
from isthmus.xds.appprotocol import speaks_http
from isthmus.xds.envoy.accesslog import access_log
from isthmus.xds.envoy.extension import packed
from isthmus.xds.envoy.listeners import connection_manager
from isthmus.xds.rows import BLACKHOLE, EXPLICIT, PASSTHROUGH, resource_name
from isthmus.xds.wire import field

_FILTER_CHAINS = 3
"""Field number of Listener.filter_chains."""
_LOOPBACK = ("127.0.0.0/8", "::1/128")


def filter_chain(service: ServiceKey, port: Port, vips: Sequence[str], *, log: bool = False) -> bytes:
    """What happens to connections to a service port, as a field of a listener. `vips`: its clusterset IPs."""
    name = resource_name(service, port.port)
    chain = listener_components_pb2.FilterChain(name=name)
    _match(chain, vips, port.port)
    if speaks_http(port):
        chain.filters.append(connection_manager(name, name, log=log))
    else:
        chain.filters.append(_forward(name, name, log=log))
    return field(_FILTER_CHAINS, chain.SerializeToString(deterministic=True))


def captured_listener(
    address: str, port: int, chains: Iterable[bytes], *, both_families: bool = False
) -> bytes:
    """The serialised listener, joined from what `filter_chain` gave for each service port.

    `both_families`: whether it listens on the other family's loopback address as well, where redirected
    connections of that family arrive. A connection to the listener itself leads nowhere, or it would lead
    back to it for ever.
    """
    found = listener_pb2.Listener(name=EXPLICIT, traffic_direction=base_pb2.OUTBOUND)
    found.address.socket_address.address, found.address.socket_address.port_value = address, port
    if both_families:
        other = found.additional_addresses.add().address.socket_address
        other.address, other.port_value = _other(address), port
    found.enable_reuse_port.value = True
    before = found.listener_filters.add(name="envoy.filters.listener.original_dst")
    before.typed_config.CopyFrom(packed(original_dst_pb2.OriginalDst()))
    found.default_filter_chain.name = PASSTHROUGH
    found.default_filter_chain.filters.append(_forward(PASSTHROUGH, PASSTHROUGH))
    itself = found.filter_chains.add(name=BLACKHOLE)
    _match(itself, _LOOPBACK, port)
    itself.filters.append(_forward(BLACKHOLE, BLACKHOLE))
    return bytes(found.SerializeToString(deterministic=True)) + b"".join(chains)


def _match(chain: listener_components_pb2.FilterChain, ranges: Sequence[str], port: int) -> None:
    chain.filter_chain_match.destination_port.value = port
    for text in ranges:
        network = ipaddress.ip_network(text)
        prefix = chain.filter_chain_match.prefix_ranges.add(address_prefix=str(network.network_address))
        prefix.prefix_len.value = network.prefixlen


def _forward(name: str, cluster: str, *, log: bool = False) -> listener_components_pb2.Filter:
    """The filter that hands a connection on as a whole."""
    proxy = tcp_proxy_pb2.TcpProxy(stat_prefix=name, cluster=cluster)
    if log:
        proxy.access_log.append(access_log(http=False))
    return listener_components_pb2.Filter(name="envoy.filters.network.tcp_proxy", typed_config=packed(proxy))


def _other(address: str) -> str:
    return "::1" if ipaddress.ip_address(address).version == 4 else "127.0.0.1"
