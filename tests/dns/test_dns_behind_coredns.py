"""A real CoreDNS with the block that `isthmus dns corefile` prints, in front of a worker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import dns.rcode
import pytest
from corednslive import ask, coredns
from dnslive import DEADLINE, SVC, worker
from typer.testing import CliRunner

from isthmus.cli.main import app
from loadtests.ports import free_port

pytestmark = pytest.mark.realapi("coredns")


def block(server: str, *more: str) -> str:
    ran = CliRunner().invoke(app, ["dns", "corefile", "--server", server, *more])
    assert ran.exit_code == 0, ran.output
    return ran.stdout


@asynccontextmanager
async def forwarding(text: str, folder: Path) -> AsyncIterator[int]:
    """CoreDNS on a free port of 127.0.0.1, its metrics on another; else as the block says."""
    port = free_port()
    if "bind" not in text:
        text = text.replace("    errors\n", "    errors\n    bind 127.0.0.1\n")
    text = text.replace(".local:53 {", f".local:{port} {{")
    text = text.replace("prometheus :9153", "prometheus 127.0.0.1:0").replace(":9253", "127.0.0.1:0")
    async with coredns(text, folder):
        yield port


@pytest.mark.parametrize(
    "more", [(), ("--for", "nodelocal", "--bind", "127.0.0.1")], ids=["coredns", "nodelocal"]
)
async def test_a_cluster_that_forwards_the_zone_finds_its_names(
    make: Any, tmp_path: Path, more: tuple[str, ...]
) -> None:
    async with (
        worker(make) as live,
        forwarding(block(f"{live.where.host}:{live.where.port}", *more), tmp_path) as port,
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
