"""DNS A queries over UDP, from RFC 1035 alone: the server is not checked by its own parser."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import cast

from isthmus.errors import WireError

TYPE_A = 1
NO_ERROR = 0


def encode_query(ident: int, name: str) -> bytes:
    """A query for the A records of `name`, recursion not desired."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.rstrip(".").split("."))
    return struct.pack("!6H", ident, 0, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!2H", TYPE_A, 1)


def decode_answer(data: bytes) -> tuple[int, int, tuple[str, ...]]:
    """(id, response code, IPv4 addresses) of a response; WireError when it is not one."""
    try:
        ident, flags, questions, answers, _, _ = struct.unpack_from("!6H", data)
        if not flags & 0x8000:
            raise WireError("not a DNS response")
        at = 12
        for _ in range(questions):
            at = _skip_name(data, at) + 4
        addresses = []
        for _ in range(answers):
            at = _skip_name(data, at)
            kind, _, _, length = struct.unpack_from("!2HIH", data, at)
            at += 10
            if at + length > len(data):
                raise WireError("record cut short")
            if kind == TYPE_A and length == 4:
                addresses.append(socket.inet_ntoa(data[at : at + 4]))
            at += length
    except (struct.error, IndexError) as error:
        raise WireError("DNS response cut short") from error
    return ident, flags & 15, tuple(addresses)


def _skip_name(data: bytes, at: int) -> int:
    while True:
        length = data[at]
        if length >= 0xC0:
            return at + 2
        at += 1 + length
        if length == 0:
            return at


class DnsCaller(asyncio.DatagramProtocol):
    """A UDP socket connected to one server; queries are matched to answers by their ids."""

    def __init__(self) -> None:
        self._transport: asyncio.DatagramTransport | None = None
        self._waiting: dict[int, asyncio.Future[tuple[int, tuple[str, ...]]]] = {}
        self._next = 0
        self._closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not every loop's transport is a subclass of the one that it is.
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        try:
            ident, code, addresses = decode_answer(data)
        except WireError:
            return
        waiting = self._waiting.pop(ident, None)
        if waiting is not None and not waiting.done():
            waiting.set_result((code, addresses))

    def error_received(self, exc: Exception) -> None:
        """A refused port shows as a query that is not answered."""

    async def ask(self, name: str, timeout: float) -> tuple[int, tuple[str, ...]]:
        """(response code, addresses); TimeoutError after `timeout` seconds without an answer."""
        assert self._transport is not None
        self._next = (self._next + 1) & 0xFFFF
        ident = self._next
        waiting: asyncio.Future[tuple[int, tuple[str, ...]]] = asyncio.get_running_loop().create_future()
        self._waiting[ident] = waiting
        try:
            self._transport.sendto(encode_query(ident, name))
            async with asyncio.timeout(timeout):
                return await waiting
        finally:
            self._waiting.pop(ident, None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._closed.done():
            self._closed.set_result(None)

    async def close(self) -> None:
        """Close the socket; it is closed when this returns."""
        if self._transport is not None:
            self._transport.close()
            await self._closed


async def dns_caller(address: str, port: int) -> DnsCaller:
    _, caller = await asyncio.get_running_loop().create_datagram_endpoint(
        DnsCaller, remote_addr=(address, port)
    )
    return caller
