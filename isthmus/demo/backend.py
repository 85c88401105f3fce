"""All pods of one cluster in one process: `python -m isthmus.demo.backend FILE`.

FILE is JSON: the cluster's name and what to listen on. HTTP ports answer every request with the names of
cluster and pod, in headers `x-cluster` and `x-pod` and as JSON; the others echo.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec

MAX_HEAD_BYTES = 64 << 10
MAX_ECHO_BUFFER = 256 << 10


class Listen(msgspec.Struct, frozen=True):
    address: str
    port: int
    http: bool
    pod: str


class BackendConfig(msgspec.Struct, frozen=True):
    cluster: str
    listen: list[Listen]


class _Pod(asyncio.Protocol):
    """A connection that stands in `connections` while it is open."""

    def __init__(self, connections: set[asyncio.Transport]) -> None:
        self._connections = connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._connections.add(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self._transport)


class HttpPod(_Pod):
    """HTTP/1.1 with keep-alive and pipelining; a request's body is read and dropped."""

    def __init__(self, connections: set[asyncio.Transport], answer: bytes) -> None:
        super().__init__(connections)
        self._answer = answer
        self._buffer = b""
        self._body = 0

    def data_received(self, data: bytes) -> None:
        transport = self._transport
        data = self._buffer + data
        while data:
            if self._body:
                used = min(self._body, len(data))
                self._body -= used
                data = data[used:]
                continue
            end = data.find(b"\r\n\r\n")
            if end < 0:
                if len(data) > MAX_HEAD_BYTES:
                    transport.abort()
                    return
                break
            head, data = data[:end], data[end + 4 :]
            self._body = _content_length(head)
            if self._body < 0:
                transport.write(
                    b"HTTP/1.1 411 Length Required\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
                )
                transport.close()
                return
            transport.write(self._answer)
        self._buffer = data


def _content_length(head: bytes) -> int:
    """Bytes of the body that follows this request head; -1 when it does not say in a way we read."""
    length = 0
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        match name.strip().lower():
            case b"content-length":
                length = int(value) if value.strip().isdigit() else -1
            case b"transfer-encoding":
                return -1
    return length


class EchoPod(_Pod):
    """Sends back what it gets; a peer that does not read is not read from."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._transport.set_write_buffer_limits(high=MAX_ECHO_BUFFER)

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)

    def pause_writing(self) -> None:
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._transport.resume_reading()


def http_answer(cluster: str, pod: str) -> bytes:
    """The whole response of a pod, the same for every request."""
    body = msgspec.json.encode({"cluster": cluster, "pod": pod}) + b"\n"
    head = (
        f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        f"x-cluster: {cluster}\r\nx-pod: {pod}\r\n\r\n"
    )
    return head.encode() + body


class Pods:
    """Everything that listens in this process."""

    def __init__(self) -> None:
        self._servers: list[asyncio.Server] = []
        self._connections: set[asyncio.Transport] = set()

    async def listen(self, config: BackendConfig) -> None:
        """Accept connections everywhere; OSError when an address cannot be had."""
        loop = asyncio.get_running_loop()
        for listen in config.listen:
            sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((listen.address, listen.port))
            if listen.http:
                answer = http_answer(config.cluster, listen.pod)
                factory: Callable[[], _Pod] = partial(HttpPod, self._connections, answer)
            else:
                factory = partial(EchoPod, self._connections)
            self._servers.append(await loop.create_server(factory, sock=sock, backlog=512))

    async def close(self) -> None:
        """Stop listening and cut all connections; they are gone when this returns."""
        for server in self._servers:
            server.close()
        for transport in list(self._connections):
            transport.abort()
        await asyncio.sleep(0)  # the loop tells the transports' ends in its next round


async def _run(config: BackendConfig) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    pods = Pods()
    await pods.listen(config)
    await stop.wait()
    await pods.close()


def main() -> None:
    config = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=BackendConfig)
    asyncio.run(_run(config))


if __name__ == "__main__":
    main()
