"""Draws by real clients, and how far what they drew may be from a plan."""

from __future__ import annotations

import asyncio
import math
import re
from collections import Counter
from collections.abc import Mapping

DRAWS = 20_000
_HEAD = re.compile(rb"HTTP/1\.1 (\d{3}).*?\r\ncontent-length: (\d+)\r\n.*?\r\n\r\n", re.DOTALL)


def within_bound(seen: Mapping[str, int], shares: Mapping[str, int], case: str = "") -> None:
    """Property 8 of traffic-semantics, section 6. `shares` in basis points."""
    count = sum(seen.values())
    assert set(seen) <= set(shares), (case, seen)
    for place, points in shares.items():
        p = points / 10_000
        bound = 5 * math.sqrt(p * (1 - p) / count) + 0.002
        assert abs(seen.get(place, 0) / count - p) <= bound, (case, place, seen, shares)


async def drawn(
    address: str, authority: str = "web.shop", count: int = DRAWS, *, connections: int = 8, row: int = 50
) -> Counter[str]:
    """Who answered `count` requests: names by how often, and statuses other than 200.

    Requests are written `row` at a time on each of a few kept connections (HTTP/1.1 pipelining).
    """
    assert count % (connections * row) == 0
    requests = f"GET / HTTP/1.1\r\nhost: {authority}\r\n\r\n".encode() * row
    seen: Counter[str] = Counter()

    async def caller() -> None:
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        for _ in range(count // connections // row):
            writer.write(requests)
            data, found = b"", 0
            while found < row:
                more = await reader.read(1 << 18)
                assert more, "the connection has ended"
                data += more
                names, data = _answers(data)
                seen.update(names)
                found += len(names)
        writer.close()
        await writer.wait_closed()

    async with asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(caller(), name="caller")
    return seen


def _answers(data: bytes) -> tuple[list[str], bytes]:
    """Names (or statuses) of all whole answers, and what is left behind them."""
    names, at = [], 0
    while (head := _HEAD.match(data, at)) is not None:
        end = head.end() + int(head[2])
        if end > len(data):
            break
        body, status = data[head.end() : end].decode(), head[1].decode()
        names.append(body if status == "200" else status)
        at = end
    return names, data[at:]
