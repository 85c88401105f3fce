"""UDP and TCP sockets around a Responder (RFC 1035 4.2, RFC 7766).

UDP is drained in bounded turns straight from the event loop's reader. TCP connections are protocols, not
tasks: pipelined queries are answered in order, a connection is never closed after one reply, and what each
may hold (time without a query, unread replies, work per turn) is bounded. Nothing a client sends can do more
than end its own connection.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final, NamedTuple

import structlog

from isthmus.dns.answer import Responder
from isthmus.errors import PlatformError

log = structlog.get_logger()

_TURN: Final = 64
"""Queries answered before other work of the loop has its turn."""
_QUERY_BYTES: Final = 4096
"""A longer UDP query is cut, and then malformed."""
_RECEIVE_BUFFER: Final = 1 << 20
_UNREAD_REPLIES: Final = 1 << 17
_FRAME: Final = 2
_PORT_TRIES: Final = 16


class Listen(NamedTuple):
    """A literal address and a port; port 0 asks the kernel for one that UDP and TCP both have free."""

    host: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpLimits:
    """Seconds without a whole query before a connection is closed; connections in all and per address."""

    idle: float = 10.0
    connections: int = 512
    per_client: int = 128


@asynccontextmanager
async def serving(
    responder: Responder, listen: Sequence[Listen], limits: TcpLimits, clock: Callable[[], float]
) -> AsyncIterator[tuple[Listen, ...]]:
    """Serve UDP and TCP on every address; yields where, with the ports that were given.

    `clock` is wall-clock time. Raises PlatformError where a socket cannot be had.
    """
    loop = asyncio.get_running_loop()
    gate = _Gate(limits)
    bound = []
    async with AsyncExitStack() as stack:
        for wanted in listen:
            udp, tcp = _pair(wanted)
            stack.callback(udp.close)
            reader = _Datagrams(udp, responder, clock)
            loop.add_reader(udp, reader.drain)
            stack.callback(loop.remove_reader, udp)
            server = await loop.create_server(
                lambda: _Connection(responder, gate, clock), sock=tcp, backlog=256
            )
            stack.callback(server.close)
            bound.append(Listen(*udp.getsockname()[:2]))
        stack.callback(gate.close)
        yield tuple(bound)


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


class _Datagrams:
    """One UDP socket."""

    def __init__(self, sock: socket.socket, responder: Responder, clock: Callable[[], float]) -> None:
        self._receive = sock.recvfrom
        self._send = sock.sendto
        self._answer = responder.answer
        self._clock = clock

    def drain(self) -> None:
        """Answer what waits, at most a turn of it."""
        now = self._clock()
        for _ in range(_TURN):
            try:
                query, address = self._receive(_QUERY_BYTES)
            except BlockingIOError:
                return
            except OSError:  # the kernel reports here that an earlier reply met a closed port
                continue
            reply = self._answer(query, address[0], now, "udp")
            if reply is not None:
                try:
                    self._send(reply, address)
                except OSError:  # full buffer, port 0, no route: a lost datagram, and the client asks again
                    continue


class _Gate:
    """Who is connected, in all and per address."""

    def __init__(self, limits: TcpLimits) -> None:
        self.limits = limits
        self._open: set[_Connection] = set()
        self._clients: Counter[str] = Counter()
        self._full = False

    def enter(self, connection: _Connection, client: str) -> bool:
        """Whether there is room for one more connection of that client."""
        full = len(self._open) >= self.limits.connections
        if full != self._full:
            self._full = full
            log.warning("dns tcp full" if full else "dns tcp has room", connections=len(self._open))
        if full or self._clients[client] >= self.limits.per_client:
            return False
        self._open.add(connection)
        self._clients[client] += 1
        return True

    def leave(self, connection: _Connection, client: str) -> None:
        if connection in self._open:
            self._open.discard(connection)
            self._clients[client] -= 1
            if not self._clients[client]:
                del self._clients[client]

    def close(self) -> None:
        for connection in tuple(self._open):
            connection.abort()


class _Connection(asyncio.Protocol):
    """One TCP connection: frames of two bytes of length and a message, in both directions."""

    def __init__(self, responder: Responder, gate: _Gate, clock: Callable[[], float]) -> None:
        self._answer = responder.answer
        self._gate = gate
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._held = bytearray()
        self._client = ""
        self._transport: asyncio.Transport | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._next_turn: asyncio.Handle | None = None
        self._writable = True
        self._ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        peer = transport.get_extra_info("peername")
        self._client = str(peer[0]) if peer else ""
        self._transport = transport
        if not self._gate.enter(self, self._client):
            self.abort()
            return
        transport.set_write_buffer_limits(high=_UNREAD_REPLIES)
        self._alive()

    def data_received(self, data: bytes) -> None:
        self._held += data
        self._work()

    def eof_received(self) -> bool:
        self._ended = True
        return self._next_turn is not None or not self._writable

    def pause_writing(self) -> None:
        self._writable = False
        self._listen(False)

    def resume_writing(self) -> None:
        self._writable = True
        self._work()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        for handle in (self._idle, self._next_turn):
            if handle is not None:
                handle.cancel()
        self._gate.leave(self, self._client)

    def abort(self) -> None:
        """End the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def _work(self) -> None:
        """Answer the whole queries that are here, a turn of them at most; no reading while some wait."""
        self._next_turn = None
        now = self._clock()
        replies: list[bytes] = []
        at = taken = 0
        held = self._held
        while taken < _TURN and len(held) >= at + _FRAME:
            end = at + _FRAME + int.from_bytes(held[at : at + _FRAME], "big")
            if len(held) < end:
                break
            reply = self._answer(bytes(held[at + _FRAME : end]), self._client, now, "tcp")
            if reply is None:  # no query at all: whoever speaks here does not speak DNS
                self.abort()
                return
            replies.append(len(reply).to_bytes(_FRAME, "big") + reply)
            at = end
            taken += 1
        del held[:at]
        if taken:
            self._alive()
        if replies and self._transport is not None:
            self._transport.write(b"".join(replies))
        if not self._writable:
            return
        if taken == _TURN:
            self._listen(False)
            self._next_turn = self._loop.call_soon(self._work)
        elif self._ended and self._transport is not None:
            self._transport.close()
        else:
            self._listen(True)

    def _listen(self, on: bool) -> None:
        transport = self._transport
        if transport is None or transport.is_closing() or transport.is_reading() == on:
            return
        if on:
            transport.resume_reading()
        else:
            transport.pause_reading()

    def _alive(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
        self._idle = self._loop.call_later(self._gate.limits.idle, self.abort)
