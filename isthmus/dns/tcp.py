"""DNS over TCP (RFC 7766): framed messages in both directions, pipelined, bounded in everything.

Connections are protocols, not tasks: queries are answered in order, but those that are forwarded when their
replies come; a connection is never closed after one reply, and what each may hold (time without a query,
unread replies, work per turn) is bounded. Nothing a client sends can do more than end its own connection.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog

from isthmus.dns.front import LATER, Front

log = structlog.get_logger()

_TURN: Final = 64
"""Queries of one connection answered before other work of the loop has its turn."""
_UNREAD_REPLIES: Final = 1 << 17
_FRAME: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpLimits:
    """Seconds without a whole query before a connection is closed; connections in all and per address."""

    idle: float = 10.0
    connections: int = 512
    per_client: int = 128


class Gate:
    """Who is connected, in all and per address."""

    def __init__(self, limits: TcpLimits) -> None:
        self.limits = limits
        self.refused = 0
        self._open: set[Connection] = set()
        self._clients: Counter[str] = Counter()
        self._full = False

    def __len__(self) -> int:
        return len(self._open)

    def enter(self, connection: Connection, client: str) -> bool:
        """Whether there is room for one more connection of that client."""
        full = len(self._open) >= self.limits.connections
        if full != self._full:
            self._full = full
            log.warning("dns tcp full" if full else "dns tcp has room", connections=len(self._open))
        if full or self._clients[client] >= self.limits.per_client:
            self.refused += 1
            return False
        self._open.add(connection)
        self._clients[client] += 1
        return True

    def leave(self, connection: Connection, client: str) -> None:
        if connection in self._open:
            self._open.discard(connection)
            self._clients[client] -= 1
            if not self._clients[client]:
                del self._clients[client]

    def close(self) -> None:
        for connection in tuple(self._open):
            connection.abort()


class Connection(asyncio.Protocol):
    """One TCP connection: frames of two bytes of length and a message, in both directions."""

    def __init__(self, front: Front, gate: Gate, clock: Callable[[], float]) -> None:
        self._answer = front.answer
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
        self._later = 0
        """Replies that are still to come from others."""

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
        return self._next_turn is not None or not self._writable or self._later > 0

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
            reply = self._answer(
                bytes(held[at + _FRAME : end]), self._client, now, "tcp", self._answered_later
            )
            if reply is None:  # no query at all: whoever speaks here does not speak DNS
                self.abort()
                return
            if isinstance(reply, bytes):
                replies.append(len(reply).to_bytes(_FRAME, "big") + reply)
            self._later += reply == LATER
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
        elif self._ended and not self._later and self._transport is not None:
            self._transport.close()
        else:
            self._listen(not self._ended)

    def _answered_later(self, reply: bytes) -> None:
        self._later -= 1
        if self._transport is None:
            return
        self._transport.write(len(reply).to_bytes(_FRAME, "big") + reply)
        if self._ended:
            self._work()

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
