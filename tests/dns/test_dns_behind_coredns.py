"""A real CoreDNS with the block that `isthmus dns corefile` prints, in front of a worker."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import dns.asyncquery
import dns.exception
import dns.flags
import dns.message
import dns.rcode
import pytest
from dnslive import DEADLINE, SVC, worker
from typer.testing import CliRunner

from isthmus.cli.main import app

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "isthmus"
BUILT = sorted(CACHE.glob("*/bin/coredns"))
COREDNS = shutil.which("coredns") or (str(BUILT[-1]) if BUILT else "")

pytestmark = pytest.mark.skipif(
    not COREDNS, reason="no coredns: put it on PATH, or run tools/real_clusters.sh"
)


def block(server: str, *more: str) -> str:
    ran = CliRunner().invoke(app, ["dns", "corefile", "--server", server, *more])
    assert ran.exit_code == 0, ran.output
    return ran.stdout


@asynccontextmanager
async def coredns(text: str, folder: Path) -> AsyncIterator[int]:
    """CoreDNS on a free port of 127.0.0.1, its metrics on another; else as the block says."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    if "bind" not in text:
        text = text.replace("    errors\n", "    errors\n    bind 127.0.0.1\n")
    text = text.replace(".local:53 {", f".local:{port} {{")
    text = text.replace("prometheus :9153", "prometheus 127.0.0.1:0").replace(":9253", "127.0.0.1:0")
    (folder / "Corefile").write_text(text)
    process = await asyncio.create_subprocess_exec(
        COREDNS, "-conf", str(folder / "Corefile"), stdout=asyncio.subprocess.DEVNULL
    )
    try:
        yield port
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def ask(port: int, name: str, rtype: str = "A", *, tcp: bool = False) -> dns.message.Message:
    asked = dns.message.make_query(name, rtype, use_edns=0)
    async with asyncio.timeout(DEADLINE):
        while True:
            with suppress(OSError, EOFError, dns.exception.Timeout):
                if tcp:
                    return await dns.asyncquery.tcp(asked, "127.0.0.1", port=port, timeout=1)
                return await dns.asyncquery.udp(asked, "127.0.0.1", port=port, timeout=1)
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    "more", [(), ("--for", "nodelocal", "--bind", "127.0.0.1")], ids=["coredns", "nodelocal"]
)
async def test_a_cluster_that_forwards_the_zone_finds_its_names(
    make: Any, tmp_path: Path, more: tuple[str, ...]
) -> None:
    async with (
        worker(make) as live,
        coredns(block(f"{live.where.host}:{live.where.port}", *more), tmp_path) as port,
    ):
        for tcp in (False, True):
            reply = await ask(port, SVC, tcp=tcp)
            assert (reply.rcode(), reply.answer[0][0].to_text()) == (dns.rcode.NOERROR, "10.96.0.10")
            assert reply.answer[0].ttl <= 5
            reply = await ask(port, f"nope.{SVC}", tcp=tcp)
            assert (reply.rcode(), len(reply.authority)) == (dns.rcode.NXDOMAIN, 1)
            reply = await ask(port, SVC, "AAAA", tcp=tcp)
            assert (reply.rcode(), len(reply.answer), len(reply.authority)) == (dns.rcode.NOERROR, 0, 1)
        assert (await ask(port, f"_http._tcp.{SVC}", "SRV")).answer[0][0].port == 80
        live.put("shop/late", "10.96.0.11")
        async with asyncio.timeout(DEADLINE):  # its denial may be kept for the SOA's 5 s
            while not (await ask(port, "late.shop.svc.clusterset.local")).answer:
                await asyncio.sleep(0.1)
