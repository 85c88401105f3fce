"""The API servers of a large world as those see them who measure: a process, orders, answers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from largeworld.layout import Layout
from largeworld.objects import TARGET

FOLDER = Path(__file__).parent


class Servers:
    """The process of the API servers, and its answers."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def ask(self, **order: Any) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        return await self.answer()

    async def answer(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(await self._process.stdout.readline())

    async def writes(self) -> Counter[str]:
        """Objects of the API servers that were changed so far, by server and resource; leases apart."""
        return await self._counts("changes")

    async def requests(self) -> Counter[str]:
        """Requests to write, whether or not they changed anything."""
        return await self._counts("requests")

    async def beats(self) -> int:
        """Writes of leases: of the heartbeat and of the writer's, which say no more than that it lives."""
        return (await self._counts("changes", leases=True)).total()

    async def _counts(self, what: str, *, leases: bool = False) -> Counter[str]:
        found = await self.ask(do="writes")
        return Counter(
            {
                f"{name.removesuffix(what)}{of}": count
                for name, one in found.items()
                if name.endswith(what)
                for of, count in one.items()
                if ("leases" in of) is leases
            }
        )


@contextlib.asynccontextmanager
async def servers(layout: Layout, kubeconfig: Path, *, joined: bool = True) -> AsyncIterator[Servers]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(FOLDER / "servers.py"), json.dumps(asdict(layout)), str(kubeconfig),
        "joined" if joined else "new",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=1 << 24,
    )  # fmt: skip
    sink = await asyncio.create_subprocess_exec(sys.executable, str(FOLDER / "sink.py"), str(TARGET))
    try:
        found = Servers(process)
        await found.answer()
        yield found
    finally:
        for one in (process, sink):
            if one.returncode is None:
                one.terminate()
            await one.wait()
