"""A program of callers, started as a bed starts it, and all that it says."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from loadtests.load.errand import Errand, Orders, Place
from loadtests.load.ground import PODS
from loadtests.load.samples import Sample

ROOT = Path(__file__).resolve().parents[2]
NOWHERE = ("127.0.0.1", 1)


def place(
    *,
    envoy: tuple[str, int] = NOWHERE,
    dns: tuple[str, int] = NOWHERE,
    xds: tuple[str, int] = NOWHERE,
    hosts: tuple[str, ...] = ("127.0.0.1",),
) -> Place:
    return Place(
        cluster="eu-1", region="eu", zone="eu-1a", envoy=envoy, dns=dns, xds=xds, hosts=hosts, pods=PODS
    )


@asynccontextmanager
async def calling(
    folder: Path, errand: Errand, program: Sequence[str] = ()
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Callers that call until their stdin is closed; leaving waits for their end."""
    file = folder / "errand.json"
    file.write_bytes(msgspec.json.encode(errand))
    command = program or ("-m", f"loadtests.load.callers.{errand.program}")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *command, str(file)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    async with asyncio.timeout(180):
        assert await process.stdout.readline() == b"ready\n"
        process.stdin.write(msgspec.json.encode(Orders(())) + b"\n")
        yield process
        assert await process.wait() == 0


async def told(process: asyncio.subprocess.Process, due: int = 0) -> list[Sample]:
    """What all its calls saw, to its end; it is told to stop when it has told of `due` calls."""
    assert process.stdin is not None
    assert process.stdout is not None
    rows: list[Sample] = []
    async for line in process.stdout:
        rows.append(msgspec.json.decode(line, type=Sample))
        if len(rows) == due:
            process.stdin.close()
    return rows


async def called(folder: Path, errand: Errand, due: int, program: Sequence[str] = ()) -> list[Sample]:
    """What its calls saw, all of them; it is told to stop when it has told of `due` calls."""
    async with calling(folder, errand, program) as process:
        return await told(process, due)
