"""Servers for many thousands of draws: they answer every request with their name, and do nothing else.

The clients are what a test is about; a stock server for each draw would cost more than all the rest.
"""

from __future__ import annotations

import asyncio
from typing import ClassVar

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HEADER = 9
_DATA, _HEADERS, _SETTINGS, _PING, _WINDOW_UPDATE = 0, 1, 4, 6, 8
_END_STREAM, _END_HEADERS, _ACK = 1, 4, 1
_WHOLE_WINDOW = 2**31 - 1 - 65_535


class QuickBackend:
    """Answers as `protocol` does; has the fields that plans are made of."""

    protocol: ClassVar[type[Http1 | Http2]]

    def __init__(self, cluster: str, address: str = "0.0.0.0") -> None:
        self.cluster, self.address, self.port = cluster, address, 0
        self.open: set[asyncio.Transport] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: self.protocol(self), self.address, 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for transport in list(self.open):
            transport.abort()
        await self._server.wait_closed()


class _Connection(asyncio.Protocol):
    def __init__(self, backend: QuickBackend) -> None:
        self._backend = backend
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._backend.open.add(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._backend.open.discard(self._transport)


class Http1(_Connection):
    """HTTP/1.1."""

    def __init__(self, backend: QuickBackend) -> None:
        super().__init__(backend)
        body = backend.cluster.encode()
        self._answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)

    def data_received(self, data: bytes) -> None:
        data = self._buffer + data
        count = data.count(b"\r\n\r\n")
        self._buffer = data[data.rfind(b"\r\n\r\n") + 4 :] if count else data
        self._transport.write(self._answer * count)


class Http2(_Connection):
    """As much of HTTP/2 (RFC 9113) as a unary gRPC call needs; headers are never looked at."""

    def __init__(self, backend: QuickBackend) -> None:
        super().__init__(backend)
        self._greeted = False
        message = backend.cluster.encode()
        self._head = b"\x88" + _literal("content-type", "application/grpc")
        self._body = b"\0" + len(message).to_bytes(4, "big") + message
        self._trailers = _literal("grpc-status", "0")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        window = _WHOLE_WINDOW.to_bytes(4, "big")
        self._transport.write(_frame(_SETTINGS, 0, 0, b"") + _frame(_WINDOW_UPDATE, 0, 0, window))

    def data_received(self, data: bytes) -> None:
        data = self._buffer + data
        at = 0
        if not self._greeted:
            if len(data) < len(_PREFACE):
                self._buffer = data
                return
            self._greeted, at = True, len(_PREFACE)
        answers = []
        while len(data) - at >= _HEADER:
            length = int.from_bytes(data[at : at + 3], "big")
            if len(data) - at < _HEADER + length:
                break
            kind, flags = data[at + 3], data[at + 4]
            stream = int.from_bytes(data[at + 5 : at + 9], "big")
            at += _HEADER + length
            if kind in (_DATA, _HEADERS) and flags & _END_STREAM:
                answers += [
                    _frame(_HEADERS, _END_HEADERS, stream, self._head),
                    _frame(_DATA, 0, stream, self._body),
                    _frame(_HEADERS, _END_HEADERS | _END_STREAM, stream, self._trailers),
                ]
            elif kind in (_SETTINGS, _PING) and not flags & _ACK:
                body = data[at - length : at] if kind == _PING else b""
                answers.append(_frame(kind, _ACK, 0, body))
        self._buffer = data[at:]
        self._transport.write(b"".join(answers))


class QuickHttp(QuickBackend):
    protocol = Http1


class QuickGrpc(QuickBackend):
    protocol = Http2


def _frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    return len(body).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + body


def _literal(name: str, value: str) -> bytes:
    """A header that no table remembers (RFC 7541, section 6.2.2)."""
    return b"\0" + bytes((len(name),)) + name.encode() + bytes((len(value),)) + value.encode()
