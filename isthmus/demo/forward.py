"""Doors out of the namespace: sockets made outside, served inside.

A socket belongs to the namespace that it was made in. The outer process listens on 127.0.0.1 and hands the
sockets down; the inner one accepts on them and connects to addresses that only exist inside.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from typing import cast

import msgspec

MAX_UDP_CLIENTS = 256
_CHUNK = 64 << 10
_CONNECT_TIMEOUT = 5.0


class Door(msgspec.Struct, frozen=True):
    """One forwarded place; `tcp` and `udp` are file descriptors, `udp` -1 where only TCP is forwarded."""

    name: str
    inside: tuple[str, int]
    outside: tuple[str, int]
    tcp: int
    udp: int = -1


def open_doors(places: Sequence[tuple[str, tuple[str, int], bool]]) -> tuple[list[Door], list[socket.socket]]:
    """Listen on a free port of 127.0.0.1 for each (name, inside address, whether UDP too).

    The sockets must be kept until they are handed down by their numbers.
    """
    doors: list[Door] = []
    sockets: list[socket.socket] = []
    for name, inside, with_udp in places:
        tcp, udp = _pair() if with_udp else (_bound(socket.SOCK_STREAM, 0), None)
        tcp.listen(64)
        sockets.append(tcp)
        if udp is not None:
            sockets.append(udp)
        doors.append(
            Door(
                name=name,
                inside=inside,
                outside=tcp.getsockname(),
                tcp=tcp.fileno(),
                udp=-1 if udp is None else udp.fileno(),
            )
        )
    return doors, sockets


def _bound(kind: socket.SocketKind, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, kind)
    try:
        sock.bind(("127.0.0.1", port))
    except OSError:
        sock.close()
        raise
    return sock


def _pair() -> tuple[socket.socket, socket.socket]:
    """A TCP and a UDP socket with the same free port."""
    for _ in range(50):
        udp = _bound(socket.SOCK_DGRAM, 0)
        try:
            return _bound(socket.SOCK_STREAM, udp.getsockname()[1]), udp
        except OSError:
            udp.close()
    raise OSError("no port of 127.0.0.1 is free for both TCP and UDP")


async def serve_doors(doors: Sequence[Door]) -> None:
    """Inside: forward until cancelled; takes over the sockets."""
    async with contextlib.AsyncExitStack() as stack:
        for door in doors:
            sock = socket.socket(fileno=door.tcp)
            sock.setblocking(False)
            server = await asyncio.start_server(_Tcp(door.inside).accept, sock=sock)
            stack.callback(server.close)
            if door.udp >= 0:
                udp = socket.socket(fileno=door.udp)
                udp.setblocking(False)
                _, relay = await asyncio.get_running_loop().create_datagram_endpoint(
                    partial(_UdpDoor, door.inside), sock=udp
                )
                stack.callback(relay.close)
        await asyncio.Event().wait()


class _Tcp:
    def __init__(self, inside: tuple[str, int]) -> None:
        self._inside = inside

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Join one outside connection with one inside; either end closing closes both."""
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT):
                inner_reader, inner_writer = await asyncio.open_connection(*self._inside)
        except (OSError, TimeoutError):
            writer.close()
            return
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_pump(reader, inner_writer), name="forward-in")
                group.create_task(_pump(inner_reader, writer), name="forward-out")
        except* OSError:
            pass
        finally:
            inner_writer.close()
            writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(_CHUNK):
        writer.write(chunk)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


class _UdpDoor(asyncio.DatagramProtocol):
    """Keeps a socket inside per client outside; the one longest unused gives way."""

    def __init__(self, inside: tuple[str, int]) -> None:
        self._inside = inside
        self._clients: OrderedDict[tuple[str, int], socket.socket] = OrderedDict()
        self._transport: asyncio.DatagramTransport | None = None
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not every loop's transport is a subclass of the one that it is.
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        client = self._clients.get(addr)
        if client is None:
            client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            client.connect(self._inside)
            self._clients[addr] = client
            self._loop.add_reader(client, self._answer, client, addr)
            if len(self._clients) > MAX_UDP_CLIENTS:
                self._forget(next(iter(self._clients)))
        self._clients.move_to_end(addr)
        with contextlib.suppress(OSError):
            client.send(data)

    def _answer(self, client: socket.socket, addr: tuple[str, int]) -> None:
        try:
            data = client.recv(_CHUNK)
        except OSError:
            return
        if self._transport is not None:
            self._transport.sendto(data, addr)

    def _forget(self, addr: tuple[str, int]) -> None:
        client = self._clients.pop(addr)
        self._loop.remove_reader(client)
        client.close()

    def close(self) -> None:
        for addr in list(self._clients):
            self._forget(addr)
        if self._transport is not None:
            self._transport.close()
