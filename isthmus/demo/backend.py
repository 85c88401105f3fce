"""All pods of one cluster in one process: `python -m isthmus.demo.backend FILE`.

FILE is JSON: the cluster's name and what to listen on. HTTP ports answer every request with the names of
cluster and pod, in headers `x-cluster` and `x-pod` and as JSON, HTTPS ports the same within TLS, by a
certificate that nobody signed. gRPC ports answer HTTP/1.1 likewise and hand who speaks HTTP/2 to a gRPC
server with the standard health service. The others echo.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import signal
import socket
import ssl
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import msgspec

MAX_HEAD_BYTES = 64 << 10
MAX_ECHO_BUFFER = 256 << 10
HTTP2 = b"PRI * HTTP/2.0\r\n"

Speech = Literal["echo", "http", "grpc", "https"]
"""What a port answers: gRPC ports answer HTTP/1.1 as well."""


class Listen(msgspec.Struct, frozen=True):
    address: str
    port: int
    speech: Speech
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
    """HTTP/1.1 with keep-alive and pipelining; a request's body is read and dropped.

    Who begins as HTTP/2 does is handed to the gRPC server at the Unix socket `rpc`, if there is one.
    """

    def __init__(self, connections: set[asyncio.Transport], answer: bytes, rpc: str = "") -> None:
        super().__init__(connections)
        self._answer = answer
        self._buffer = b""
        self._body = 0
        self._rpc = rpc
        self._through: _Through | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._through is not None:
            self._through.end()

    def data_received(self, data: bytes) -> None:
        if self._through is not None:
            self._through.send(data)
            return
        transport = self._transport
        data = self._buffer + data
        if self._rpc and data.startswith(HTTP2[: len(data)]):
            self._buffer = data
            if len(data) >= len(HTTP2):
                self._through = _Through(transport, self._rpc, data)
            return
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


class _Through(asyncio.Protocol):
    """The other half of a connection that somebody else answers."""

    def __init__(self, caller: asyncio.Transport, path: str, first: bytes) -> None:
        self._caller = caller
        self._unsent = first
        self._server: asyncio.Transport | None = None
        self._ended = False
        self._dialling = asyncio.get_running_loop().create_task(self._dial(path), name="grpc-pod")

    async def _dial(self, path: str) -> None:
        try:
            await asyncio.get_running_loop().create_unix_connection(lambda: self, path)
        except OSError:  # it is not there yet
            self._caller.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._server = transport
        if self._ended:
            transport.abort()
        else:
            transport.write(self._unsent)

    def data_received(self, data: bytes) -> None:
        self._caller.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._caller.close()

    def send(self, data: bytes) -> None:
        if self._server is None:
            self._unsent += data
        else:
            self._server.write(data)

    def end(self) -> None:
        self._ended = True
        if self._server is not None:
            self._server.abort()


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
        self._rpc = f"\0isthmus-demo-pods-{os.getpid()}-{id(self):x}"
        """Of the gRPC server, a name without a file."""
        self._rpc_server: Any = None

    async def listen(self, config: BackendConfig) -> None:
        """Accept connections everywhere; OSError when an address cannot be had."""
        loop = asyncio.get_running_loop()
        speech = {listen.speech for listen in config.listen}
        tls: ssl.SSLContext | None = None
        if "https" in speech:  # most manifests have none, and cryptography takes a while
            tls = (await asyncio.to_thread(importlib.import_module, "isthmus.demo.selfsigned")).context()
        for listen in config.listen:
            sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((listen.address, listen.port))
            if listen.speech == "echo":
                factory: Callable[[], _Pod] = partial(EchoPod, self._connections)
            else:
                answer = http_answer(config.cluster, listen.pod)
                rpc = self._rpc if listen.speech == "grpc" else ""
                factory = partial(HttpPod, self._connections, answer, rpc)
            context = tls if listen.speech == "https" else None
            self._servers.append(await loop.create_server(factory, sock=sock, backlog=512, ssl=context))
        if "grpc" in speech:
            made = await asyncio.to_thread(importlib.import_module, "isthmus.demo.rpc")
            self._rpc_server = await made.serve(self._rpc, config.cluster)

    async def close(self) -> None:
        """Stop listening and cut all connections; they are gone when this returns."""
        for server in self._servers:
            server.close()
        for transport in list(self._connections):
            transport.abort()
        if self._rpc_server is not None:
            await self._rpc_server.stop(None)
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
