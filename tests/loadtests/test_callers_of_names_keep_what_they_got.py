"""Callers of names ask from an address for each host, over UDP and TCP, and keep an answer for its TTL."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import dns.message
import dns.rrset
import pytest
from calling import called, place

from loadtests.load.errand import Errand

HOSTS = ("127.66.0.1", "127.66.0.2", "127.66.0.3")
NOBODY = "127.66.99.99"
"""Where names lead to: nobody listens there."""
DUE = 180


class Names(asyncio.DatagramProtocol):
    """Answers every question with one address; counts who asked, by protocol."""

    def __init__(self) -> None:
        self.asked: Counter[tuple[str, str]] = Counter()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.asked["udp", addr[0]] += 1
        self._transport.sendto(_answer(data), addr)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked["tcp", writer.get_extra_info("peername")[0]] += 1
        size = int.from_bytes(await reader.readexactly(2))
        answer = _answer(await reader.readexactly(size))
        writer.write(len(answer).to_bytes(2) + answer)
        writer.close()
        await writer.wait_closed()


def _answer(data: bytes) -> bytes:
    answer = dns.message.make_response(dns.message.from_wire(data))
    answer.answer.append(dns.rrset.from_text(answer.question[0].name, 600, "IN", "A", NOBODY))
    return answer.to_wire()


@asynccontextmanager
async def name_server() -> AsyncIterator[tuple[Names, int]]:
    names, loop = Names(), asyncio.get_running_loop()
    server = await asyncio.start_server(names.serve, "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    transport, _ = await loop.create_datagram_endpoint(lambda: names, local_addr=("127.0.0.1", port))
    try:
        yield names, port
    finally:
        transport.close()
        server.close()
        await server.wait_closed()


@pytest.mark.parametrize(("door", "protocol"), [("dns-udp", "udp"), ("dns-tcp", "tcp")])
async def test_each_host_asks_for_itself_and_keeps_the_answer(
    tmp_path: Path, door: str, protocol: str
) -> None:
    async with name_server() as (names, port):
        where = place(dns=("127.0.0.1", port), hosts=HOSTS)
        seen = await called(tmp_path, Errand(program="dns", places=(where,), rates={door: 60.0}), DUE)
    assert {(row.door, row.caller) for row in seen} == {(door, "eu-1")}
    assert {row.why for row in seen} == {"stale answer: Connection refused"}, "nobody is there"
    assert set(names.asked) == {(protocol, host) for host in HOSTS}
    # An answer is good for minutes here; only calls that begin while the first question is open ask as well.
    assert names.asked.total() < DUE / 2
