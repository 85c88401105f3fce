"""A real CoreDNS for a test; `make tools` builds it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import dns.asyncquery
import dns.exception
import dns.message
from dnslive import DEADLINE

sys.path.append(str(Path(__file__).parents[1] / "realapi"))  # test folders are not packages
sys.path.append(str(Path(__file__).parents[1] / "agent"))

from control_plane_binaries import binaries


@asynccontextmanager
async def coredns(corefile: str, folder: Path) -> AsyncIterator[None]:
    """CoreDNS with that configuration, ended with the block."""
    (folder / "Corefile").write_text(corefile)
    with (folder / "coredns.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            binaries("coredns")["coredns"], "-conf", str(folder / "Corefile"), stdout=log, stderr=log
        )
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def ask(
    port: int, name: str, rtype: str = "A", *, tcp: bool = False, use_edns: int = 0
) -> dns.message.Message:
    """The reply of whoever stands there, asked for anew until there is one."""
    asked = dns.message.make_query(name, rtype, use_edns=use_edns)
    async with asyncio.timeout(DEADLINE):
        while True:
            with suppress(OSError, EOFError, dns.exception.Timeout):
                if tcp:
                    return await dns.asyncquery.tcp(asked, "127.0.0.1", port=port, timeout=1)
                return await dns.asyncquery.udp(asked, "127.0.0.1", port=port, timeout=1)
            await asyncio.sleep(0.02)
