"""HTTP for the tests of the xDS door: backends that can misbehave, single requests, and a load of them."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from loadtests.ports import free_port

DEADLINE = 60.0


async def until(condition: Callable[[], Awaitable[bool]], what: str, deadline: float = DEADLINE) -> None:
    """Waits until the condition holds; fails with `what` after the deadline."""
    try:
        async with asyncio.timeout(deadline):
            while not await condition():
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"not within {deadline:g} s: {what}") from None


class HttpBackend:
    """An HTTP/1.1 server that answers every request with the name of its cluster; it can hang or delay."""

    def __init__(self, cluster: str, address: str = "127.0.0.1") -> None:
        self.cluster, self.address, self.port = cluster, address, 0
        self.hanging = False
        self.delay = 0.0
        self.served = self.requests = 0
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Transport] = set()

    async def start(self) -> None:
        self.port = self.port or free_port()  # who asks there while it is stopped never meets itself
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), self.address, self.port)

    async def stop(self) -> None:
        """Refuses from now on; open connections are reset."""
        if self._server is not None:
            self._server.close()
            for transport in list(self._open):
                transport.abort()
            await self._server.wait_closed()
            self._server = None


@asynccontextmanager
async def backends(*names: str, address: str = "127.0.0.1") -> AsyncIterator[list[HttpBackend]]:
    """One for each name."""
    found = [HttpBackend(name, address) for name in names]
    for backend in found:
        await backend.start()
    try:
        yield found
    finally:
        for backend in found:
            await backend.stop()


class _Connection(asyncio.Protocol):
    def __init__(self, backend: HttpBackend) -> None:
        self._backend = backend
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._backend._open.add(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._backend._open.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while b"\r\n\r\n" in self._buffer:
            _, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
            self._backend.requests += 1
            if not self._backend.hanging:
                asyncio.get_running_loop().call_later(self._backend.delay, self._answer)

    def _answer(self) -> None:
        if self._backend.hanging or self._transport.is_closing():
            return
        self._backend.served += 1
        body = self._backend.cluster.encode()
        self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))


async def request(
    address: str, authority: str, path: str = "/", method: str = "GET", timeout: float = 30.0
) -> tuple[int, str]:
    """Status and body of one request on a connection of its own."""
    host, _, port = address.rpartition(":")
    async with asyncio.timeout(timeout):
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            return await exchange(reader, writer, authority, path, method)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


async def exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, authority: str, path: str, method: str
) -> tuple[int, str]:
    """One request on a kept connection."""
    writer.write(f"{method} {path} HTTP/1.1\r\nhost: {authority}\r\ncontent-length: 0\r\n\r\n".encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    status = int(head.split(" ", 2)[1])
    if "transfer-encoding: chunked" in head:
        body = b""
        while size := int((await reader.readuntil(b"\r\n")).strip(), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readexactly(2)
        return status, body.decode()
    length = next((line for line in head.split("\r\n") if line.startswith("content-length:")), ":0")
    return status, (await reader.readexactly(int(length.partition(":")[2]))).decode()


async def fetch(address: str, path: str) -> str:
    return (await request(address, address, path))[1]


@dataclass
class Load:
    """An open loop of requests on kept connections: what was answered when, and by whom."""

    address: str
    authority: str = "web.shop"
    rate: float = 200.0
    method: str = "GET"
    answers: list[tuple[float, float, int, str]] = field(default_factory=list)
    """(seconds since the start of the load, latency in seconds, status, body)"""
    errors: list[str] = field(default_factory=list)
    begun: list[float] = field(default_factory=list)
    """When each request began, answered or not."""
    _idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = field(default_factory=list)
    _started: float = 0.0

    @property
    def failed(self) -> list[Any]:
        return [*self.errors, *(a for a in self.answers if a[2] != 200)]

    def by(self, since: float = 0.0) -> Counter[str]:
        return Counter(body for at, _, status, body in self.answers if at >= since and status == 200)

    @property
    def now(self) -> float:
        return time.monotonic() - self._started

    async def run(self, stop: asyncio.Event) -> None:
        self._started = time.monotonic()
        async with asyncio.TaskGroup() as group:
            number = 0
            while not stop.is_set():
                number += 1
                group.create_task(self._one(), name="request")
                await asyncio.sleep(max(0.0, number / self.rate - self.now))
        for _, writer in self._idle:
            writer.close()

    async def _one(self) -> None:
        at = self.now
        self.begun.append(at)
        try:
            async with asyncio.timeout(30):
                if self._idle:
                    reader, writer = self._idle.pop()
                else:
                    host, _, port = self.address.rpartition(":")
                    reader, writer = await asyncio.open_connection(host, int(port))
                status, body = await exchange(reader, writer, self.authority, "/", self.method)
            self._idle.append((reader, writer))
            self.answers.append((at, self.now - at, status, body))
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            self.errors.append(f"{at:.2f} {type(error).__name__} {error}")


@asynccontextmanager
async def loaded(load: Load) -> AsyncIterator[Load]:
    """The load runs while the context is open; at its end every request has had its answer."""
    stop = asyncio.Event()
    task = asyncio.create_task(load.run(stop), name="load")
    try:
        yield load
    finally:
        stop.set()
        await task
