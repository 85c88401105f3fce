"""UDP and TCP sockets around a Front (RFC 1035 4.2, RFC 7766).

UDP is the fast path's own business where there is one: its threads answer there, and lay aside for the event
loop what they cannot. Without it the loop drains the sockets in bounded turns. A socket that is bound to
every address of the machine answers from the address it was asked at.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from math import isfinite
from typing import Any, Final, NamedTuple

from isthmus.dns.fastpath import FastPath
from isthmus.dns.front import Front
from isthmus.dns.tcp import Connection, Gate, TcpLimits
from isthmus.errors import PlatformError

_TURN: Final = 64
"""Queries answered before other work of the loop has its turn."""
_QUERY_BYTES: Final = 4096
"""A longer UDP query is cut, and then malformed."""
_RECEIVE_BUFFER: Final = 1 << 20
_PORT_TRIES: Final = 16
_CONTROL_BYTES: Final = 64
_IP_PKTINFO: Final = 8
_SO_MEMINFO: Final = 55
_MEMINFO: Final = struct.Struct("=9I")
"""The last number is how many datagrams the socket had no room for (sock_diag(7), SK_MEMINFO_DROPS)."""


class Listen(NamedTuple):
    """A literal address and a port; port 0 asks the kernel for one that UDP and TCP both have free."""

    host: str
    port: int


class Served:
    """Where is served, and what the sockets know."""

    def __init__(self, gate: Gate) -> None:
        self.bound: tuple[Listen, ...] = ()
        self.gate = gate
        self.udp: list[socket.socket] = []

    def add(self, udp: socket.socket) -> None:
        self.udp.append(udp)
        self.bound += (Listen(*udp.getsockname()[:2]),)

    @property
    def overflowed(self) -> int:
        """Datagrams that the kernel dropped because a socket's buffer was full."""
        held = (sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size) for sock in self.udp)
        return sum(_MEMINFO.unpack(numbers)[-1] for numbers in held)


@asynccontextmanager
async def serving(
    front: Front, listen: Sequence[Listen], limits: TcpLimits, clock: Callable[[], float]
) -> AsyncIterator[Served]:
    """Serve UDP and TCP on every address; yields where, with the ports that were given.

    `clock` is wall-clock time. Raises PlatformError where a socket cannot be had.
    """
    loop = asyncio.get_running_loop()
    gate = Gate(limits)
    served = Served(gate)
    async with AsyncExitStack() as stack:
        if front.forwarder is not None:
            stack.push_async_callback(front.forwarder.close)
        for wanted in listen:
            udp, tcp = _pair(wanted)
            stack.callback(udp.close)
            server = await loop.create_server(lambda: Connection(front, gate, clock), sock=tcp, backlog=256)
            stack.callback(server.close)
            served.add(udp)
        stack.callback(gate.close)
        if front.fast is not None:
            stack.callback(front.fast.close)
            loop.add_reader(front.fast.wake_fd, _asides, front, front.fast.wake_fd, clock)
            stack.callback(loop.remove_reader, front.fast.wake_fd)
            showing = loop.create_task(_show(front.fast, front.querylog.pause), name="dns-query-log")
            stack.callback(showing.cancel)
        for udp in served.udp:
            told = _tell_destinations(udp)
            if front.fast is None or not front.fast.serve(udp, told=told):
                loop.add_reader(udp, _Datagrams(udp, front, clock, told=told).drain)
                stack.callback(loop.remove_reader, udp)
        yield served


def _pair(listen: Listen) -> tuple[socket.socket, socket.socket]:
    """A bound UDP and a bound TCP socket on the same port; other workers may share it (SO_REUSEPORT)."""
    for attempt in range(_PORT_TRIES):
        tcp = udp = None
        try:
            tcp = _bound(listen, socket.SOCK_STREAM)
            udp = _bound(Listen(listen.host, tcp.getsockname()[1]), socket.SOCK_DGRAM)
            udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        except OSError as error:
            for held in (tcp, udp):
                if held is not None:
                    held.close()
            if listen.port or attempt == _PORT_TRIES - 1:
                raise PlatformError(
                    f"DNS cannot listen on {listen.host} port {listen.port}: {error.strerror or error}; "
                    "choose another address, or allow this process to use it"
                ) from error
        else:
            return udp, tcp
    raise AssertionError("unreachable")


def _bound(listen: Listen, kind: socket.SocketKind) -> socket.socket:
    family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
    made = socket.socket(family, kind | socket.SOCK_NONBLOCK)
    try:
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if kind is socket.SOCK_STREAM:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind((listen.host, listen.port))
    except OSError:
        made.close()
        raise
    return made


def _tell_destinations(udp: socket.socket) -> bool:
    """Lets a socket that is bound to every address tell where each query was sent to (IP_PKTINFO)."""
    host = udp.getsockname()[0]
    if host == "::":
        udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    elif host == "0.0.0.0":
        udp.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
    else:
        return False
    return True


def _asides(front: Front, wake_fd: int, clock: Callable[[], float]) -> None:
    """Answers what the fast path has laid aside, a turn of it; another follows if there may be more."""
    with suppress(BlockingIOError):
        os.eventfd_read(wake_fd)
    if front.asides(clock(), _TURN) == _TURN:
        os.eventfd_write(wake_fd, 1)


async def _show(fast: FastPath, pause: float) -> None:
    """Asks for a query to write to the log, again and again."""
    while isfinite(pause):
        fast.show()
        await asyncio.sleep(pause)


class _Datagrams:
    """One UDP socket that Python answers."""

    def __init__(self, sock: socket.socket, front: Front, clock: Callable[[], float], *, told: bool) -> None:
        self._sock = sock
        self._front = front
        self._clock = clock
        self._receive = self._receive_told if told else self._receive_plain

    def drain(self) -> None:
        """Answer what waits, at most a turn of it."""
        now = self._clock()
        began = time.monotonic_ns()
        replies = 0
        for _ in range(_TURN):
            try:
                query, source, address = self._receive()
            except BlockingIOError:
                break
            except OSError:  # the kernel reports here that an earlier reply met a closed port
                continue
            send = partial(self._send, source, address)
            reply = self._front.answer(query, address[0], now, "udp", send)
            if isinstance(reply, bytes):
                replies += 1
                send(reply)
        if replies:
            self._front.tally.took(time.monotonic_ns() - began, replies)

    def _send(self, source: Sequence[Any], address: Any, reply: bytes) -> None:
        try:
            self._sock.sendmsg((reply,), source, 0, address)
        except OSError:  # full buffer, port 0, no route: a lost datagram, and the client asks again
            self._front.tally.unsent()

    def _receive_plain(self) -> tuple[bytes, Sequence[Any], Any]:
        query, address = self._sock.recvfrom(_QUERY_BYTES)
        return query, (), address

    def _receive_told(self) -> tuple[bytes, Sequence[Any], Any]:
        query, told, _, address = self._sock.recvmsg(_QUERY_BYTES, _CONTROL_BYTES)
        return query, [_source(*part) for part in told], address


def _source(level: int, kind: int, data: bytes) -> tuple[int, int, bytes]:
    """Where a query was sent to, as where its reply comes from; the interface is the kernel's choice.

    A link-local address is one of its interface only.
    """
    if level == socket.IPPROTO_IP:
        return level, kind, bytes(4) + data[4:]
    return level, kind, data if data[:1] == b"\xfe" else data[:16] + bytes(4)
