"""HTTP/1.1 GETs over connections that stay open, as cheap as a load of hundreds a second wants them."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass

MAX_ANSWER_BYTES = 16 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    status: int
    headers: dict[bytes, bytes]
    """Names in lower case."""
    body: bytes


class Broken(OSError):
    """The connection ended, or what came over it was not HTTP/1.1."""


class Connection(asyncio.Protocol):
    """One connection, one request at a time. `idle` says that it can take the next one."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._waiting: asyncio.Future[Answer] | None = None
        self._closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    @property
    def idle(self) -> bool:
        return not self._closed and self._waiting is None

    def get(self, authority: str, path: str) -> asyncio.Future[Answer]:
        """Send a GET; the future fails with Broken when the connection does."""
        assert self._transport is not None
        assert self._waiting is None
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(f"GET {path} HTTP/1.1\r\nhost: {authority}\r\n\r\n".encode())
        return self._waiting

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        try:
            answer = _parse(self._buffer)
        except ValueError as error:
            self._fail(str(error))
            return
        if answer is None:
            if len(self._buffer) > MAX_ANSWER_BYTES:
                self._fail("answer too large")
            return
        self._buffer.clear()
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)
        if answer.headers.get(b"connection", b"").lower() == b"close":
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail("connection closed")

    def close(self) -> None:
        """Close at once; a request under way fails."""
        self._fail("closed")

    def _fail(self, why: str) -> None:
        self._closed = True
        if self._transport is not None:
            self._transport.abort()
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_exception(Broken(why))


def _parse(data: bytearray) -> Answer | None:
    """The answer that `data` holds, None while it is not complete; ValueError when it is not HTTP."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    lines = bytes(data[:end]).split(b"\r\n")
    version, _, rest = lines[0].partition(b" ")
    if not version.startswith(b"HTTP/1.") or not rest[:3].isdigit():
        raise ValueError("not HTTP/1.1")
    headers = {}
    for line in lines[1:]:
        name, _, value = line.partition(b":")
        headers[name.strip().lower()] = value.strip()
    start = end + 4
    if headers.get(b"transfer-encoding", b"").lower() == b"chunked":
        body = _dechunk(data, start)
        if body is None:
            return None
    else:
        length = int(headers.get(b"content-length", b"0"))
        if len(data) < start + length:
            return None
        body = bytes(data[start : start + length])
    return Answer(status=int(rest[:3]), headers=headers, body=body)


def _dechunk(data: bytearray, at: int) -> bytes | None:
    body = bytearray()
    while True:
        end = data.find(b"\r\n", at)
        if end < 0:
            return None
        size = int(bytes(data[at:end]).partition(b";")[0], 16)
        at = end + 2
        if len(data) < at + size + 2:
            return None
        if size == 0:
            return bytes(body)
        body += data[at : at + size]
        at += size + 2


async def connect(address: str, port: int) -> Connection:
    """Open a connection; OSError when there is none to be had. Bound it with asyncio.timeout."""
    _, connection = await asyncio.get_running_loop().create_connection(Connection, address, port)
    return connection


async def fetch(address: str, port: int, path: str, *, timeout: float = 5.0) -> Answer:
    """One GET over a connection of its own; OSError (TimeoutError included) when there is no answer."""
    connection: Connection | None = None
    try:
        async with asyncio.timeout(timeout):
            connection = await connect(address, port)
            return await connection.get(f"{address}:{port}", path)
    finally:
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.close()
