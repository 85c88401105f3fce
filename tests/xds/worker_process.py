"""A worker in a process of its own, fed over its Unix socket as control feeds it."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from http_load import until
from xds_harness import Rows

from isthmus.flow.replica import Publisher
from isthmus.flow.stats import STATS
from isthmus.flow.table import Table
from isthmus.xds.proxies import LOOKS, PROXIES
from loadtests.ports import free_port

ROOT = Path(__file__).parents[2]
WORKER = """
import asyncio, sys
from pathlib import Path
from isthmus.model.names import ClusterId
from isthmus.xds import worker
options = worker.Options(name="xds-0", cluster=ClusterId("eu-1"), listen=sys.argv[2])
asyncio.run(worker.run(options, Path(sys.argv[1])))
"""


@asynccontextmanager
async def worker(rows: Rows, folder: Path) -> AsyncIterator[str]:
    """A worker process that serves the rows; gives its address."""
    link, address = folder / "link", f"127.0.0.1:{free_port()}"
    looks: Table[str, bytes] = Table(LOOKS)
    looks.partition("nobody").replace({})
    heard = {"wants": rows.wants, STATS: Table(STATS), PROXIES: Table(PROXIES)}
    publisher = Publisher(link, {"xds": rows.table, LOOKS: looks}, heard)
    published = asyncio.create_task(publisher.run(), name="publisher")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", WORKER, str(link), address),
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )

    async def listening() -> bool:
        try:
            _, writer = await asyncio.open_connection(*address.split(":"))
        except OSError:
            return False
        writer.close()
        return True

    try:
        await until(listening, "the worker listens", 60)
        yield address
    finally:
        process.terminate()
        await process.wait()
        published.cancel()
        await asyncio.wait([published])
