"""Broken packets and lying streams over real sockets: each has its outcome, and the next caller an answer."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any

import dns.message
import dns.rcode
import pytest
from dnslive import DEADLINE, SVC, worker

pytestmark = pytest.mark.usefixtures("path")

GOOD = dns.message.make_query(SVC, "A", id=4711).to_wire()
NAME = GOOD[12:-4]
A_IN = GOOD[-4:]
OPT = b"\x00\x00\x29\x10\x00\x00\x00\x00\x00\x00\x00"
DROPPED = None
FORMERR, NOTIMP, REFUSED = dns.rcode.FORMERR, dns.rcode.NOTIMP, dns.rcode.REFUSED


def query(body: bytes = NAME + A_IN, *, bits: int = 0x0100, qd: int = 1, ar: int = 0) -> bytes:
    return struct.pack("!6H", 0xBEEF, bits, qd, 0, 0, ar) + body


def label(size: int) -> bytes:
    return bytes((size,)) + b"a" * size


BAD: dict[str, tuple[bytes, dns.rcode.Rcode | None]] = {
    "empty": (b"", DROPPED),
    "eleven bytes": (query()[:11], DROPPED),
    "a reply": (query(bits=0x8180), DROPPED),
    "a reply that claims an error": (query(bits=0x8183), DROPPED),
    "no question": (query(b"", qd=0), FORMERR),
    "two questions": (query(NAME + A_IN + NAME + A_IN, qd=2), FORMERR),
    "65535 questions": (query(qd=0xFFFF), FORMERR),
    "a cut name": (query(NAME[:9]), FORMERR),
    "no type": (query(NAME), FORMERR),
    "a pointer to itself": (query(b"\xc0\x0c" + A_IN), FORMERR),
    "a pointer behind labels": (query(label(5) + b"\xc0\x0c" + A_IN), FORMERR),
    "a pointer forwards": (query(b"\xc0\xff" + A_IN), FORMERR),
    "a label of 64": (query(b"\x40" + b"a" * 64 + b"\x00" + A_IN), FORMERR),
    "a label of another kind": (query(b"\x80" + b"\x00" + A_IN), FORMERR),
    "a name of 256": (query(b"".join(map(label, (63, 63, 63, 62))) + b"\x00" + A_IN), FORMERR),
    "two OPT": (query(NAME + A_IN + OPT + OPT, ar=2), FORMERR),
    "an OPT with a name": (query(NAME + A_IN + label(1) + OPT, ar=1), FORMERR),
    "a cut OPT": (query(NAME + A_IN + OPT[:-1], ar=1), FORMERR),
    "a cut option": (query(NAME + A_IN + OPT[:-2] + b"\x00\x03\x00\x08\x00", ar=1), FORMERR),
    "a client subnet that lies": (
        query(NAME + A_IN + OPT[:-2] + b"\x00\x08\x00\x08\x00\x04\x00\x01\xff\x00", ar=1),
        FORMERR,
    ),
    "records that are not there": (query(ar=65535), FORMERR),
    "an unknown opcode": (query(bits=0x7800), NOTIMP),
    "a notification": (query(bits=0x2000), NOTIMP),
    "an update": (query(bits=0x2800), NOTIMP),
    "class ANY": (query(NAME + b"\x00\x01\x00\xff"), REFUSED),
    "four kilobytes of nothing": (bytes(4096), FORMERR),
    "a record that is longer than what is read": (
        query(NAME + A_IN + b"\x00\x03\xe8\x00\x01" + b"\x00" * 4 + b"\x23\x28" + bytes(9000), ar=1),
        FORMERR,
    ),
}


@pytest.mark.parametrize(("raw", "expected"), BAD.values(), ids=BAD)
async def test_a_bad_datagram_has_its_outcome_and_the_next_query_its_answer(
    make: Any, raw: bytes, expected: dns.rcode.Rcode | None
) -> None:
    loop = asyncio.get_running_loop()
    async with worker(make) as live, asyncio.timeout(DEADLINE):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as caller:
            caller.setblocking(False)
            caller.connect(live.where)
            await loop.sock_sendall(caller, raw) if raw else caller.send(raw)
            if expected is not None:
                reply = await loop.sock_recv(caller, 4096)
                assert reply[:2] == raw[:2]
                assert reply[2] & 0x80
                assert reply[3] & 0xF == expected
                assert len(reply) <= max(len(raw), 12) + 11, "nobody gets more than was sent, but for OPT"
            caller.send(GOOD)
            reply = await loop.sock_recv(caller, 4096)
            assert (reply[:2], reply[3] & 0xF, reply[7]) == (GOOD[:2], dns.rcode.NOERROR, 1)


LIES = {
    "a length of nothing": b"\x00\x00",
    "a length below a header": b"\x00\x05hello",
    "a length beyond the stream": b"\xff\xff" + GOOD,
    "a length that cuts the query": (len(GOOD) - 3).to_bytes(2, "big") + GOOD,
    "a reply": len(GOOD).to_bytes(2, "big") + query(bits=0x8180)[: len(GOOD)],
    "no DNS at all": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "half a length": b"\x00",
}


@pytest.mark.parametrize("raw", LIES.values(), ids=LIES)
async def test_a_lying_stream_ends_itself_alone(make: Any, raw: bytes) -> None:
    async with worker(make) as live, asyncio.timeout(DEADLINE):
        reader, writer = await asyncio.open_connection(*live.where)
        writer.write(raw)
        writer.write_eof()
        try:
            rest = await reader.read()
        except ConnectionResetError:
            rest = b""
        assert not rest or rest[5] & 0xF == FORMERR
        writer.close()
        assert (await live.tcp()).answer
        assert (await live.udp()).answer


async def test_streams_that_never_finish_a_query_hold_up_nobody(make: Any) -> None:
    async with worker(make) as live, asyncio.timeout(DEADLINE):
        held = [await asyncio.open_connection(*live.where) for _ in range(100)]
        for number, (_, writer) in enumerate(held):
            writer.write((len(GOOD).to_bytes(2, "big") + GOOD)[: number % 20])
        for _ in range(5):
            assert (await live.tcp()).answer
            assert (await live.udp()).answer
        for _, writer in held:
            writer.close()
