"""The worker over real sockets: dnspython and dig over UDP and TCP, limits of TCP, rows that change."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import dns.asyncquery
import dns.exception
import dns.flags
import dns.message
import dns.rcode
import pytest
from dnslive import DEADLINE, SVC, Live, options, worker

from isthmus.dns import row
from isthmus.dns.server import Listen
from isthmus.dns.tcp import TcpLimits
from isthmus.dns.worker import TABLE, run
from isthmus.errors import PlatformError
from isthmus.flow.replica import Publisher
from isthmus.flow.table import Table
from loadtests.ports import free_port

pytestmark = pytest.mark.usefixtures("path")

ROOT = Path(__file__).parents[2]


def framed(*messages: bytes) -> bytes:
    return b"".join(len(one).to_bytes(2, "big") + one for one in messages)


async def read_frame(reader: asyncio.StreamReader) -> dns.message.Message:
    size = int.from_bytes(await reader.readexactly(2), "big")
    return dns.message.from_wire(await reader.readexactly(size))


async def test_dnspython_gets_the_same_answer_over_udp_and_tcp(make: Any) -> None:
    async with worker(make) as live:
        for reply in (await live.udp(), await live.tcp()):
            assert reply.answer[0][0].to_text() == "10.96.0.10"
            assert reply.flags & dns.flags.AA


async def test_ipv6_is_served(make: Any) -> None:
    async with worker(make, host="::1") as live:
        assert (await live.udp()).answer == (await live.tcp()).answer != []


async def test_a_change_of_the_table_is_seen(make: Any) -> None:
    async with worker(make) as live:
        live.put("shop/checkout", "10.96.0.99")
        await live.until(lambda reply: reply.answer[0][0].to_text() == "10.96.0.99")
        live.put("shop/new", "10.96.0.11")
        await live.until(lambda reply: bool(reply.answer), name="new.shop.svc.clusterset.local")
        live.rows.drop(make.key("shop/checkout"))
        await live.until(lambda reply: reply.rcode() == dns.rcode.NXDOMAIN)


@pytest.mark.parametrize(
    "spoilt",
    [b"no row", row.encode(row.Row("shop", "checkout", 1 << 40, v4=(bytes(4),)))],
    ids=["not a row", "a TTL too long"],
)
async def test_a_row_that_cannot_be_used_leaves_its_service_and_the_others(make: Any, spoilt: bytes) -> None:
    async with worker(make) as live:
        live.rows.put(make.key("shop/checkout"), spoilt)
        live.put("shop/new", "10.96.0.11")
        await live.until(lambda reply: bool(reply.answer), name="new.shop.svc.clusterset.local")
        assert (await live.udp()).answer[0][0].to_text() == "10.96.0.10"


async def test_nothing_is_said_before_the_table_is_synced(make: Any) -> None:
    async with worker(make, synced=False) as live:
        assert (await live.udp()).rcode() == dns.rcode.SERVFAIL
        live.put("shop/checkout", "10.96.0.10")
        assert (await live.udp()).rcode() == dns.rcode.SERVFAIL
        live.rows.replace({})
        await live.until(lambda reply: reply.rcode() == dns.rcode.NXDOMAIN)


async def test_a_row_that_cannot_be_read_leaves_the_service_as_it_was(make: Any) -> None:
    async with worker(make) as live:
        live.rows.put(make.key("shop/checkout"), b"\xc1 no row")
        live.put("shop/after", "10.96.0.11")
        await live.until(lambda reply: bool(reply.answer), name="after.shop.svc.clusterset.local")
        assert (await live.udp()).answer[0][0].to_text() == "10.96.0.10"


async def test_rows_of_another_vantage_are_not_answered_from(make: Any) -> None:
    async with worker(make) as live:
        raw = make.render(make.service("shop/far"), ["10.96.0.12"])
        live.rows.put("us-1/us/|shop/far", raw)
        live.put("shop/near", "10.96.0.11")
        await live.until(lambda reply: bool(reply.answer), name="near.shop.svc.clusterset.local")
        assert (await live.udp("far.shop.svc.clusterset.local")).rcode() == dns.rcode.NXDOMAIN


async def test_a_worker_follows_control_over_its_link_and_outlives_it(make: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder) / "link.sock"
        table: Table[str, bytes] = Table(TABLE)
        row = make.render(make.service("shop/checkout"), ["10.96.0.10"])
        table.partition("test").replace({make.key("shop/checkout"): row})
        port = free_port()
        control = asyncio.create_task(Publisher(link, {TABLE: table}, {}).run())
        serving = asyncio.create_task(run(options(make, port=port), link))
        live = Live(make, table._writers["test"], Listen("127.0.0.1", port))
        try:
            async with asyncio.timeout(DEADLINE):
                while True:
                    if serving.done():
                        serving.result()
                    with contextlib.suppress(OSError, dns.exception.Timeout):
                        asked = dns.message.make_query(SVC, "A")
                        reply = await dns.asyncquery.udp(asked, "127.0.0.1", port=port, timeout=0.2)
                        if reply.answer:
                            break
                    await asyncio.sleep(0.02)  # a refused query comes back at once
            control.cancel()
            await asyncio.gather(control, return_exceptions=True)
            assert (await live.udp()).answer[0][0].to_text() == "10.96.0.10"
        finally:
            for task in (control, serving):
                task.cancel()
            await asyncio.gather(control, serving, return_exceptions=True)


async def test_two_workers_share_a_port(make: Any) -> None:
    async with worker(make) as first, worker(make, port=first.where.port) as second:
        assert second.where == first.where
        assert (await first.udp()).answer


async def test_an_address_that_cannot_be_had_is_one_clear_error(make: Any) -> None:
    with pytest.raises(PlatformError, match=r"DNS cannot listen on 203\.0\.113\.1 port 5353"):
        async with worker(make, host="203.0.113.1", port=5353):
            pass


async def test_datagrams_that_are_no_queries_are_ignored_and_the_next_is_answered(make: Any) -> None:
    async with worker(make) as live:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for raw in (b"", b"x", b"\xff" * 3000, dns.message.make_query(SVC, "A").to_wire()[:11]):
                sender.sendto(raw, live.where)
        assert (await live.udp()).answer


async def test_pipelined_queries_on_one_connection_are_all_answered_in_order(make: Any) -> None:
    async with worker(make) as live:
        reader, writer = await asyncio.open_connection(*live.where)
        queries = [dns.message.make_query(SVC, "A") for _ in range(500)]
        raw = framed(*(query.to_wire() for query in queries))
        async with asyncio.timeout(DEADLINE):
            for at in range(0, len(raw), 1000):
                writer.write(raw[at : at + 1000])
                await writer.drain()
            for query in queries:
                assert query.is_response(await read_frame(reader))
            writer.write_eof()
            assert await reader.read() == b""
        writer.close()


async def test_a_client_that_ends_its_half_still_gets_every_answer(make: Any) -> None:
    async with worker(make) as live:
        reader, writer = await asyncio.open_connection(*live.where)
        queries = [dns.message.make_query(SVC, "A") for _ in range(300)]
        writer.write(framed(*(query.to_wire() for query in queries)))
        writer.write_eof()
        async with asyncio.timeout(DEADLINE):
            for query in queries:
                assert query.is_response(await read_frame(reader))
            assert await reader.read() == b""
        writer.close()


async def test_one_byte_at_a_time_is_a_query_too(make: Any) -> None:
    async with worker(make) as live:
        reader, writer = await asyncio.open_connection(*live.where)
        for byte in framed(dns.message.make_query(SVC, "A").to_wire()):
            writer.write(bytes((byte,)))
            await writer.drain()
            await asyncio.sleep(0)
        async with asyncio.timeout(DEADLINE):
            assert (await read_frame(reader)).answer
        writer.close()


async def test_a_connection_without_a_query_is_closed_after_its_time(make: Any) -> None:
    async with worker(make, tcp=TcpLimits(idle=0.05)) as live:
        reader, writer = await asyncio.open_connection(*live.where)
        writer.write(b"\x00")
        async with asyncio.timeout(DEADLINE):
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
        writer.close()


async def test_a_connection_that_speaks_no_dns_is_ended_and_harms_no_other(make: Any) -> None:
    async with worker(make) as live:
        reader, writer = await asyncio.open_connection(*live.where)
        writer.write(b"\x00\x05GET /")
        async with asyncio.timeout(DEADLINE):
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
        writer.close()
        assert (await live.tcp()).answer


async def test_a_reader_that_never_reads_is_not_buffered_without_end(make: Any) -> None:
    async with worker(make, tcp=TcpLimits(idle=0.5)) as live:
        _, writer = await asyncio.open_connection(*live.where, limit=1)
        query = framed(dns.message.make_query(SVC, "A").to_wire()) * 1000
        with pytest.raises(ConnectionError):
            await write_for_ever(writer, query)
        writer.close()
        assert (await live.udp()).answer


async def test_connections_are_bounded_in_all_and_per_client(make: Any) -> None:
    for limits in (TcpLimits(connections=2), TcpLimits(per_client=2)):
        async with worker(make, tcp=limits) as live, asyncio.timeout(DEADLINE):
            held = [await asyncio.open_connection(*live.where) for _ in range(2)]
            for reader, writer in held:
                writer.write(framed(dns.message.make_query(SVC, "A").to_wire()))
                assert (await read_frame(reader)).answer
            reader, refused = await asyncio.open_connection(*live.where)
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
            refused.close()
            held[0][1].close()
            await live_again(live)
            held[1][1].close()


async def write_for_ever(writer: asyncio.StreamWriter, raw: bytes) -> None:
    async with asyncio.timeout(DEADLINE):
        while True:
            writer.write(raw)
            await writer.drain()


async def live_again(live: Live) -> None:
    """A place that was left is free for the next."""
    while True:
        with contextlib.suppress(OSError, EOFError):
            assert (await live.tcp()).answer
            return
        await asyncio.sleep(0.005)


DIG = pytest.mark.skipif(shutil.which("dig") is None, reason="dig is not installed (bind9-dnsutils)")


@DIG
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["+noedns", "+noad", "+norec", SVC], "status: NOERROR"),
        (["+edns=0", SVC], "EDNS: version: 0, flags:; udp: 1232"),
        (["+edns=1", "+noednsneg", SVC], "status: BADVERS"),
        (["+ednsopt=100", SVC], "status: NOERROR"),
        (["+edns=1", "+noednsneg", "+ednsopt=100", SVC], "status: BADVERS"),
        (["+ednsflags=0x40", SVC], "EDNS: version: 0, flags:; udp: 1232"),
        (["+dnssec", SVC], "EDNS: version: 0, flags: do; udp: 1232"),
        (["+edns=1", "+noednsneg", "+dnssec", SVC], "status: BADVERS"),
        (["+bufsize=512", "+ignore", SVC], "status: NOERROR"),
        (["+cookie", SVC], "status: NOERROR"),
        (["+subnet=10.0.0.0/24", SVC], "status: NOERROR"),
        (["+tcp", SVC], "status: NOERROR"),
        (["+tcp", "+keepopen", SVC, SVC], "status: NOERROR"),
        (["+opcode=15", "+header-only", SVC], "status: NOTIMP"),
        (["+opcode=status", SVC], "status: NOTIMP"),
        (["+header-only", SVC], "status: FORMERR"),
        (["+zflag", SVC], "status: NOERROR"),
        (["+adflag", SVC], "flags: qr aa rd; "),
        (["+cdflag", SVC], "flags: qr aa rd cd; "),
        (["TYPE1000", SVC], "status: NOERROR"),
        (["CH", "TXT", "version.bind"], "status: REFUSED"),
        (["SOA", "clusterset.local"], "ANSWER: 1"),
        (["AXFR", "clusterset.local"], "Transfer failed"),
        (["ANY", "+notcp", SVC], "RFC8482"),
    ],
)
async def test_dig_finds_the_protocol_kept(make: Any, arguments: list[str], expected: str) -> None:
    async with worker(make) as live:
        assert expected in await live.dig(*arguments)


def test_a_worker_loads_nothing_of_control() -> None:
    """Its start is quick and its memory small, and a flood of queries meets no Kubernetes client."""
    code = "import sys, isthmus.dns.worker; print(*sorted(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT
    )
    foreign = {"aiohttp", "kubernetes", "pydantic", "grpc", "dnslib", "dns"}
    rooms = {"isthmus.kube", "isthmus.traffic", "isthmus.api", "isthmus.dns.rrset"}
    assert "isthmus.dns.worker" in loaded.stdout.split()
    assert not (foreign | rooms) & set(loaded.stdout.split())
