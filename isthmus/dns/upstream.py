"""One question to one server, its reply back: how other zones are asked about (RFC 5452, 5625, 7766).

Invariant: a reply over UDP is taken only from the address that was asked, at a port and with a number drawn
anew for each question, and only if it repeats the question letter by letter, whose case is drawn by chance
too (0x20). A server that changes letters, or whose place somebody seems to guess at, is asked over TCP.
"""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import closing
from typing import Final, NamedTuple

from isthmus.dns import wire

_MOST_STRAYS: Final = 8
_UDP_BYTES: Final = 1 << 16
_FRAME: Final = 2


class Place(NamedTuple):
    """Where a server listens: a literal address and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class UnfitReplyError(Exception):
    """What came over UDP is no reply to the question, or not all of it: TCP may do better."""


def asked_anew(query: bytes, end: int) -> bytes:
    """A query with a number, and a case of each letter of its name, of its own; `end` is that of the name."""
    chance = int.from_bytes(os.urandom(2 + (end - wire.HEADER_SIZE + 7) // 8))
    made = bytearray(query)
    made[:2] = (chance & 0xFFFF).to_bytes(2)
    chance >>= 16
    for at in range(wire.HEADER_SIZE, end):
        # Lengths of labels are below the letters: no more than 63.
        if chance & 1 and (0x41 <= made[at] <= 0x5A or 0x61 <= made[at] <= 0x7A):
            made[at] ^= 0x20
        chance >>= 1
    return bytes(made)


def answered(reply: bytes, query: bytes, end: int) -> bytes:
    """A reply in the words of the query: its number, and its question as it was spelled."""
    return query[:2] + reply[2 : wire.HEADER_SIZE] + query[wire.HEADER_SIZE : end] + reply[end:]


async def over_udp(place: Place, query: bytes, end: int) -> bytes:
    """The reply; `end` is that of the question's name. OSError where nobody listens; it does not time out."""
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in place.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        sock.connect(place)  # the kernel chooses the port by chance, and drops what others send
        await loop.sock_sendall(sock, query)
        for _ in range(_MOST_STRAYS):
            reply = await loop.sock_recv(sock, _UDP_BYTES)
            if is_reply(reply, query, end):
                return reply
            if is_reply(reply, query, end, fold=True):
                break
    raise UnfitReplyError


async def over_tcp(place: Place, query: bytes, end: int) -> bytes:
    """The reply over a connection of its own; OSError where there is none."""
    reader, writer = await asyncio.open_connection(*place)
    with closing(writer):
        writer.write(len(query).to_bytes(_FRAME) + query)
        try:
            size = int.from_bytes(await reader.readexactly(_FRAME))
            reply = await reader.readexactly(size)
        except asyncio.IncompleteReadError as error:
            raise ConnectionResetError(f"{place} ended the connection") from error
    if not is_reply(reply, query, end, fold=True):
        raise ConnectionResetError(f"{place} answered another question")
    return reply


def is_reply(reply: bytes, query: bytes, end: int, *, fold: bool = False) -> bool:
    """Whether a message answers a query that it repeats; with `fold` in letters of any case."""
    stop = end + 4
    if len(reply) < stop or reply[:2] != query[:2] or not reply[2] & 0x80 or reply[2] & 0x78:
        return False
    if reply[4:6] != b"\x00\x01" or reply[end:stop] != query[end:stop]:
        return False
    theirs, ours = reply[wire.HEADER_SIZE : end], query[wire.HEADER_SIZE : end]
    return theirs.lower() == ours.lower() if fold else theirs == ours
