"""TCP connections that notice a dead peer.

A peer that vanished sends nothing, and a watch waits for minutes by design; keep-alive probes and a limit on
unacknowledged data end such a connection after about half a minute (tcp(7)).
"""

from __future__ import annotations

import socket

import aiohttp
from aiohttp.abc import AbstractResolver

CONNECTIONS = 64
IDLE_SECONDS = 15
INTERVAL_SECONDS = 5
PROBES = 3
USER_TIMEOUT_MS = 30_000

AddressInfo = tuple[int | socket.AddressFamily, int | socket.SocketKind, int, str, tuple]  # type: ignore[type-arg]
"""As aiohttp hands it over."""


def connector(resolver: AbstractResolver | None = None) -> aiohttp.TCPConnector:
    """A connector whose sockets have the limits above; TLS is decided by each request."""
    return aiohttp.TCPConnector(limit=CONNECTIONS, resolver=resolver, socket_factory=_socket)


def _socket(address: AddressInfo) -> socket.socket:
    family, kind, protocol = address[:3]
    made = socket.socket(family, kind, protocol)
    for level, option, value in (
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, IDLE_SECONDS),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, INTERVAL_SECONDS),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, PROBES),
        (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS),
    ):
        made.setsockopt(level, option, value)
    return made
