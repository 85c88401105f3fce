"""What checks talk over: a TCP connection, plain or within TLS, on the running loop.

TLS here proves that something answers, not who it is: certificates are not verified, as with kubelet's HTTPS
probes. Nothing secret is ever sent, so there is nothing to steal by answering in another's place.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from typing import Protocol, TypeVar

R = TypeVar("R")
CHUNK = 16 * 1024


class Connection(Protocol):
    """Bytes out and in; `receive` returns b"" at the end. All raise OSError."""

    async def send(self, data: bytes) -> None: ...

    async def receive(self) -> bytes: ...

    async def farewell(self) -> None:
        """What is due before the socket is closed; waits for nobody."""


def dialled(address: str, kind: socket.SocketKind = socket.SOCK_STREAM, protocol: int = 0) -> socket.socket:
    """A non-blocking socket of the address's family. Raises OSError."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.socket(family, kind | socket.SOCK_NONBLOCK, protocol)


class Plain:
    """A connected socket."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._loop = asyncio.get_running_loop()

    async def send(self, data: bytes) -> None:
        await self._loop.sock_sendall(self._connection, data)

    async def receive(self) -> bytes:
        return await self._loop.sock_recv(self._connection, CHUNK)

    async def farewell(self) -> None:
        pass


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    return context


class Tls:
    """TLS over another connection; `name` is the server name that is asked for (SNI)."""

    _shared: ssl.SSLContext | None = None

    def __init__(self, plain: Plain, name: str) -> None:
        if Tls._shared is None:
            Tls._shared = _context()
        self._plain = plain
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = Tls._shared.wrap_bio(self._incoming, self._outgoing, server_hostname=name or None)

    async def handshake(self) -> None:
        """Raises ssl.SSLError where the other side does not speak TLS."""
        await self._do(self._tls.do_handshake)

    async def send(self, data: bytes) -> None:
        await self._do(lambda: self._tls.write(data))

    async def receive(self) -> bytes:
        try:
            return await self._do(lambda: self._tls.read(CHUNK))
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""

    async def farewell(self) -> None:
        with contextlib.suppress(ssl.SSLError):
            self._tls.unwrap()
        await self._flush()

    async def _do(self, step: Callable[[], R]) -> R:
        while True:
            try:
                done = step()
            except ssl.SSLWantReadError:
                await self._flush()
                if data := await self._plain.receive():
                    self._incoming.write(data)
                else:
                    self._incoming.write_eof()
            else:
                await self._flush()
                return done

    async def _flush(self) -> None:
        if self._outgoing.pending:
            await self._plain.send(self._outgoing.read())
