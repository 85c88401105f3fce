"""What was freed between things that are still used does not stay with the process."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from isthmus.agent import freed

HEAP = freed.Heap.own()
PIECE, PIECES = 3_000, 20_000

pytestmark = pytest.mark.skipif(HEAP is None, reason="the C library is not glibc 2.33 or newer")


def resident() -> int:
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


async def test_what_many_objects_took_goes_back_while_some_of_them_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(freed, "EVERY_SECONDS", 0.01)
    pieces = [bytes(PIECE) for _ in range(PIECES)]
    kept = pieces[::50]
    before = resident()
    del pieces
    giving = asyncio.create_task(freed.give_back())
    async with asyncio.timeout(60):
        while before - resident() < PIECE * PIECES * 0.8:
            await asyncio.sleep(0.01)
    giving.cancel()
    assert len(kept) == PIECES // 50


async def test_nothing_is_done_where_little_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = 0

    class Little(freed.Heap):
        def free(self) -> tuple[int, int]:
            nonlocal looked
            looked += 1
            return freed.LEAST_BYTES, 1 << 30

        def trim(self) -> None:
            pytest.fail("a walk through the heap for nothing")

    monkeypatch.setattr(freed, "EVERY_SECONDS", 0.001)
    monkeypatch.setattr(freed.Heap, "own", lambda: Little(None))
    giving = asyncio.create_task(freed.give_back())
    async with asyncio.timeout(60):
        while looked < 3:
            await asyncio.sleep(0.001)
    giving.cancel()
