"""A program of callers, started as a bed starts it, and all that it says."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
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


async def called(folder: Path, errand: Errand, due: int, program: Sequence[str] = ()) -> list[Sample]:
    """What its calls saw, all of them; it is told to stop when it has told of `due` calls."""
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
    rows: list[Sample] = []
    async with asyncio.timeout(180):
        assert await process.stdout.readline() == b"ready\n"
        process.stdin.write(msgspec.json.encode(Orders(())) + b"\n")
        async for line in process.stdout:
            rows.append(msgspec.json.decode(line, type=Sample))
            if len(rows) == due:
                process.stdin.close()
        await process.wait()
    assert process.returncode == 0
    return rows
